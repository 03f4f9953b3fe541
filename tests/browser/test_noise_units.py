"""Units, strengths and links of the Noise tab in a real browser."""

from __future__ import annotations

import math
from typing import Any

import pytest
from invented import WIDTH
from noise_page import (
    CURRENT,
    FIGURE,
    HEIGHTS,
    MOVE,
    RESULT,
    choose_unit,
    choose_view,
    open_noise,
    same,
    says,
    sentence,
)
from served_lab import visiting
from token_effects import token_effects

from neftune_core.noise.settings import NoiseSettings
from neftune_core.ui.tabs.noise_tab import FIRST_STRENGTH

pytestmark = pytest.mark.browser


def test_another_unit_keeps_the_noise_and_shows_it_in_the_new_unit(page: Any) -> None:
    before = page.evaluate(HEIGHTS)
    choose_unit(page, "std")
    strength = float(page.locator("#noise-strength input[type=number]").input_value())
    assert strength == pytest.approx(
        FIRST_STRENGTH / math.sqrt(3 * len(sentence().tokens) * WIDTH), rel=5e-3
    )  # three digits
    assert page.evaluate(HEIGHTS)[1] == pytest.approx(before[1], rel=5e-3)


def test_faint_noise_stays_what_it_is_in_another_unit(page: Any) -> None:
    page.locator("#noise-text textarea").fill("one " * 480)
    page.wait_for_function(f"{FIGURE}.labFigure?.value?.payload.length === 480")
    page.evaluate(MOVE, 0.5)
    choose_unit(page, "std")
    expected = 0.5 / math.sqrt(3 * 480 * WIDTH)  # between two steps of its slider
    assert page.evaluate("Lab.read('noise-strength')") == pytest.approx(expected, rel=5e-3)  # three digits
    assert page.evaluate(RESULT)["deviation"] == pytest.approx(expected, rel=5e-3)
    choose_unit(page, "alpha")
    assert page.evaluate("Lab.read('noise-strength')") == pytest.approx(0.5, rel=5e-3)


def test_noise_beyond_the_end_of_another_slider_is_reported(page: Any) -> None:
    page.evaluate(MOVE, 100)
    choose_unit(page, "std")
    wanted = f"{100 / math.sqrt(3 * len(sentence().tokens) * WIDTH):.3g}"
    page.locator(
        ".lab-warning", has_text=f"ends at 1, but alpha 100 corresponds to {wanted} on this sentence"
    ).wait_for()
    page.evaluate(MOVE, 0.5)
    assert "ends at" not in page.locator(".lab-warning").inner_text()


def test_a_link_with_a_strength_between_two_steps_is_opened_with_it(browser: Any, address: str) -> None:
    with visiting(browser, address, link="?noise.unit=std&noise.strength=0.000321") as page:
        page.wait_for_function("Lab.read('noise-strength') === 0.000321")
        page.wait_for_function(f"{FIGURE}?.labFigure?.current().controls.strength === 0.000321")
        choose_unit(page, "alpha")
        first = page.evaluate(HEIGHTS)[1][0]
        page.locator("#noise-again").click()
        page.wait_for_function(f"({HEIGHTS})[1][0] !== {first}")  # the server takes it too
        page.evaluate(MOVE, 60)
        page.locator("#noise-again").click()
        page.wait_for_function(f"({RESULT}).deviation > 0 && {FIGURE}.labFigure?.value?.controls.strength.value === 60")
        assert page.locator(".lab-message").count() == 0


def test_the_ruler_shows_the_strength_in_every_unit(page: Any) -> None:
    page.evaluate(MOVE, 10)
    said = dict(part.rsplit(" ", 1) for part in page.locator(".lab-ruler svg").get_attribute("aria-label").split(", "))
    read = sentence()
    std = 10 / math.sqrt(3 * read.clean.size)
    expected = {"alpha": 10, "std": std, "relative": std / math.sqrt((read.clean**2).mean())}
    assert said["relative"].endswith("%")  # the share of the noise in the signal has one form on the page
    assert said["relative"] in page.locator(".lab-verdict").inner_text()
    found = {unit: float(value.rstrip("%")) / (100 if value.endswith("%") else 1) for unit, value in said.items()}
    assert found == pytest.approx(expected, rel=5e-3)  # three digits


