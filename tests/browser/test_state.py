"""The page's state: every control is touched; a reload, the other language, a second tab and a link bring it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_steps import open_tab, own_file, text_of, upload
from served_lab import LAB, PATIENCE, blank_page, served, visiting

pytestmark = pytest.mark.browser

TABS = ("Noise", "Train", "Compare", "Sweep")
FIELDS = "Object.entries(Lab.state.fields()).map(([name, { id }]) => [name, id])"
# What a person reads in every control; of a list of choices, the words.
SHOWN = f"Object.fromEntries({FIELDS}.map(([name, id]) => [name, String(Lab.read(id))]))"
KEPT = "JSON.parse(sessionStorage.getItem('neftune-lab-state') || '{}')"
INITIAL = "Object.fromEntries(Object.entries(Lab.state.fields()).map(([name, { value }]) => [name, value]))"
LISTED = "Object.entries(Lab.state.fields()).filter(([, { listed }]) => listed).map(([name]) => name)"
UNFOLD = "document.querySelectorAll('.lab-group > button.label-wrap:not(.open)').forEach((fold) => fold.click())"
TEXTS = {
    "noise-sites": "embedding, 1",
    "text": "A sentence of mine.",
    "train-strengths": "0.2, 0.4",
    "train-dropouts": "0.3",
    "train-decays": "0.05",
    "train-prompt_loss": "0.1, 1",
    "train-weight_noise": "0.05",
    "train-start_noise": "0.15",
    "train-consistency": "0.5",
    "train-noisefit": "0.5",
    "sweep-values-1": "0, 3",
    "sweep-values-2": "2, 4",
    "sweep-values-3": "1, 2",
    "sweep-values-4": "0, 0.1",
    "sweep-points": "noise.strength = 7",
    "sweep-dropouts": "0.2",
    "sweep-decays": "0.02",
    "sweep-prompt_loss": "0.1",
    "sweep-weight_noise": "0.02",
    "sweep-start_noise": "0.1",
    "sweep-consistency": "0.2",
    "sweep-noisefit": "0.4",
}
# These set or hide other controls, so they are first.
FIRST = ("train-preset", "noise-kind", "noise-unit", "compare-prompts", "compare-source")
LAST = ("compare-view",)  # it hides the controls of the other views
FOLLOWING = ("compare-chosen",)  # hidden; choosing the kind of prompts sets it
# Choose or type something else, as a person would; gives false for a list, which is chosen from by clicks.
TOUCH = """([id, text, initial]) => {
  const root = document.getElementById(id);
  const set = (input, value) => {
    const kind = input.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(input, value);
    const events = ["input", "change", "pointerup", "blur"].map((name) => new Event(name, { bubbles: true }));
    for (const event of events) input.dispatchEvent(event);
  };
  const radios = [...root.querySelectorAll("input[type=radio]")];
  if (radios.length) return radios.find((radio) => !radio.checked).click(), true;
  const box = root.querySelector("input[type=checkbox]");
  if (box) return box.click(), true;
  const range = root.querySelector("input[type=range]");
  const number = range ?? root.querySelector("input[type=number]");
  if (number) {
    const [now, step] = [Number(number.value), Number(number.step) || 1];
    const low = number.min === "" ? -Infinity : Number(number.min);
    const high = number.max === "" ? Infinity : Number(number.max);
    const others = [now + step, now + 2 * step, now - step, now / 2].filter((value) => value !== initial);
    const next = others.find((value) => low <= value && value <= high);
    return set(number, String(next)), true;
  }
  if (root.querySelector("[role=listbox], input[aria-haspopup], .wrap-inner, input.border-none")) return false;
  set(root.querySelector("textarea, input"), text);
  return true;
}"""


def open_everything(page: Any) -> None:
    """Open all tabs and folds once: what is folded is mounted only then."""
    for tab in TABS:
        page.evaluate("(tab) => Lab.openTab(tab)", tab)
        page.wait_for_function("(tab) => Lab.currentTab() === tab", arg=tab)
        page.evaluate(UNFOLD)


def touch_everything(page: Any) -> None:
    """Give every control a different value."""
    fields, initial = page.evaluate(FIELDS), page.evaluate(INITIAL)
    order = [*FIRST, *(id for _, id in fields if id not in (*FIRST, *LAST, *FOLLOWING)), *LAST]
    names = {id: name for name, id in fields}
    for id in order:
        name = names[id]
        page.wait_for_function("(id) => document.getElementById(id)", arg=id)
        if not page.evaluate(TOUCH, [id, TEXTS.get(id, TEXTS.get(name, f"mine {name}")), initial[name]]):
            choose_another(page, id)
        page.wait_for_timeout(30)  # one after the other, as by hand


def choose_another(page: Any, id: str) -> None:
    """Choose the second entry of a list, opening the tab where it is."""
    tab = page.evaluate("(id) => document.getElementById(id).closest('[role=tabpanel]').id.replace('tab-', '')", id)
    page.evaluate("(tab) => Lab.openTab(tab)", tab)
    page.locator(f"#{id} input").click()
    option = page.get_by_role("option").nth(1 + int(id[-1]) if id.startswith("sweep-axis") else 1)
    option.dispatch_event("mousedown")  # the list stays where it was opened, though a late figure may move the page
    page.evaluate("document.activeElement.blur()")
    option.wait_for(state="detached")


def settled(page: Any) -> dict[str, str]:
    """What all controls show once nothing moves."""
    before: dict[str, str] = {}
    for _ in range(100):
        shown = page.evaluate(SHOWN)
        if shown == before:
            return shown
        before = shown
        page.wait_for_timeout(400)
    raise AssertionError("the page does not come to rest")


def is_shown(page: Any, expected: dict[str, str], *, lists: bool = True) -> None:
    """Wait until every control shows what is expected; `lists` are in the language of the page."""
    listed = page.evaluate(LISTED)
    open_everything(page)
    wanted = {name: value for name, value in expected.items() if lists or name not in listed}
    page.wait_for_function(
        f"(wanted) => Object.entries({SHOWN}).every(([name, value]) => !(name in wanted) || value === wanted[name])",
        arg=wanted,
        polling=200,  # reading all controls takes a while
    )
    assert page.locator(".lab-message").all_inner_texts() == []


def opened(page: Any) -> None:
    page.wait_for_function("window.Lab && document.body.dataset.labOpened && Object.keys(Lab.state.fields()).length")


def test_every_control_comes_back_after_a_reload_and_in_the_other_language_a_second_tab_and_by_a_link(
    browser: Any, lab_address: str
) -> None:
    with visiting(browser, lab_address, link="?tab=Noise") as page:
        open_everything(page)
        first = settled(page)
        touch_everything(page)
        shown = settled(page)
        every = f"Object.entries({INITIAL}).every(([name, value]) => name in {KEPT} && {KEPT}[name] !== value)"
        page.wait_for_function(every)  # control was touched, and its value is stored
        kept = page.evaluate(KEPT)
        page.reload()
        opened(page)
        page.wait_for_function("(tab) => Lab.currentTab() === tab", arg=kept["tab"])
        is_shown(page, shown)
        text_of(page, "#lab-words", "8 arms with other methods")
        assert settled(page) == shown
        page.wait_for_timeout(300)  # the state is stored once nothing has changed for a fifth of a second
        assert {**page.evaluate(KEPT), "tab": ""} == {**kept, "tab": ""}
        page.locator(".lab-tools [data-do=language]").click()
        page.wait_for_url("**/zh?*")
        opened(page)
        is_shown(page, shown, lists=False)
        page.locator(".lab-tools [data-do=language]").click()
        page.wait_for_url(lambda url: "/zh" not in url)
        opened(page)
        is_shown(page, shown)
        second = page.context.new_page()
        second.goto(lab_address)
        opened(second)
        is_shown(second, shown)
        link = page.evaluate("Lab.link()")
        second.locator(".lab-tools [role=status] button").click()
        second.wait_for_function("window.Lab && !Lab.state.isKept()")
        opened(second)
        is_shown(second, first)
        second.close()
        open_tab(page, "Train")
        page.locator("#train-preset-changed p", has_text="differ from this preset: Epochs").wait_for()
    with visiting(browser, lab_address, link=link.removeprefix(lab_address)) as page:
        opened(page)
        is_shown(page, shown)
        assert page.evaluate("Lab.link()") == link


def is_at(page: Any, tab: str, lesson: str | None) -> None:
    """Wait until the page shows a tab and an open lesson, and its URL has both."""
    dock = "!document.querySelector('.lab-dock').hidden"
    place = f"[Lab.currentTab(), Lab.parameter('tab') || 'Learn', Lab.parameter('lesson'), {dock}]"
    wanted = [tab, tab, lesson, lesson is not None]
    page.wait_for_function(f"(place) => window.Lab && `${{{place}}}` === `${{place}}`", arg=wanted)
    if tab == "Learn":
        page.wait_for_selector(f"#lesson-{lesson}.open" if lesson else "#learn-home:not(.closed)")
        assert page.locator(".lab-lesson.open").count() == (lesson is not None)


def test_back_and_forward_lead_through_tabs_and_lessons_and_keep_all_settings(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, link="?lesson=2") as page:
        page.locator("#lesson-2.open").wait_for()
        page.evaluate("Lab.openTab('Data')")  # the page's own changes make no entry
        page.evaluate("Lab.openTab('Learn')")
        is_at(page, "Learn", "2")
        entries = page.evaluate("history.length")
        page.locator("#lesson-2 [data-do=lessons]").click()
        is_at(page, "Learn", None)
        page.locator(".lab-lessons li:nth-child(3) button").press("Enter")
        is_at(page, "Learn", "3")
        page.locator("#lesson-3 .lab-begin").click()  # opens a tab once the server has answered
        is_at(page, "Noise", "3")
        page.locator("#noise-view label").nth(1).click()
        page.locator(".lab-tools [data-do=projector]").click()
        open_tab(page, "Train")
        is_at(page, "Train", "3")
        assert page.evaluate("history.length") == entries + 4  # none for the view and the projector
        view = page.evaluate("Lab.read('noise-view')")
        page.wait_for_function(f"{KEPT}.tab === 'Train' && {KEPT}.view === '{view}'")
        page.go_back()
        is_at(page, "Noise", "3")
        page.reload()
        opened(page)
        is_at(page, "Noise", "3")
        page.wait_for_function(f"Lab.read('noise-view') === '{view}' && Lab.parameter('projector') === '1'")
        for step, place in (
            ("back", ("Learn", "3")),
            ("back", ("Learn", None)),
            ("back", ("Learn", "2")),
            ("forward", ("Learn", None)),
            ("forward", ("Learn", "3")),
            ("forward", ("Noise", "3")),
            ("forward", ("Train", "3")),
        ):
            page.evaluate(f"history.{step}()")
            is_at(page, *place)
        assert page.evaluate("Lab.parameter('projector')") == "1"
        page.locator(".lab-tools [data-do=language]").click()
        page.wait_for_url("**/zh?*")
        opened(page)
        is_at(page, "Train", "3")
        page.go_back()  # a page of its own, which leads to the chosen language
        opened(page)
        is_at(page, "Noise", "3")
        assert page.evaluate("LabLanguage.code") == "zh"


SLOW_CALLS = """const ask = window.fetch;
window.fetch = async (...asked) => {
  if (String(asked[0]).includes('/queue/join')) await new Promise((go) => setTimeout(go, 1500));
  return ask(...asked);
};"""


def test_what_is_set_while_the_page_restores_its_state_is_not_replaced(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, link="?tab=Noise") as page:
        page.locator("#noise-view label").nth(1).click()
        page.wait_for_function(f"{KEPT}['view'] === Lab.read('noise-view')")
        restored = page.evaluate("Lab.read('noise-view')")
        page.add_init_script(SLOW_CALLS)
        page.reload()
        opened(page)
        assert page.evaluate("'labRestoring' in document.body.dataset")
        page.locator("#noise-view label").nth(2).click()  # accepted once the stored view is there
        page.wait_for_function(f"{KEPT}['view'] === Lab.read('noise-view') && {KEPT}['view'] !== '{restored}'")
        chosen = page.evaluate("Lab.read('noise-view')")
        settled(page)
        assert page.evaluate("Lab.read('noise-view')") == chosen
        assert not page.evaluate("'labRestoring' in document.body.dataset")


HOLD_RESTORING = """const ask = window.fetch;
window.fetch = async (place, options) => {
  const isJoin = String(place).includes('/queue/join');
  const restores = isJoin && String(JSON.parse(options.body).data[0]).startsWith('{');
  if (restores) await new Promise((go, fail) => Object.assign(window, { go, fail }));
  return ask(place, options);
};"""
ASK_FOR_NOTHING = """fetch('gradio_api/queue/join', {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ data: ['x'], fn_index: 99999, session_hash: 'x' }),
}).then(({ status }) => status)"""


def test_only_the_end_of_the_call_that_restores_the_state_opens_the_controls(browser: Any, lab_address: str) -> None:
    with blank_page(browser) as page:
        page.goto(lab_address + "?tab=Noise")
        opened(page)
        page.locator("#noise-view label").nth(1).click()
        page.wait_for_function(f"{KEPT}['view'] === Lab.read('noise-view')")
        page.add_init_script(HOLD_RESTORING)
        for end in ("go()", "fail(new Error('offline'))"):
            page.reload()
            opened(page)
            page.wait_for_function("'go' in window")
            assert page.evaluate(ASK_FOR_NOTHING) == 404
            assert page.evaluate("'labRestoring' in document.body.dataset")
            page.evaluate(f"void window.{end}")
            # not the limit of 30 s
            page.wait_for_function("!('labRestoring' in document.body.dataset)", timeout=10_000)


def test_views_and_their_figures_agree_after_a_reload_and_by_a_link(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, link="?tab=Compare&compare.view=weights") as page:
        text_of(page, "#inside-about", "study")
        assert page.evaluate("Lab.read('compare-view')") == "weights"
        page.locator("#compare-view label").nth(2).click()
        page.wait_for_function(f"{KEPT}['compare.view'] === 'robustness'")
        assert "compare.view=robustness" in page.evaluate("Lab.link()")
        open_tab(page, "Train")
        page.locator("#train-view label", has_text="Noise, rate and speed").click()
        text_of(page, "#train-curves .lab-figure-summary", "learning rate")
        page.wait_for_function(f"{KEPT}['train.view'] === 'rates'")
        page.reload()
        opened(page)
        page.wait_for_function("Lab.read('train-view') === 'rates'")
        text_of(page, "#train-curves .lab-figure-summary", "learning rate")
        open_tab(page, "Compare")
        page.wait_for_function("Lab.read('compare-view') === 'robustness'")
        text_of(page, "#inside-about", "study")


def test_the_measured_loss_goes_with_its_data(browser: Any, lab_address: str, tmp_path: Path) -> None:
    with visiting(browser, lab_address, link="?tab=Noise") as page:
        page.locator("#noise-view label:has(input[value=loss])").click()
        page.locator("#noise-measure").click()
        figure = "document.querySelector('#noise-figure .lab-figure-plot').labFigure.current()"
        page.wait_for_function(f"{figure}.data.length > 0 && {figure}.data[0].x.length > 7")
        own_file(page)
        (tmp_path / "rows.jsonl").write_text(
            "".join(f'{{"instruction": "Name {n}.", "output": "It is {n}."}}\n' for n in range(9)), encoding="utf-8"
        )
        upload(page, "#data-file", tmp_path / "rows.jsonl")
        text_of(page, "#data-report", "In use: rows.jsonl")
        open_tab(page, "Noise")
        page.wait_for_function(f"{figure}.data.length === 0")
        assert "Measure the loss" in text_of(page, "#noise-figure .lab-figure-summary", "Measure")
        page.wait_for_function("!Lab.state.isLinkWhole()")  # the rows of an upload are their owner's alone


def test_a_restarted_server_says_so_and_the_page_goes_on_with_what_was_set(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served([LAB], tmp_path) as address:
        context = browser.new_context()
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(address + "?tab=Train")
        opened(page)
        page.wait_for_selector("#train-plan .lab-plan")
        page.locator("#train-seed input").click()  # values are stored after a gesture
        page.locator("#train-seed input").fill("7")
        page.locator("#train-seed input").press("Tab")
        page.wait_for_function(f"{KEPT}['train.seed'] === 7")
        opened_at = page.evaluate("performance.timeOrigin")
    monkeypatch.setenv("GRADIO_SERVER_PORT", address.rstrip("/").rpartition(":")[2])
    with served([LAB], tmp_path) as again:
        assert again == address
        page.locator("#lab-train").click()
        words = "one.textContent.includes('The server was restarted')"
        told = f"[...document.querySelectorAll('.lab-message')].some((one) => {words})"
        page.wait_for_function(f"(before) => performance.timeOrigin !== before || {told}", arg=opened_at)
        if page.evaluate("performance.timeOrigin") == opened_at:  # else the framework has loaded the page again itself
            page.reload()
        opened(page)
        page.wait_for_function("Lab.read('train-seed') === '7'")
        assert page.locator(".lab-message").count() == 0
        assert page.evaluate("Lab.parameter('job')") is None  # no study of the first settings was started
        context.close()


def test_a_reload_does_not_ask_for_the_plan_at_every_value(browser: Any, lab_address: str) -> None:
    changed = ("train-epochs", "train-seed", "train-seeds", "train-batch-size", "train-lora-rank")
    plans = """() => {
      const { id } = gradio_config.components.find(({ props }) => props.elem_id === "train-plan");
      return gradio_config.dependencies.filter(({ outputs }) => outputs.join() === String(id)).map(({ id }) => id);
    }"""
    with visiting(browser, lab_address, link="?tab=Train") as page:
        open_everything(page)
        open_tab(page, "Train")
        page.locator("h1").click()  # values are stored after a gesture
        for id in changed:
            page.evaluate(TOUCH, [id, "", None])
        shown, own, calls = settled(page), page.evaluate(plans), list[Any]()
        page.wait_for_function(f"{KEPT}['train.lora_rank'] === Lab.read('train-lora-rank')")
        page.on("request", lambda asked: "queue/join" in asked.url and calls.append(asked.post_data_json))
        page.reload()
        opened(page)
        is_shown(page, shown)
        settled(page)
    assert len(own) == 1
    # Once for the values, once for the tab that is opened; one more if a busy machine restores the values in two parts.
    assert 1 <= [call["fn_index"] for call in calls].count(own[0]) <= 3


def test_a_link_carries_the_preset_the_starter_set_the_view_and_the_projector(browser: Any, lab_address: str) -> None:
    in_use = f"JSON.parse({KEPT}.in_use || '{{}}')"
    with visiting(browser, lab_address, link="?tab=Data") as page:
        open_everything(page)
        open_tab(page, "Data")
        page.locator("#data-starter input").click()
        page.get_by_role("option", name="open-ended").click()
        text_of(page, "#data-report", "In use: open-ended")
        open_tab(page, "Train")
        page.locator("#train-preset label").nth(1).click()
        page.evaluate(TOUCH, ["train-epochs", "", None])
        page.evaluate(TOUCH, ["train-seed", "", None])
        page.locator("#train-view label").nth(1).click()
        page.locator(".lab-tools [data-do=projector]").click()
        shown, link = settled(page), page.evaluate("Lab.link()")
        page.wait_for_function(
            f"{KEPT}['train.view'] && {KEPT}.projector && {in_use}.data?.source === 'starter:open-ended'"
        )
        data = page.evaluate(f"{in_use}.data")
    with visiting(browser, lab_address, link=link.removeprefix(lab_address)) as page:
        opened(page)
        assert page.evaluate("Lab.currentTab()") == "Train"
        text_of(page, "#lab-words", "open-ended")
        is_shown(page, shown)
        assert page.evaluate("document.documentElement.classList.contains('lab-projector')")
        page.locator("h1").click()  # what nobody has touched is not stored
        page.wait_for_function(f"{KEPT}.in_use")
        assert page.evaluate(f"{in_use}.data") == data
        assert page.evaluate("Lab.link()").replace("tab=Sweep", "tab=Train") == link
