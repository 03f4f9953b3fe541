"""What tests of the Noise tab share: its figure, its controls, and the numbers of the core."""

from __future__ import annotations

import math
from typing import Any

import pytest
from invented import invented_sentence
from page_steps import open_tab
from token_effects import TokenEffects

from neftune_core.models.settings import ModelSettings
from neftune_core.noise.preview import Sentence
from neftune_core.ui.server.previews import FIRST_SENTENCE
from neftune_core.ui.tabs.noise_tab import SLIDERS

FIGURE = "document.querySelector('#noise-figure .lab-figure-plot')"
CURRENT = f"{FIGURE}.labFigure.current()"
HEIGHTS = f"{CURRENT}.data.map((trace) => trace.y)"
RESULT = f"{CURRENT}.result"
MOVE = """(value) => {
  const range = document.querySelector('#noise-strength input[type=range]');
  range.value = value;
  range.dispatchEvent(new Event('input', { bubbles: true }));
}"""
# The slider has the range of a unit, and both of its inputs have one value.
SETTLED = f"""([unit, most]) => {{
  const inputs = [...document.querySelectorAll("#noise-strength input")];
  const [range, number] = ["range", "number"].map((type) => inputs.find((input) => input.type === type));
  const isShown = Number(range.max) === most && Number(range.value) === Number(number.value);
  return isShown && {CURRENT}.controls.unit === unit;
}}"""
# The page as it would be with other controls, without touching them.
WITH = f"""(changes) => {{
  const figure = {FIGURE}.labFigure;
  const controls = Object.entries(figure.value.controls).map(([name, {{ value }}]) => [name, value]);
  return Lab.noise.drawn(figure.value.payload, {{ ...Object.fromEntries(controls), ...changes }});
}}"""


def open_noise(page: Any) -> None:
    """Open the Noise tab, and wait for its figure."""
    open_tab(page, "Noise")
    page.wait_for_function(f"{FIGURE}?._fullLayout")


def choose_view(page: Any, name: str) -> None:
    page.locator(f"#noise-view input[value={name}]").check(force=True)
    page.wait_for_function(f"{CURRENT}.view === '{name}' && !!Lab.noise.views.{name}")


def says(page: Any, words: str) -> None:
    """Wait until the strip contains these words."""
    page.locator("#lab-words", has_text=words).wait_for()


def choose_unit(page: Any, name: str) -> None:
    """Choose a unit, and wait until the slider shows the strength in it."""
    page.locator("#noise-unit label", has_text=name).click()
    page.wait_for_function(SETTLED, arg=[name, SLIDERS[name]["maximum"]])


def sentence() -> Sentence:
    return invented_sentence(FIRST_SENTENCE, ModelSettings(), "embedding")


def same(drawn: dict[str, Any], expected: TokenEffects) -> None:
    # the same doubles in two languages
    assert drawn["before"] == pytest.approx(expected.before, rel=1e-12)
    assert drawn["after"] == pytest.approx(expected.after, rel=1e-12)
    assert drawn["shares"] == pytest.approx(expected.shares, rel=1e-12)
    cosines = [math.nan if cosine is None else cosine for cosine in drawn["cosines"]]
    assert cosines == pytest.approx(expected.cosines, rel=1e-12, nan_ok=True)
