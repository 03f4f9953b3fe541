"""The Sweep tab by clicks: a grid, a tiny sweep of the bundled model, its plot and table, and its link."""

from __future__ import annotations

import re
from typing import Any

import pytest
from page_steps import choose, text_of
from served_lab import visiting

pytestmark = pytest.mark.browser

KEY = "5e" * 32
POINTS = """() => (document.querySelector('#sweep-curve .lab-figure-plot').labFigure.value?.data || [])
    .reduce((count, trace) => count + trace.y.length, 0)"""


QUICK = "?tab=Sweep&sweep.prompts=0&sweep.robustness=false"
"""The Sweep tab without the measurements of answers, which take longer than the training."""


def fill(page: Any, box: str, text: str) -> None:
    field = page.locator(f"{box} textarea, {box} input").first
    field.fill(text)
    field.press("Tab")


def test_a_grid_is_built_run_and_seen_and_found_again_by_its_link(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, key=KEY, link=QUICK) as page:
        fill(page, "#sweep-values-1", "0, two")
        assert "cannot be 'two': it must be a number" in text_of(page, "#sweep-plan", "'two'")
        fill(page, "#sweep-values-1", "0, 2, 12")
        choose(page, "#sweep-axis-2", "Training: epochs")
        fill(page, "#sweep-values-2", "1")  # fewer than ten steps would not be judged
        fill(page, "#sweep-seeds", "1")
        assert "3 training runs, in 1 study with 3 arms" in text_of(page, "#sweep-plan", "3 training runs")
        page.locator("#sweep-start").click()
        page.locator("#sweep-state [data-state=finished]").wait_for()
        page.wait_for_function(f"({POINTS})() === 2")
        assert "alpha 12" in text_of(page, "#sweep-table", "1 of 1 studies are done")
        headline = page.locator("#sweep-state .lab-end").inner_text()
        page.wait_for_function(
            "(said) => !document.querySelector('#sweep-verdict').innerText.includes(said)", arg=headline
        )
        with page.expect_download() as saved:
            page.locator("#sweep-file").click()
        assert '"noise.strength" = [0.0, 2.0, 12.0]' in saved.value.path().read_text(encoding="utf-8")
        link = page.evaluate("location.search")
        assert "job=" in link
    with visiting(browser, lab_address, key=KEY, link=link) as page:
        page.locator("#sweep-state [data-state=finished]").wait_for()
        assert page.locator("#sweep-tab").is_visible()
        page.wait_for_function(f"({POINTS})() === 2")


def test_strengths_in_shares_are_set_aside_with_their_unit(lab_page: Any) -> None:
    page, same = lab_page, {"__type__": "update"}
    lines = (
        "noise.strength = 3\n\"noise.strength\" = 3\nnoise = {kind = 'gaussian', strength = 3}\n"
        "noise = {strength = 3, unit = 'std'}\n\"noise.strength\" = 3, 'noise.unit' = 'std'"
    )

    def given(unit: str, points: str, values: str) -> list[Any]:
        boxes = [points, "noise.strength", "training.epochs", values, "1, 2"]
        found: list[Any] = page.evaluate("(given) => Lab.sweepInUnit(...given)", [unit, "", *boxes])
        return found

    points, values, other = given("std", lines, "0, 5, 15")
    assert other == same
    first, *numbers = re.findall(r"strength\"? = ([\d.]+)", points)
    assert numbers == [first, first, "3", "3"] and float(first) < 1
    assert given("share", points, values) == [same, "0, 0.1, 0.3", same]
    assert given("alpha", points, "0, 0.2") == [same, "0, 5, 15", same]  # it was set aside in std
    assert given("share", points, "0, 5") == [same, "0, 0.2", same]
