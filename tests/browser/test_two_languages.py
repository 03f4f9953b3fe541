"""The page in Chinese: its own address, a button between the two, and everything works there as it does in English."""

from __future__ import annotations

from typing import Any

import pytest
from served_lab import opened_page, visiting

pytestmark = pytest.mark.browser

SWITCH = ".lab-tools [data-do=language]"


def test_the_chinese_page_says_its_tabs_and_its_language(cache: Any, address: str) -> None:
    with opened_page(cache, address, "zh") as page:
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        tabs = page.locator("#lab-tabs > .tab-wrapper [role=tab]")
        assert "噪声" in tabs.all_inner_texts()
        assert "Noise" not in tabs.all_inner_texts()
        assert not page.get_by_text("Home", exact=True).is_visible()
        page.evaluate("Lab.openTab('Noise')")
        page.wait_for_function(
            "document.querySelector('#noise-figure .lab-figure-summary').textContent.includes('词元')"
        )
        assert page.evaluate("Lab.currentTab()") == "Noise"


def test_the_button_leads_to_the_same_page_in_the_other_language_and_back(cache: Any, address: str) -> None:
    with opened_page(cache, address, "?tab=Noise&noise.strength=20") as page:
        page.locator(SWITCH).click()
        page.wait_for_url("**/zh?*")
        page.wait_for_function("window.Lab && document.body.dataset.labOpened && Lab.currentTab() === 'Noise'")
        page.wait_for_function("Lab.read('noise-strength') === 20")
        page.locator(SWITCH).click()
        page.wait_for_url(lambda url: "/zh" not in url)
        page.wait_for_function("window.Lab && document.body.dataset.labOpened && Lab.currentTab() === 'Noise'")
        page.wait_for_function("Lab.read('noise-strength') === 20")


def test_a_browser_that_reads_chinese_is_led_there_unless_english_was_chosen(browser: Any, address: str) -> None:
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(address + "?tab=Noise")
    page.wait_for_url("**/zh?tab=Noise")
    page.locator(SWITCH).click()
    page.wait_for_url(lambda url: "/zh" not in url)
    page.goto(address)
    page.wait_for_function("window.Lab && document.body.dataset.labOpened")
    assert page.evaluate("LabLanguage.code") == "en"
    page.goto(address + "zh")
    page.wait_for_function("window.Lab && document.body.dataset.labOpened")
    assert page.evaluate("LabLanguage.code") == "zh"
    context.close()


@pytest.mark.slow
def test_a_study_is_trained_on_the_chinese_page(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, link="zh?tab=Train") as page:
        page.locator("#lab-train").click()
        page.wait_for_selector("#train-state .lab-state[data-state=finished]", timeout=240_000)
        assert "job=" in page.url
        page.reload()
        page.wait_for_selector("#train-state .lab-state[data-state=finished]")
