"""The Chinese page: its address, the language button, and the same functions as in English."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from owned_study import owned_study
from served_lab import visiting

pytestmark = pytest.mark.browser

MOMENTS = 40
TABS = ("Learn", "Noise", "Data", "Train", "Compare", "Sweep", "Runs")
WORD, QUOTED = re.compile(r"[A-Za-z]{4,}"), re.compile("“[^”]*”")
NAMES = set(
    WORD.findall(
        "NEFTune Noisy Embedding Fine Tuning LoRA AdamW PEFT BLEU ROUGE chrF Holm logits nats dropout embedding "
        "generate share alpha bfloat smollm instruct bundled "
        "invented EPYC torch transformers peft sacrebleu Parquet JSON JSONL jsonl toml study sweep GGUF Apache "
        "Llama SmolLM Mistral Qwen NeoX Pythia Gemma Granite BERT RoBERTa LayerNorm Flan BART Marian "
        "OpenAI http Mbit bleu chrf nrefs case mixed smooth space version instruction input output"
    )
)
"""Words that a Chinese page says as they are: names of the field, files, columns, models, units and arms."""
SEEN = r"""() => {
    document.querySelectorAll("details").forEach((details) => (details.open = true));
    const tokens = ".lab-answers, .lab-picker, .lab-chips, .lab-stage-tokens, " +
        "#noise-figure :is([class*=tick], .textpoint), .lab-predicted-word, .lab-predicted-tokens";
    const data = "code, pre, math, [lang=en], .katex, " + tokens;
    const visible = { opacityProperty: true, visibilityProperty: true };
    const found = [];
    // What a figure says once one points at it, or on another width.
    const told = (value) => {
        const words = [];
        const look = (name, part) => {
            if (typeof part === "string" && /^(name|text|hovertemplate|summary|title)$/.test(name)) words.push(part);
            else if (Array.isArray(part) && name !== "annotations") return;
            else if (part && typeof part === "object") Object.entries(part).forEach((entry) => look(...entry));
        };
        for (const trace of value?.data || []) look("", { ...trace, text: "" });
        look("", { layout: value?.layout, narrow: value?.narrow, summary: value?.summary });
        return words.map((one) => one.replace(/%\{[^}]*\}|<[^>]*>/g, " "));
    };
    for (const node of document.querySelectorAll("body *")) {
        if (node.closest("script, style, " + data) || !node.checkVisibility(visible)) continue;
        if (node.classList.contains("lab-figure-plot")) found.push(...told(node.labFigure?.value));
        for (const child of node.childNodes) if (child.nodeType === Node.TEXT_NODE) found.push(child.data);
        for (const name of ["aria-label", "title", "placeholder", "alt", "data-title"])
            found.push(node.getAttribute(name) || "");
    }
    return found;
}"""


def english_of(page: Any) -> set[str]:
    """Return the visible and screen-reader texts with an English word other than `NAMES`."""
    found = page.evaluate(SEEN)
    return {text.strip() for text in found if set(WORD.findall(QUOTED.sub("", text))) - NAMES}


def english_left(page: Any, *names: str) -> set[str]:
    """Return the texts that remain English beside `names`; the framework's own are translated after a moment."""
    for _ in range(MOMENTS):
        page.wait_for_timeout(500)
        if not (found := {text for text in english_of(page) if not any(name in text for name in names)}):
            break
    return found


READER = "6c" * 32

SWITCH = ".lab-tools [data-do=language]"


def test_the_chinese_page_has_chinese_tabs_and_a_language_tag_also_with_a_slash_behind_it(
    browser: Any, address: str
) -> None:
    with visiting(browser, address, link="zh/?tab=Train") as page:
        assert page.evaluate("location.pathname + location.search") == "/zh?tab=Train"
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


def test_the_button_leads_to_the_same_page_in_the_other_language_and_back(browser: Any, address: str) -> None:
    with visiting(browser, address, link="?tab=Noise&noise.strength=20") as page:
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
    served = page.request.get(address)
    page.route("**/lab", lambda route: route.fulfill(response=served))
    page.goto(address + "lab")  # behind a path without a slash
    page.wait_for_url("**/lab/zh")
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