def test_token_dropout_has_a_unit_of_its_own_and_gives_the_other_back(page: Any) -> None:
    page.evaluate(MOVE, 12)
    page.locator("#noise-kind label", has_text="Token dropout").click()
    page.wait_for_function("Lab.read('noise-unit') === 'share' && Lab.read('noise-strength') === 0.1")
    page.locator("#noise-unit label", has_text="alpha").wait_for(state="hidden")
    assert page.locator("#noise-unit label:visible").all_inner_texts() == ["share"]
    page.evaluate(MOVE, 0.5)
    gone = [place for place, height in enumerate(page.evaluate(HEIGHTS)[1]) if height == 0]
    payload = page.evaluate(f"{FIGURE}.labFigure.value.payload")
    assert gone == [place for place, number in enumerate(payload["dropped_below"]["token-dropout"]) if number < 0.5]
    assert page.locator("#noise-chips li.gone").count() == len(gone) > 0
    says(page, "token dropout, share 0.3 and 0.5")
    page.locator("#noise-kind label", has_text="Gaussian").click()
    page.wait_for_function("Lab.read('noise-unit') === 'alpha' && Lab.read('noise-strength') === 12")
    says(page, "Gaussian noise, alpha 12 and 15")


def test_the_strength_lies_on_a_scale_and_only_noise_that_rounding_eats_is_warned_of(lab_page: Any) -> None:
    open_noise(lab_page)
    warning, verdict = lab_page.locator("#noise-words .lab-warning"), lab_page.locator("#noise-words .lab-verdict")
    places = []
    for strength, words in ((0, "No noise"), (1, "keeps its direction"), (9, "about as large"), (90, "larger")):
        lab_page.evaluate(MOVE, strength)
        assert words in verdict.inner_text() and warning.inner_text() == ""
        places.append(
            lab_page.evaluate("Number(document.querySelector('.lab-scale').style.getPropertyValue('--place'))")
        )
    assert places == sorted(places) and places[0] == 0 and 0.4 < places[2] < 0.6 and places[3] > 0.85


def test_noise_that_rounding_eats_is_warned_of(page: Any) -> None:
    warning = page.locator("#noise-words .lab-warning")
    page.evaluate(f"{FIGURE}.labFigure.value.payload.realised = [[1e-4, 0], [1, 1]]")
    page.evaluate(MOVE, 0.5)
    std = 0.5 / math.sqrt(3 * sentence().clean.size)
    kept = 25 * math.log10(std / 1e-4)  # per cent, a quarter of them each power of ten
    assert f"In bfloat16, only {kept:.3g}%" in warning.inner_text()


def test_a_link_opens_the_page_as_it_was(browser: Any, address: str) -> None:
    with visiting(browser, address, link="?tab=Noise") as page:
        open_noise(page)
        page.evaluate(MOVE, 20)
        page.locator("#noise-kind label", has_text="Laplace").click()
        page.locator("#noise-text textarea").fill("A second sentence.")
        page.wait_for_function(f"{FIGURE}.labFigure?.value?.payload.length === 4")
        page.locator(".lab-unfold").click()
        page.locator("#noise-schedule label", has_text="Warm-up").click()
        page.locator("#noise-special-tokens input").uncheck()
        choose_view(page, "angles")
        link, result = page.evaluate("Lab.link()"), page.evaluate(RESULT)
        assert "noise.schedule=warm-up" in link
    with visiting(browser, address, link=link.removeprefix(address)) as other:
        other.wait_for_function(f"Lab.Plotly && {FIGURE}.labFigure?.value?.payload.length === 4")
        assert other.evaluate(RESULT) == result
        assert other.evaluate(f"{CURRENT}.view") == "angles"
        says(other, "Laplace noise, alpha 15 and 20, no special tokens, warm-up")
        other.wait_for_function("(link) => Lab.link() === link", arg=link)


@pytest.fixture(scope="module")
def first_payload(browser: Any, address: str) -> dict[str, Any]:
    """Return the embeddings and draws of the first sentence, from a page whose link names no noise."""
    with visiting(browser, address, link="?tab=Noise") as page:
        page.wait_for_function(f"{FIGURE}?.labFigure?.value?.payload")
        return page.evaluate(f"{FIGURE}.labFigure.value.payload")


def test_a_link_may_be_in_any_unit_and_kind(browser: Any, address: str, first_payload: dict[str, Any]) -> None:
    for chosen in ({"unit": "relative", "strength": 0.3}, {"unit": "share", "strength": 0.25, "kind": "token-dropout"}):
        link = "?" + "&".join(f"noise.{name}={value}" for name, value in chosen.items())
        with visiting(browser, address, link=link) as page:
            page.wait_for_function(f"Lab.Plotly && {FIGURE}?.labFigure && Lab.read('noise-unit') !== 'alpha'")
            page.wait_for_function(f"{CURRENT}.controls.unit === '{chosen['unit']}'")
            same(page.evaluate(RESULT), token_effects(first_payload, NoiseSettings(**chosen)))
            says(page, f"{chosen['unit']} {chosen['strength']}")
