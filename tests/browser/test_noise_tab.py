"""The Noise tab in a real browser: what moves, where it is computed, and what it costs."""

from __future__ import annotations

import math
from typing import Any

import pytest
from invented import WIDTH, invented_preview

from neftune_core.figures import token_norms
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.ui.previews import FIRST_SENTENCE

pytestmark = pytest.mark.browser

FIGURE = "document.querySelector('#noise-figure .lab-figure-plot')"
HEIGHTS = f"{FIGURE}.labFigure.current().data.map((trace) => trace.y)"
MOVE = """(value) => {
  const range = document.querySelector('#noise-strength input[type=range]');
  range.value = value;
  range.dispatchEvent(new Event('input', { bubbles: true }));
}"""


def posts(page: Any) -> list[str]:
    """The addresses of the calls to the server from now on."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url) if request.method == "POST" else None)
    return found


def test_the_browser_draws_the_numbers_that_the_core_computes(page: Any) -> None:
    payload = page.evaluate(f"{FIGURE}.labFigure.value.payload")
    for strength in (0, 5, 60):
        page.evaluate(MOVE, strength)
        expected = token_norms(payload, NoiseSettings(strength=strength))
        for drawn, trace in zip(page.evaluate(HEIGHTS), expected["data"], strict=True):
            assert drawn == pytest.approx(trace["y"], rel=1e-12)  # the same doubles in two languages


def test_the_slider_redraws_without_a_call_to_the_server(page: Any) -> None:
    calls = posts(page)
    before = page.evaluate(HEIGHTS)
    slider = page.locator("#noise-strength input[type=range]")
    slider.focus()
    for _ in range(12):
        slider.press("ArrowRight")
    page.wait_for_timeout(400)
    after = page.evaluate(HEIGHTS)
    assert after[0] == before[0]
    assert sum(after[1]) > sum(before[1])
    assert "alpha 11" in page.locator("#lab-words").inner_text()
    assert calls == []


def test_the_bars_on_the_screen_have_the_heights_of_the_numbers(page: Any) -> None:
    page.evaluate(MOVE, 8)
    drawn, wanted = page.evaluate(
        f"""() => {{
          const node = {FIGURE};
          const axis = node._fullLayout.yaxis;
          const paths = node.querySelectorAll('.barlayer .trace')[1].querySelectorAll('.point > path');
          const tops = [...paths].map((path) => Number(/V([-\\d.]+)H/.exec(path.getAttribute('d'))[1]));
          return [tops, node.labFigure.current().data[1].y.map((value) => axis.l2p(value))];
        }}"""
    )
    assert drawn == pytest.approx(wanted, abs=0.02)  # a fiftieth of a pixel


def test_a_figure_stays_the_same_node_and_keeps_its_zoom(page: Any) -> None:
    page.evaluate(f"{FIGURE}.firstOnly = true")
    area = page.locator("#noise-figure .nsewdrag").bounding_box()
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + 0.2 * area["width"], middle)
    page.mouse.down()
    page.mouse.move(area["x"] + 0.6 * area["width"], middle, steps=4)
    page.mouse.up()
    seen = f"{FIGURE}._fullLayout.xaxis.range"
    page.wait_for_function(f"({seen})[0] > 1")
    zoomed, first = page.evaluate(seen), page.evaluate(HEIGHTS)[1][0]
    page.locator("#noise-again").click()
    page.wait_for_function(f"({HEIGHTS})[1][0] !== {first}")
    page.wait_for_timeout(300)
    assert page.evaluate(f"{FIGURE}.firstOnly")
    assert page.evaluate(seen) == zoomed


def test_another_unit_keeps_the_noise_and_says_it_anew(page: Any) -> None:
    before = page.evaluate(HEIGHTS)
    page.locator("#noise-unit label", has_text="std").click()
    page.wait_for_timeout(400)
    strength = float(page.locator("#noise-strength input[type=number]").input_value())
    length = len(invented_preview(FIRST_SENTENCE, ModelSettings(), 0)["tokens"])
    assert strength == pytest.approx(5 / math.sqrt(3 * length * WIDTH), abs=5e-4)  # half a step of the slider
    assert page.evaluate(HEIGHTS)[1] == pytest.approx(before[1], rel=0.02)


def test_another_draw_changes_the_noise_and_not_the_sentence(page: Any) -> None:
    before = page.evaluate(HEIGHTS)
    page.locator("#noise-again").click()
    page.wait_for_function(f"({HEIGHTS})[1][0] !== {before[1][0]}")
    assert page.evaluate(HEIGHTS)[0] == before[0]


def test_a_model_that_is_not_there_gets_its_sentence_and_the_picture_stays(page: Any) -> None:
    before = page.evaluate(HEIGHTS)
    page.locator("[data-do=model]").click()
    box = page.locator("#model-source input")
    box.fill("<b>missing</b>")
    box.press("Enter")
    page.get_by_text("Not on the list").wait_for()
    page.locator("#model-use").click()
    page.locator(".toast-body", has_text="<b>missing</b>").wait_for()  # told as text, never as markup
    assert page.evaluate(HEIGHTS) == before


def test_a_link_opens_the_page_as_it_was(page: Any, browser: Any, address: str) -> None:
    page.evaluate(MOVE, 20)
    page.locator("#noise-kind label", has_text="Laplace").click()
    page.locator("#noise-text textarea").fill("A second sentence.")
    page.wait_for_function(f"{FIGURE}.labFigure.value.payload.length === 4")
    link, heights = page.evaluate("Lab.link()"), page.evaluate(HEIGHTS)
    other = browser.new_page()
    other.goto(link)
    other.wait_for_function(f"window.Lab && Lab.Plotly && {FIGURE}.labFigure.value.payload.length === 4")
    assert other.evaluate(HEIGHTS)[1] == pytest.approx(heights[1])
    assert "laplace noise, alpha 15 and 20" in other.locator("#lab-words").inner_text()
    assert other.evaluate("Lab.link()") == link
    other.close()


def test_the_dark_theme_redraws_the_figure_and_is_remembered(page: Any) -> None:
    colour = f"{FIGURE}._fullLayout.font.color"
    light, calls = page.evaluate(colour), posts(page)
    page.locator("[data-do=theme]").click()
    page.wait_for_function(f"{colour} !== '{light}'")
    assert calls == []
    page.reload()
    page.wait_for_function(f"window.Lab && Lab.Plotly && {FIGURE}._fullLayout")
    assert page.evaluate("document.body.classList.contains('dark')")


def test_the_owner_key_is_made_once_and_is_long(page: Any) -> None:
    key = page.evaluate("Lab.ownerKey()")
    page.reload()
    page.wait_for_function("window.Lab")
    assert page.evaluate("Lab.ownerKey()") == key
    assert len(key) == 64


def test_nothing_is_wider_than_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    for tab in ("Learn", "Noise"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
