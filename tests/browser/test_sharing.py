"""What one visitor shows to others: a finished study to read until its link is withdrawn, and a class of students."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from owned_study import owned_study
from page_steps import text_of
from served_lab import visiting

pytestmark = pytest.mark.browser

OWNER, TEACHER, ANN, BEN = "7e" * 32, "f0" * 32, "a1" * 32, "b2" * 32
PANEL = ".lab-link-code"
FIGURE = "document.querySelector('{} .lab-figure-plot').labFigure"
DRAWN = "document.querySelector('{} .lab-figure-plot')?.labFigure?.value?.data.length"


def link_of(page: Any, action: str, name: str) -> str:
    """Press Copy link and another button of its panel; return the query of the new link."""
    page.locator(".lab-tools [data-do=link]").click()
    page.locator(f"{PANEL} [data-do={action}]").click()
    link = text_of(page, f"{PANEL} .lab-link-code-text", f"?{name}=")
    return "?" + link.strip().partition("?")[2]


def test_a_shared_study_is_read_by_others_until_its_link_is_withdrawn(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    record = owned_study(lab_home / "runs", OWNER)
    answer = record.answers()[0]
    with visiting(browser, lab_address, key=OWNER, link=f"?job={record.id}") as owner:
        text_of(owner, "#train-state", "Finished")
        link = link_of(owner, "share", "shared")
        assert "withdraw" in owner.locator(f"{PANEL} button:visible").first.get_attribute("data-do")
        with visiting(browser, lab_address, link=link) as reader:
            text_of(reader, "#shared-about", "A study shared with you (read-only)")
            text_of(reader, "#shared-about", "alpha 15")  # the sentence of the verdict
            text_of(reader, "#shared-curves .lab-figure-summary", "Losses with noise off")
            text_of(reader, "#shared-answers", answer["arms"]["control"]["text"].split("\n")[0][:60])
            reader.locator("#shared-settings summary").click()
            text_of(reader, "#shared-settings", "learning_rate")
            assert answer["reference"][:40] not in reader.locator("#lab-shared").inner_html()  # rows are their owner's
            assert not reader.locator("#lab-tabs, #lab-train, .lab-tools [data-do=link]").first.is_visible()
            assert {*reader.locator("#lab-shared button:visible").all_inner_texts()} <= {"", "PNG", "SVG", "CSV"}
            reader.locator(".lab-tools [data-do=language]").click()
            text_of(reader, "#shared-about", "与你分享的实验")
        with visiting(browser, lab_address, link=f"?job={record.id}") as stranger:  # the id alone opens nothing
            text_of(stranger, ".lab-message", "belongs to another visitor")
        owner.locator(f"{PANEL} [data-do=withdraw]").click()
        text_of(owner, f"{PANEL} [data-word=about]", "withdrawn")
        with visiting(browser, lab_address, link=link) as reader:
            assert "Ask whoever sent it for a new one." in text_of(
                reader, "#shared-about", "This link does not lead to a study"
            )
            reader.locator("#shared-about a").click()
            reader.locator("#lab-tabs").wait_for()
            reader.goto(lab_address + "?shared=")
            reader.wait_for_function("window.Lab && document.body.dataset.labOpened")
            reader.locator("#lab-tabs").wait_for()


def test_two_students_join_a_class_and_their_studies_appear_in_it(
    browser: Any, lab_address: str, lab_home: Path
) -> None:
    with visiting(browser, lab_address, key=TEACHER) as teacher:
        link = link_of(teacher, "class", "class")
        teacher.locator(f"{PANEL} [data-do=open]").click()
        text_of(teacher, "#class-about", "You created this class")
        text_of(teacher, "#class-counts", "0 students")
        numbers, title = [], ""
        for key in (ANN, BEN):
            with visiting(browser, lab_address, key=key, link=link) as student:
                text_of(student, "#class-about", "will be shown in the class under a number")
                student.locator("#class-join").click()
                numbers.append(text_of(student, "#class-about", "You are number").partition("number ")[2])
                record = owned_study(lab_home / "runs", key)
                title = record.study.title
        assert len(set(numbers)) == 2
        text_of(teacher, "#class-counts", "2 students")
        for figure, traces in (("#class-curves", 6), ("#class-differences", 4)):
            teacher.wait_for_function(f"{DRAWN.format(figure)} === {traces}")
        text_of(teacher, "#class-differences .lab-figure-summary", "on average in 2 studies")
        last = [event for event in record.events() if event["event"] == "evaluated"][-1]
        record.append({**last, "step": last["step"] + 77})  # only what is new is sent
        newest = f"{FIGURE.format('#class-curves')}.value.data.some((trace) => trace.x.at(-1) === {last['step'] + 77})"
        teacher.wait_for_function(newest, timeout=10_000)
        assert title not in teacher.locator("#lab-class").inner_html()  # no student's texts
        with visiting(browser, lab_address, key=BEN, link=link) as student:
            text_of(student, "#class-about", "You are number")
            student.locator("#class-show").click()
            student.wait_for_function(f"{DRAWN.format('#class-curves')} === 6")
            assert not student.locator("#class-end").is_visible()
            student.locator("#class-leave").click()
            text_of(student, "#class-about", "If you join")
        teacher.wait_for_function(f"{DRAWN.format('#class-curves')} === 3")
        teacher.locator("#class-end").click()
        text_of(teacher, "#class-about", "The class has ended")
        with visiting(browser, lab_address, key=ANN, link=f"zh{link}") as student:
            text_of(student, "#class-about", "班级已经结束")
            student.locator("#lab-tabs").wait_for()
