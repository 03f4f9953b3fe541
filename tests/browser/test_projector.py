"""The projector mode: larger type below a slim header, kept in state and link; a figure on the full screen."""

from __future__ import annotations

from typing import Any

import pytest
from served_lab import visiting

pytestmark = pytest.mark.browser

BUTTON = ".lab-tools [data-do=projector]"
FIGURE = "#noise-figure .lab-figure"
FULL = f"{FIGURE} [data-do=full]"
SIZES = """(() => {
  const height = (selector) => document.querySelector(selector).getBoundingClientRect().height;
  const node = document.querySelector("#noise-figure .lab-figure-plot");
  return {
    header: height("#lab-strip"),
    label: height("#noise-view label"),
    type: node._fullLayout.font.size,
    plot: node.getBoundingClientRect().height,
    wide: document.documentElement.scrollWidth <= innerWidth,
  };
})()"""
KEPT = "JSON.parse(sessionStorage.getItem('neftune-lab-state') || '{}')"
DRAWN = "document.querySelector('#noise-figure .lab-figure-plot')?._fullLayout"


def sizes(page: Any, factor: float) -> dict[str, Any]:
    """Return the sizes once the type of the figure is this many times the usual."""
    page.wait_for_function(f"Math.abs({DRAWN}?.font.size - {13 * factor}) < 0.01")
    return page.evaluate(SIZES)


def test_the_projector_mode_makes_type_larger_and_the_header_slim_and_is_kept(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, link="?tab=Noise") as page:
        usual = sizes(page, 1)
        page.locator(BUTTON).focus()
        page.keyboard.press("Enter")
        projected = sizes(page, 1.25)
        assert page.locator(BUTTON).get_attribute("aria-pressed") == "true"
        assert projected["header"] <= 48 < usual["header"]
        assert projected["label"] >= 1.2 * usual["label"]
        assert projected["wide"]
        page.wait_for_function(f"{KEPT}.projector === '1'")
        link = page.evaluate("Lab.link()")
        page.reload()
        assert sizes(page, 1.25)["label"] == projected["label"]
        page.locator(".lab-tools [data-do=language]").click()
        page.wait_for_url("**/zh?*")
        sizes(page, 1.25)
        page.locator(BUTTON).click()
        sizes(page, 1)
        assert page.evaluate("Lab.parameter('projector')") is None
        assert "projector" not in page.evaluate("Lab.link()")
    with visiting(browser, lab_address, link=link.removeprefix(lab_address)) as other:
        other.set_viewport_size({"width": 1920, "height": 1080})
        assert sizes(other, 1.5)["wide"]


def test_the_first_view_of_a_projected_page_is_large_at_once(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, link="?projector=1") as page:
        assert page.evaluate("document.documentElement.classList.contains('lab-projector')")
        assert page.evaluate("Lab.currentTab()") == "Learn"


@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_figure_fills_the_screen_by_keyboard_and_escape_ends_it(page: Any, is_allowed: bool) -> None:
    if not is_allowed:  # as in a frame of another page
        page.evaluate("void (Element.prototype.requestFullscreen = () => Promise.reject(new TypeError('not allowed')))")
    usual = sizes(page, 1)
    page.locator(FULL).focus()
    page.keyboard.press("Enter")
    full = sizes(page, 1.3)
    page.wait_for_function(f"{DRAWN}.height > 0.8 * innerHeight && {DRAWN}.width > 0.9 * innerWidth")
    assert page.locator(FULL).get_attribute("aria-label") == "Exit full screen"
    assert full["wide"]
    if is_allowed:
        page.wait_for_function("document.fullscreenElement?.matches('.lab-figure')")
        page.evaluate("document.exitFullscreen()")  # the browser itself takes the Escape key
    else:
        page.keyboard.press("Escape")
    again = sizes(page, 1)
    assert (again["plot"], again["header"]) == (usual["plot"], usual["header"])
    assert page.evaluate(f"document.activeElement === document.querySelector('{FULL}')")


@pytest.mark.parametrize("is_allowed", [True, False])
def test_the_recorded_study_fills_the_screen_with_larger_type_and_escape_ends_it(
    browser: Any, lab_address: str, is_allowed: bool
) -> None:
    button = ".lab-stage [data-do=full]"
    sizes_of = """() => {
        const box = (selector) => document.querySelector(selector).getBoundingClientRect();
        return [box(".lab-stage").width, box(".lab-stage-tick").height, innerWidth];
    }"""
    with visiting(browser, lab_address) as page:
        if not is_allowed:
            page.evaluate("void (Element.prototype.requestFullscreen = () => Promise.reject(new TypeError('no')))")
        _, usual, _ = page.evaluate(sizes_of)
        page.locator(button).focus()
        page.keyboard.press("Enter")
        page.wait_for_function(f"({sizes_of})()[0] > 0.95 * innerWidth")
        assert page.evaluate(sizes_of)[1] > 1.2 * usual
        assert page.locator(button).get_attribute("aria-label") == "Exit full screen"
        if is_allowed:
            page.wait_for_function("document.fullscreenElement")
            page.evaluate("document.exitFullscreen()")
        else:
            page.keyboard.press("Escape")
        page.locator(".lab-stage:not(.lab-full)").wait_for()
        assert page.evaluate(sizes_of)[1] == pytest.approx(usual, rel=0.05)
        assert page.evaluate(f"document.activeElement === document.querySelector('{button}')")


def test_escape_folds_the_open_lesson_and_leaves_the_focus_on_its_button(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address) as page:
        page.locator(".lab-lessons li:first-child button").click()
        page.locator("#lesson-1.open .lab-begin").click()
        page.wait_for_function("document.activeElement === document.querySelector('.lab-dock')")
        fold = page.locator(".lab-dock [data-do=fold]")
        fold.wait_for()
        page.keyboard.press("Escape")
        page.locator("#lab-dock-body").wait_for(state="hidden")
        assert fold.get_attribute("aria-expanded") == "false"
        assert page.evaluate("document.activeElement.dataset.do") == "fold"
        page.keyboard.press("Enter")
        page.locator("#lab-dock-body").wait_for()
