"""The end of a study for visitors who know no statistics: the conclusion at once, everything else in one fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from owned_study import owned_study, six_seed_study
from page_steps import open_tab, text_of
from served_lab import visiting

pytestmark = pytest.mark.browser

KEY = "6e" * 32
SIZES = [(1280, 720), (390, 844)]
IN_SIGHT = """(node) => {
    const box = node.getBoundingClientRect();
    const hasText = node.matches('button') || node.textContent.length > 20;
    return hasText && box.top >= 0 && box.bottom <= innerHeight && scrollY === 0;
}"""

IN_WINDOW = """(node) => {
    const top = document.getElementById('lab-strip').getBoundingClientRect().bottom;
    const box = node.getBoundingClientRect();
    return box.top >= top && box.bottom <= innerHeight;
}"""

WIDTH = "document.documentElement.scrollWidth"
# The distance between the end of a table that was scrolled to its end and the end of its box.
HIDDEN_PART = """(node) => {
    node.scrollLeft = node.scrollWidth;
    return node.querySelector("tr").lastElementChild.getBoundingClientRect().right - node.getBoundingClientRect().right;
}"""

OPEN_ALL = """(name) => {
    for (const fold of document.querySelectorAll(`#${name}-details details`)) fold.open = true;
    for (const fold of document.querySelectorAll(`#${name}-evidence .lab-group > button:not(.open)`)) fold.click();
}"""
DRAWN = """(place) => [...document.querySelectorAll(`${place} .lab-figure-plot`)].every((plot) => {
    const box = plot.getBoundingClientRect();
    return !plot.checkVisibility() || box.top > innerHeight || box.bottom < 0 || plot.querySelector("svg.main-svg");
})"""


def in_sight(page: Any, selector: str) -> bool:
    """Return whether an element with text is in the window of a page that was not scrolled."""
    found = page.locator(selector).first
    found.wait_for()
    return bool(found.evaluate(IN_SIGHT))


def test_what_the_noise_did_is_in_sight_on_arrival(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address) as page:
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            assert in_sight(page, "#learn-stage .lab-stage-result")
            assert in_sight(page, "#learn-stage .lab-stage-sure")
            assert in_sight(page, "#learn-stage [data-do=play]")
            assert in_sight(page, "#learn-to-noise")
            assert in_sight(page, "#learn-to-train")


def test_the_conclusion_of_a_study_comes_first_and_the_rest_is_in_one_fold(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    record = owned_study(lab_home / "runs", KEY)
    with visiting(browser, lab_address, key=KEY, link=f"?job={record.id}&tab=Train") as page:
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            assert in_sight(page, "#train-state .lab-end")
        headline = page.locator("#train-state .lab-end").inner_text()
        page.locator("#train-verdict table").wait_for()
        rows = page.locator("#train-verdict tbody tr")
        assert "lab-measures-asked" in rows.first.get_attribute("class")  # the measure of the question
        assert rows.count() <= 5
        page.locator("#train-evidence > button").click()
        details = page.locator("#train-details")
        details.locator(".lab-judged").wait_for()
        assert details.locator("tbody tr:not(.lab-measures-group)").count() > 2
        shown = rows.locator("summary").all_inner_texts()
        others = details.locator("tr summary").all_inner_texts()
        assert len({*shown, *others}) == len(shown) + len(others)  # no measure is listed twice
        assert page.locator("#train-tab").inner_text().count(headline) == 1
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("document.activeElement.blur(); scrollTo(0, document.body.scrollHeight)")
            page.locator("#lab-progress [data-do=result]").click()
            page.wait_for_function("document.activeElement.matches('#train-state .lab-end')")
            assert page.evaluate(f"({IN_WINDOW})(document.activeElement)")


def opened_details(page: Any, name: str) -> None:
    """Open the details of a study, and everything that is folded in them."""
    page.locator(f"#{name}-evidence > button").click()
    page.locator(f"#{name}-details .lab-judged").wait_for()
    page.evaluate(OPEN_ALL, name)
    page.wait_for_function(DRAWN, arg=f"#{name}-evidence")


def names_rows_and_conclusion(page: Any) -> None:
    """Check that the results name their rows, and the list of studies the conclusion."""
    assert "Exact answers 120 rows" in text_of(page, "#train-verdict tr", "Exact answers")
    assert "Correct answers 48 rows" in text_of(page, "#train-verdict tr", "Correct answers")
    open_tab(page, "Runs")
    row = page.locator(".lab-runs button", has_text="6 seeds").first
    row.locator("text=better with Gaussian alpha 12").wait_for()
    assert "6 seeds: better with Gaussian alpha 12, Laplace alpha 12 and Bernoulli alpha 12" in row.inner_text()
    open_tab(page, "Train")


@pytest.mark.parametrize("language", ["", "zh/"])
def test_six_seeds_name_their_rows_and_conclusion_and_scroll_no_view_sideways_on_a_phone(
    browser: Any, lab_address: str, lab_home: Path, language: str
) -> None:
    record = six_seed_study(lab_home / "runs", KEY)
    with visiting(browser, lab_address, key=KEY, link=f"{language}?job={record.id}&tab=Train") as page:
        if not language:
            names_rows_and_conclusion(page)
        page.set_viewport_size({"width": 390, "height": 844})
        opened_details(page, "train")
        assert page.evaluate(WIDTH) == 390
        for table in page.locator("#train-tab .lab-measures-scroll").all():
            assert table.evaluate(HIDDEN_PART) <= 1  # rounding of the layout
        for tab in page.locator("#lab-tabs > .tab-wrapper [role=tab]").all():
            tab.click()
            page.wait_for_timeout(300)
            assert page.evaluate(WIDTH) == 390, tab.inner_text()
        if language:  # the same details once more; the figures take long
            page.locator(".lab-runs button").first.click()
            opened_details(page, "runs")
            assert page.evaluate(WIDTH) == 390
