"""The Noise tab in a real browser: what is redrawn, where it is computed, and at what cost."""

from __future__ import annotations

from typing import Any

import pytest
from noise_page import CURRENT, FIGURE, HEIGHTS, MOVE, RESULT, WITH, choose_view, open_noise, same, says
from page_steps import calls_from
from served_lab import blank_page
from token_effects import token_effects

from neftune_core.figures.noise_views import NOISE_VIEWS
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import NoiseSettings
from neftune_core.ui.tabs.noise_tab import FIRST_STRENGTH

pytestmark = pytest.mark.browser

WHOLE_SENTENCE = """() => {
  const box = document.querySelector("#noise-text textarea");
  return box.scrollHeight <= box.clientHeight + 2;
}"""


def test_the_browser_draws_the_numbers_that_the_core_computes(page: Any) -> None:
    payload = page.evaluate(f"{FIGURE}.labFigure.value.payload")
    for strength in (0, 5, 60):
        page.evaluate(MOVE, strength)
        expected = token_effects(payload, NoiseSettings(strength=strength))
        before, after = page.evaluate(HEIGHTS)[:2]
        assert before == pytest.approx(expected.before, rel=1e-12)
        assert after == pytest.approx(expected.after, rel=1e-12)
        same(page.evaluate(RESULT), expected)


def test_the_reset_button_of_the_slider_redraws_like_a_hand(page: Any) -> None:
    first = page.evaluate(HEIGHTS)
    page.locator("#noise-strength input[type=number]").fill("24")
    assert page.evaluate(HEIGHTS) != first
    page.locator("#noise-strength .reset-button").click()
    page.wait_for_function(f"Lab.read('noise-strength') === {FIRST_STRENGTH}")
    page.wait_for_timeout(300)  # the drawing follows the framework's own change of the value
    assert page.evaluate(HEIGHTS) == first


SETTINGS: list[dict[str, Any]] = [
    *({"kind": kind} for kind, known in KINDS.items() if not known.drops),
    {"kind": "token-dropout", "unit": "share", "strength": 0.4},
    {"unit": "relative", "strength": 0.3},
    {"unit": "std", "strength": 0.02, "special_tokens": False},
    {"length_rule": "padded", "strength": 40},
]


def test_every_setting_gives_the_numbers_of_the_core(page: Any) -> None:
    payload = page.evaluate(f"{FIGURE}.labFigure.value.payload")
    for changes in SETTINGS:
        settings = NoiseSettings(**{"strength": FIRST_STRENGTH} | changes)
        same(page.evaluate(WITH, changes)["result"], token_effects(payload, settings))


def test_the_slider_redraws_without_a_call_to_the_server(page: Any) -> None:
    calls = calls_from(page, "noise-")
    before = page.evaluate(HEIGHTS)
    slider = page.locator("#noise-strength input[type=range]")
    slider.focus()
    for _ in range(12):
        slider.press("ArrowRight")
    page.wait_for_timeout(400)  # in which a call would be made
    after = page.evaluate(HEIGHTS)
    assert after[0] == before[0]
    assert sum(after[1]) > sum(before[1])
    says(page, "alpha 8")
    assert calls == []


def test_a_figure_stays_the_same_node_and_keeps_its_zoom_and_is_higher_on_a_large_screen(page: Any) -> None:
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
    page.wait_for_function(f"{FIGURE}.labFigure.drawn?.value === {FIGURE}.labFigure.value")
    height = page.evaluate(f"{FIGURE}._fullLayout.height")
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.wait_for_function(f"Math.round(1.3 * {height}) === {FIGURE}._fullLayout.height")
    assert page.evaluate(f"{FIGURE}.firstOnly")
    assert page.evaluate(seen) == zoomed


def test_the_page_opens_quietly_and_with_what_was_recorded_of_its_first_study(lab_page: Any) -> None:
    open_noise(lab_page)
    assert lab_page.evaluate("Lab.read('noise-strength')") == FIRST_STRENGTH
    assert lab_page.locator("#noise-words .lab-warning").inner_text() == ""
    recorded = lab_page.locator("#noise-words [data-word=recorded]")
    assert "8 seeds" in recorded.inner_text()
    lab_page.locator("#noise-kind label", has_text="Gaussian").click()
    recorded.wait_for(state="hidden")


