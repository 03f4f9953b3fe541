"""The Learn tab: the recorded study, lessons with automatic exercises, and links that hide tabs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from page_steps import open_tab, text_of
from served_lab import visiting

from neftune_core.lessons.files import lessons

pytestmark = pytest.mark.browser

STEP = "Number(document.querySelector('.lab-stage-time input').value)"
DONE = ".lab-dock li.done"
PLAN_FIRST = """['train-plan', 'train-preset'].map((id) => document.getElementById(id).getBoundingClientRect().top)
    .reduce((plan, preset) => plan < preset)"""


def begin(page: Any, number: int) -> None:
    """Open a lesson from the list and press its button that sets up the page."""
    page.locator(f".lab-lessons li:nth-child({number}) button").click()
    page.locator(f"#lesson-{number}.open .lab-begin").click()
    lesson = lessons()[number - 1]
    page.wait_for_function(f"Lab.currentTab() === '{lesson.tab}'")


def ticked(page: Any, count: int) -> None:
    page.wait_for_function(f"document.querySelectorAll('{DONE}').length === {count}")


def shows(page: Any, box: str, value: float) -> None:
    """Wait until the box contains that number."""
    page.wait_for_function(f"Number(document.querySelector('#{box} input[type=number]').value) === {value}")


def strength(page: Any, value: float) -> None:
    box = page.locator("#noise-strength input[type=number]")
    box.fill(str(value))
    box.press("Tab")


def number(page: Any, box: str, value: float) -> None:
    """Set a number, and wait for the updated plan."""
    before = page.locator("#train-plan").inner_text()
    found = page.locator(f"#{box} input[type=number]")
    found.fill(str(value))
    found.press("Tab")
    page.wait_for_function("(before) => document.querySelector('#train-plan').innerText !== before", arg=before)


def view(page: Any, name: str) -> None:
    page.locator("#noise-view label", has_text=name).click()


def test_the_first_view_is_a_recorded_study_which_stands_still_for_those_who_want_no_motion(lab_page: Any) -> None:
    assert lab_page.evaluate("Lab.currentTab()") == "Learn"
    slider = lab_page.locator(".lab-stage-time input")
    lab_page.wait_for_function(f"{STEP} === {slider.get_attribute('max')}")
    assert lab_page.locator("[data-do=play]").get_attribute("data-state") == "paused"
    slider.focus()
    slider.press("Home")
    assert lab_page.evaluate(STEP) == 0
    lab_page.locator("[data-do=play]").click()
    lab_page.wait_for_function(f"{STEP} > 0")
    slider.focus()
    slider.press("End")
    last = int(slider.get_attribute("max") or 0)
    assert lab_page.evaluate(STEP) == last  # a hand on the slider stops the play
    assert f"step {last} of {last}" in lab_page.locator(".lab-stage-time output").inner_text()
    assert lab_page.locator(".lab-stage-tokens .noisy").count() > 5
    answers = lab_page.locator("#learn-answers .lab-answers:visible")
    assert answers.count() == 1
    first = answers.locator("article p").first.inner_text()
    lab_page.locator(".lab-picker button").nth(1).click()
    assert answers.locator("article p").first.inner_text() != first
    told = lab_page.locator("#learn-next").inner_text()
    assert re.split(r"\n+", told) == [
        "Change the noise yourself", "Set up your own study",
        "Next study: bundled model, world-format (not those of this recording)",
    ]  # fmt: skip
    beside, below = (lab_page.locator(one).first.bounding_box() for one in ("#learn-next", ".lab-stage-loss"))
    assert beside["y"] + beside["height"] <= below["y"]
    lab_page.locator("#learn-to-train").click()
    lab_page.locator("#train-plan .lab-plan", has_text="on this machine").wait_for()
    lab_page.locator("#train-preset").wait_for()
    assert lab_page.evaluate(PLAN_FIRST)
    lab_page.get_by_role("tab", name="Learn", exact=True).click()
    lab_page.locator("#learn-to-noise").click()
    text_of(lab_page, "#noise-words [data-word=others]", "from the Train tab, alpha 15.")


def test_the_recorded_study_plays_by_itself_and_waits_while_it_is_hidden(browser: Any, lab_address: str) -> None:
    moving = {"reduced_motion": "no-preference"}
    with visiting(browser, lab_address, prepare=lambda page: page.emulate_media(**moving)) as page:
        page.wait_for_function(f"{STEP} > 0")
        open_tab(page, "Data")
        page.wait_for_function("document.querySelector('#learn-stage .lab-stage').clientWidth === 0")
        hidden = page.evaluate(STEP)
        page.wait_for_timeout(300)  # in which it would go on
        assert page.evaluate(STEP) == hidden
        open_tab(page, "Learn")
        page.wait_for_function(f"{STEP} > {hidden}")
        assert page.locator("[data-do=play]").get_attribute("data-state") == "playing"


def test_the_lesson_of_the_norm_ticks_itself_off_and_stays_ticked(page: Any) -> None:
    open_tab(page, "Learn")
    begin(page, 1)
    ticked(page, 0)
    strength(page, 60)
    ticked(page, 1)
    view(page, "Angles")
    ticked(page, 2)
    view(page, "Nearest")
    ticked(page, 3)
    view(page, "Depth")
    ticked(page, 4)
    assert "is done" in page.locator(".lab-dock b").inner_text()
    assert page.locator(".lab-dock [data-word=count]").inner_text() == "4 of 4 tasks"
    assert page.locator(".lab-dock [data-word=seen]").inner_text() == lessons()[0].seen
    page.locator(".lab-dock [data-do=next-lesson]").click()
    page.locator("#lesson-2.open").wait_for()
    page.locator(".lab-begin:visible").click()
    page.locator(".lab-dock [data-do=close]").click()
    page.reload()
    page.wait_for_function("window.Lab && document.body.dataset.labOpened")
    open_tab(page, "Learn")
    assert page.locator(".lab-lesson-mark.done").count() == 1


def test_the_open_lesson_covers_nothing_can_be_folded_and_is_brought_into_view(page: Any) -> None:
    for width, height in ((390, 844), (1280, 720)):
        page.set_viewport_size({"width": width, "height": height})
        open_tab(page, "Learn")
        page.evaluate("Lab.openLesson(0)")
        begin(page, 1)
        dock = page.locator(".lab-dock")
        page.wait_for_function("document.activeElement === document.querySelector('.lab-dock')")
        box = dock.bounding_box()
        assert box["y"] + box["height"] <= page.locator("#lab-tabs").bounding_box()["y"]
        assert page.locator("#lab-strip").bounding_box()["height"] <= box["y"] < height / 2
        page.locator(".lab-dock [data-do=fold]").click()
        assert dock.bounding_box()["height"] < min(box["height"] - 60, 90)
        assert page.locator(".lab-dock [data-do=fold]").get_attribute("aria-expanded") == "false"
        page.locator(".lab-dock [data-do=fold]").click()
        assert dock.bounding_box()["height"] == box["height"]


def test_the_recorded_study_of_a_lesson_stands_in_the_open_lesson(lab_page: Any) -> None:
    lab_page.locator(".lab-lessons li:nth-child(4) button").click()
    slider = lab_page.locator("#learn-stage .lab-stage-time input")
    slider.wait_for()
    assert lab_page.locator("#learn-lessons").is_hidden()
    assert lab_page.locator("#lesson-4 .lab-begin").bounding_box()["y"] < slider.bounding_box()["y"]
    slider.focus()
    slider.press("Home")
    slider.press("End")
    lab_page.wait_for_function("document.querySelectorAll('#lesson-4 .lab-tasks li.done').length === 1")


def test_the_lesson_of_the_kinds_counts_those_that_were_looked_at(page: Any) -> None:
    open_tab(page, "Learn")
    begin(page, 2)
    page.wait_for_function("Lab.read('noise-view') === 'density'")
    for kind in ("Gaussian", "Laplace", "Bernoulli"):
        ticked(page, 0)
        page.locator("#noise-kind label", has_text=kind).click()
    ticked(page, 1)
    view(page, "Norms")
    page.locator("#noise-kind label", has_text="Laplace").click()
    ticked(page, 2)


def test_the_lesson_of_the_length_wants_a_long_sentence_and_the_padded_rule(page: Any) -> None:
    open_tab(page, "Learn")
    begin(page, 3)
    box = page.locator("#noise-text textarea")
    for words in (24, 3):
        box.fill("one " * words)
        page.wait_for_function(f"Lab.facts['noise.length'] === {words}")
    ticked(page, 1)
    page.locator(".lab-unfold").click()
    page.locator("#noise-length-rule label", has_text="Padded").click()
    ticked(page, 2)


@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_a_lesson_sets_the_controls_of_a_study(lab_page: Any, number: int) -> None:
    open_tab(lab_page, "Noise")
    lab_page.locator("#noise-unit label", has_text="std").click()  # its strengths are in its own unit
    lab_page.locator("#lab-words", has_text="std").wait_for()
    open_tab(lab_page, "Learn")
    begin(lab_page, number)
    lab_page.locator("#lab-words", has_text="alpha").wait_for()
    preset = lessons()[number - 1].preset
    for name, elem_id in (("train.epochs", "train-epochs"), ("train.learning_rate", "train-learning-rate")):
        if name in preset:
            shows(lab_page, elem_id, preset[name])
    assert lab_page.locator("#train-strengths textarea, #train-strengths input").input_value() == str(
        preset["train.strengths"]
    )
    lab_page.locator("#lab-words", has_text=preset["data"].removeprefix("starter:")).wait_for()
    lab_page.locator("#train-state", has_text="Nothing has been trained yet").wait_for()  # no other study is shown
    lab_page.locator("#train-view label").nth(1).click()
    lab_page.wait_for_function("Lab.read('train-view') !== 'losses'")
    assert lab_page.locator("#train-curves .lab-empty, #train-curves.lab-empty").count() == 1


def test_a_study_that_ends_ticks_its_task_off_and_its_progress_is_in_the_title(lab_page: Any) -> None:
    begin(lab_page, 4)
    shows(lab_page, "train-epochs", lessons()[3].preset["train.epochs"])
    number(lab_page, "train-seeds", 8)  # long enough that its progress is seen
    lab_page.locator("#lab-train").click()
    lab_page.wait_for_function("/^\\d+%.* · NEFTune Lab$/.test(document.title)")
    lab_page.locator("#lab-stop").click()
    lab_page.locator("#lab-stop-discard").click()
    lab_page.wait_for_function("document.title === 'NEFTune Lab'")
    ticked(lab_page, 0)
    number(lab_page, "train-seeds", 1)
    number(lab_page, "train-epochs", 1)
    lab_page.locator("#lab-train").click()
    ticked(lab_page, 1)
    assert lab_page.evaluate("Lab.facts['study.finished']") == 1
    lab_page.wait_for_function("document.title === 'NEFTune Lab'")


@pytest.mark.slow
def test_more_seeds_replace_the_evidence_of_one_and_tick_the_tasks_of_their_lesson_off(lab_page: Any) -> None:
    begin(lab_page, 7)
    shows(lab_page, "train-seeds", 1)
    number(lab_page, "train-epochs", 1)
    lab_page.locator("#lab-train").click()
    lab_page.locator("#train-state .lab-end", has_text="a single seed").wait_for()
    lab_page.locator("#train-verdict .lab-evidence").wait_for()
    lab_page.locator("#train-more").click()  # more seeds in the same record
    lab_page.locator("#train-verdict .lab-evidence").wait_for(state="detached")  # that of one seed is gone
    lab_page.locator("#train-verdict", has_text="means over 6 seeds").wait_for(timeout=240_000)
    lab_page.locator("#train-state .lab-end", has_text="over 6 seeds").wait_for()
    ticked(lab_page, 2)


def test_a_fault_is_run_for_real_and_its_damage_is_reported(lab_page: Any) -> None:
    lab_page.locator(".lab-lessons li:nth-child(8) button").click()
    lab_page.locator("#fault-name label", has_text="newline").click()
    lab_page.locator("#fault-run").click()
    lab_page.get_by_text("Now turn the fault on").wait_for()
    assert lab_page.locator("#fault-code [data-fault=false]").count() == 1
    lab_page.locator("#fault-switch input").check()
    lab_page.locator("#fault-code [data-fault=true]").wait_for()
    lab_page.locator("#fault-run").click()
    told = lab_page.locator(".lab-fault-damage")
    told.wait_for()
    asked, lost = map(int, re.findall(r"(\d+)%", told.inner_text())[:2])
    assert asked > lost + 20
    assert (
        lab_page.evaluate("document.querySelector('#fault-curves .lab-figure-plot').labFigure.value.data.length") == 3
    )
    ticked(lab_page, 1)


def test_a_link_opens_a_lesson_and_hides_what_a_class_does_not_need(browser: Any, lab_address: str) -> None:
    with visiting(browser, lab_address, link="?lesson=3&hide=data,runs,learn,<b>") as page:
        page.locator("#lesson-3.open").wait_for()
        assert page.locator(".lab-dock b").text_content() == f"Lesson 3: {lessons()[2].title}"
        seen = page.locator("#lab-tabs > .tab-wrapper [role=tab]:visible").all_inner_texts()
        assert "Data" not in seen and "Runs" not in seen
        assert {"Learn", "Noise", "Train"} <= {name.strip() for name in seen}
        assert page.evaluate("Lab.link()").endswith("?lesson=3&hide=data%2Cruns%2Clearn%2C%3Cb%3E")
        page.locator("#lesson-3 [data-do=lessons]").click()
        page.locator(".lab-lessons").wait_for()
        assert page.evaluate("Lab.parameter('lesson')") is None


def test_learn_and_every_lesson_fit_a_phone(lab_page: Any) -> None:
    lab_page.set_viewport_size({"width": 390, "height": 844})
    assert lab_page.evaluate("document.documentElement.scrollWidth") <= 390
    for lesson in lessons():
        lab_page.evaluate(f"Lab.openLesson({lesson.number})")
        assert lab_page.evaluate("document.documentElement.scrollWidth") <= 390, lesson.title
