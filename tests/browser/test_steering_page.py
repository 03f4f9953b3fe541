"""A running study is steered on the page: its noise is changed, an arm is stopped, and a finished one goes on."""

from __future__ import annotations

from typing import Any

import pytest
from page_steps import open_tab, text_of

pytestmark = pytest.mark.browser

ARM = "uniform-alpha-15"


def trained(page: Any, epochs: int) -> None:
    """Start a study of some epochs on the Train tab."""
    open_tab(page, "Train")
    text_of(page, "#train-plan", "steps")
    box = page.locator("#train-epochs input[type=number]")
    box.fill(str(epochs))
    box.press("Tab")
    page.locator("#lab-train").click()


def test_the_noise_of_a_live_study_is_changed_and_an_arm_is_stopped(lab_page: Any) -> None:
    open_tab(lab_page, "Train")
    lab_page.locator("#train-live input[type=checkbox]").check()
    assert not lab_page.locator("#train-live-strength").is_visible()
    trained(lab_page, 20)
    strength = lab_page.locator("#train-live-strength input[type=number]")
    strength.wait_for()
    lab_page.locator("#train-arms button").nth(1).wait_for()
    strength.fill("40")
    strength.press("Enter")
    text_of(lab_page, "#train-curves .lab-figure-summary", "Changed by hand: strength 40 after step")
    button = lab_page.locator(f"#train-arms button[data-arm='{ARM}']")
    button.click()
    assert "Stop this arm for good" in button.inner_text()
    button.click()
    text_of(lab_page, "#train-arms", "stopped after step")
    text_of(lab_page, "#train-curves .lab-figure-summary", "alpha 15 stopped after step")
    lab_page.locator("#lab-stop").click()
    lab_page.locator("#lab-stop-keep").click()
    lab_page.locator("#train-state [data-state=stopped]").wait_for()
    text_of(lab_page, "#train-tab", "There is no verdict: This study is live")
    assert not lab_page.locator("#train-live-strength").is_visible()


def test_a_finished_study_goes_on_and_its_verdict_says_so(lab_page: Any) -> None:
    trained(lab_page, 1)
    lab_page.locator("#train-state [data-state=finished]").wait_for(timeout=120_000)
    first = lab_page.evaluate("Lab.parameter('job')")
    assert lab_page.locator("#train-more-epochs input").input_value() == "1"
    lab_page.locator("#train-go-on").click()
    lab_page.wait_for_function("(first) => Lab.parameter('job') !== first", arg=first)
    lab_page.locator("#train-state [data-state=finished]").wait_for(timeout=120_000)
    text_of(lab_page, "#train-state", f"when the result of the record {first} could already be seen")