def test_the_choice_of_english_holds_where_storage_is_forbidden(browser: Any, address: str) -> None:
    context = browser.new_context(locale="zh-CN")
    forbidden = "() => { throw new DOMException('forbidden', 'SecurityError'); }"
    context.add_init_script(f"Storage.prototype.getItem = Storage.prototype.setItem = {forbidden}")
    page = context.new_page()
    page.goto(address + "?tab=Noise")
    page.wait_for_url("**/zh?tab=Noise")
    page.locator(SWITCH).click()
    page.wait_for_url(lambda url: "/zh" not in url)
    page.wait_for_function("window.Lab && document.body.dataset.labOpened")
    assert page.evaluate("[LabLanguage.code, Lab.parameter('lang')]") == ["en", "en"]
    page.locator(SWITCH).click()
    page.wait_for_url(lambda url: "/zh" in url and "lang=" not in url)
    context.close()


def test_no_tab_of_the_chinese_page_has_english_left(browser: Any, address: str, tmp_path: Path) -> None:
    left: dict[str, set[str]] = {}
    with visiting(browser, address, link="zh?tab=Noise") as page:
        for tab in TABS:
            page.evaluate(f"Lab.openTab('{tab}')")
            page.wait_for_function(f"Lab.currentTab() === '{tab}'")
            left[tab] = english_left(page)
        page.evaluate("Lab.openTab('Noise')")
        page.locator("#noise-more-button button").click()
        sites = page.locator("#noise-sites").locator("input, textarea")
        sites.fill("2, 3")
        sites.press("Enter")
        page.get_by_text("显示的是第 2 层的输出").wait_for(state="attached")
        left["a layer"] = english_left(page, "embedding", "relative", "Gemma", "tables")
        (tmp_path / "notes.exe").write_text("no rows", encoding="utf-8")
        page.evaluate("Lab.openTab('Data')")
        page.locator("#data-source label").nth(1).click()
        page.locator("#data-file input[type=file]").set_input_files(tmp_path / "notes.exe")
        page.locator(".lab-message", has_text="不支持这种文件").wait_for()
        left["a refused file"] = english_left(page, "notes.exe")
    assert {tab: texts for tab, texts in left.items() if texts} == {}


IN_SIGHT = """async () => {
    for (const node of document.querySelectorAll(".lab-figure:not(.lab-empty) .lab-figure-plot")) {
        if (!node.checkVisibility()) continue;
        node.scrollIntoView({ block: "center", behavior: "instant" });
        for (let tries = 0; tries < 200 && !node._fullLayout; tries++) await new Promise((go) => setTimeout(go, 50));
    }
    scrollTo(0, 0);
}"""
VIEWS = """() => [...document.querySelectorAll("[id$=-view] input[type=radio], [role=tabpanel] [role=tab]")]
    .filter((node) => node.closest("label, [role=tab]").checkVisibility()).length"""
CHOOSE = """(place) => [...document.querySelectorAll("[id$=-view] input[type=radio], [role=tabpanel] [role=tab]")]
    .filter((node) => node.closest("label, [role=tab]").checkVisibility())[place]?.click()"""


def test_a_finished_study_and_its_figures_have_no_english_left(browser: Any, lab_address: str, lab_home: Path) -> None:
    left: dict[str, set[str]] = {}
    record = owned_study(lab_home / "runs", READER)
    with visiting(browser, lab_address, key=READER, link=f"zh?job={record.id}") as page:
        page.wait_for_selector("#train-verdict .lab-evidence", state="attached")
        page.evaluate("Lab.openTab('Train')")
        page.locator("#train-evidence > button").click()
        page.wait_for_selector("#train-details .lab-judged")
        for tab in TABS:
            page.evaluate(f"Lab.openTab('{tab}')")
            page.wait_for_function(f"Lab.currentTab() === '{tab}'")
            for view in range(max(1, page.evaluate(VIEWS))):
                page.evaluate(CHOOSE, view)
                page.wait_for_timeout(700)
                page.evaluate(IN_SIGHT)
                left[f"{tab} {view}"] = english_left(page, record.study.title, record.id)
    assert {tab: texts for tab, texts in left.items() if texts} == {}


@pytest.mark.slow
def test_a_study_is_trained_on_the_chinese_page(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, link="zh?tab=Train") as page:
        page.locator("#lab-train").click()
        page.wait_for_selector("#train-state .lab-state[data-state=finished]", timeout=240_000)
        assert "job=" in page.url
        page.locator("#train-evidence > button").click()
        page.wait_for_selector("#train-details .lab-judged")
        assert english_left(page) == set()
        page.reload()
        page.wait_for_selector("#train-state .lab-state[data-state=finished]")