def test_what_a_kind_shows_is_explained(page: Any) -> None:
    assert "have the same standard deviation" in page.locator("#noise-kind").inner_text()
    page.locator("#noise-kind label", has_text="Adversarial").click()
    page.get_by_text("The figure shows the initial uniform draw").wait_for()


def test_another_draw_changes_the_noise_and_not_the_sentence(page: Any) -> None:
    before, calls = page.evaluate(HEIGHTS), calls_from(page, "noise-")
    page.locator("#noise-again").click()
    page.wait_for_function(f"({HEIGHTS})[1][0] !== {before[1][0]}")
    assert calls
    assert page.evaluate(HEIGHTS)[0] == before[0]
    page.wait_for_function(f"{CURRENT}.data.length === 3")  # the repeated draws come after it


def test_a_model_that_is_not_there_gets_its_sentence_and_the_picture_stays(page: Any) -> None:
    before = page.evaluate(HEIGHTS)
    page.locator("[data-do=model]").click()
    box = page.locator("#model-source input")
    box.fill("<b>missing</b>")
    box.press("Enter")
    page.get_by_text("Not on the list").wait_for()
    page.locator("#model-use").click()
    page.locator(".lab-message", has_text="<b>missing</b>").wait_for()  # told as text, never as markup
    assert page.evaluate(HEIGHTS) == before


def test_the_dark_theme_redraws_the_figure_and_is_remembered(page: Any) -> None:
    colour = f"{FIGURE}._fullLayout.font.color"
    light, calls = page.evaluate(colour), calls_from(page, "noise-")
    page.locator("[data-do=theme]").click()
    page.wait_for_function(f"{colour} !== '{light}'")
    assert calls == []
    page.reload()
    page.wait_for_function(f"window.Lab && Lab.Plotly && {FIGURE}._fullLayout")
    assert page.evaluate("document.body.classList.contains('dark')")


def test_figures_say_that_their_library_is_missing_and_try_again(browser: Any, address: str) -> None:
    with blank_page(browser) as page:
        page.route("**/plotly.min.js*", lambda route: route.abort())
        page.goto(address + "?tab=Noise")
        told = page.locator("#noise-figure .lab-warning")
        told.wait_for()
        assert "could not be loaded" in told.inner_text()
        page.unroute("**/plotly.min.js*")
        told.locator("button").click()
        page.wait_for_function(f"{FIGURE}._fullLayout")
        assert told.count() == 0


def test_the_owner_key_is_made_once_and_is_long(page: Any) -> None:
    key = page.evaluate("Lab.ownerKey()")
    page.reload()
    page.wait_for_function("window.Lab")
    assert page.evaluate("Lab.ownerKey()") == key
    assert len(key) == 64


def test_nothing_is_wider_than_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#noise-text textarea").fill("The owl that lives in the old barn sleeps all day. " * 2)
    page.wait_for_function(WHOLE_SENTENCE)
    for tab in ("Learn", "Noise"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_function(f"Lab.currentTab() === '{tab}'")
        page.wait_for_function("document.documentElement.scrollWidth <= 390")
    for view in NOISE_VIEWS:
        choose_view(page, view)
        page.wait_for_function("document.documentElement.scrollWidth <= 390")


def test_a_sentence_that_is_cut_says_so(lab_page: Any) -> None:
    lab_page.evaluate("Lab.openTab('Noise')")
    lab_page.locator("#noise-text textarea").fill("owl " * 170)
    said = lab_page.locator(".lab-noise-words [data-word=kind]", has_text="Your sentence is too long: its last")
    said.wait_for()
    left_out = int(said.inner_text().split("its last ")[1].split()[0])
    assert lab_page.evaluate("Lab.facts['noise.length']") == 160
    assert left_out >= 10  # a word has one token or more


def test_a_character_that_the_model_reads_as_bytes_is_explained(lab_page: Any) -> None:
    lab_page.evaluate("Lab.openTab('Noise')")
    lab_page.locator("#noise-text textarea").fill("An owl, 猫.")
    words = "“猫 1/3” is part of a character that has no token of its own."
    lab_page.locator(".lab-noise-words [data-word=kind]", has_text=words).wait_for()
