"""The Chinese lessons differ from the English ones only in their text."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from neftune_core.home import assets
from neftune_core.lessons.files import read_lesson

ENGLISH = assets() / "lessons"
CHINESE = ENGLISH / "zh"
NAMES = sorted(path.name for path in ENGLISH.glob("*.md"))
LESSONS = [name for name in NAMES if name[0].isdigit()]
HAN = re.compile(r"[\u4e00-\u9fff]")
FORMULA = re.compile(r"\$\$.+?\$\$|\$.+?\$")


def body(path: Path) -> str:
    """Return the Markdown of a file without its front matter."""
    return path.read_text(encoding="utf-8").split("+++\n")[-1].strip()


def test_every_lesson_is_there_in_both_languages() -> None:
    assert sorted(path.name for path in CHINESE.glob("*.md")) == NAMES


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_sets_and_checks_the_same_in_both_languages(name: str) -> None:
    english, chinese = read_lesson(ENGLISH / name, 1), read_lesson(CHINESE / name, 1)
    assert [task.when for task in chinese.tasks] == [task.when for task in english.tasks]
    assert dataclasses.replace(chinese, title="", text="", seen="", tasks=()) == dataclasses.replace(
        english, title="", text="", seen="", tasks=()
    )
    assert list(chinese.preset) == list(english.preset)
    for words in (chinese.title, chinese.seen, *(task.text for task in chinese.tasks)):
        assert HAN.search(words)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_has_the_same_parts_and_formulas_in_both_languages(name: str) -> None:
    english, chinese = body(ENGLISH / name), body(CHINESE / name)
    marks = re.compile(r"^(#+|\*) ", re.MULTILINE)
    assert marks.findall(chinese) == marks.findall(english)
    assert sorted(FORMULA.findall(chinese)) == sorted(FORMULA.findall(english))
    own, others = chinese.split("\n\n"), english.split("\n\n")
    assert len(own) == len(others)
    assert [part for part in own if not part.startswith("$$") and not HAN.search(part)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_line_of_chinese_is_a_whole_paragraph(name: str) -> None:
    # A page shows a line break within a paragraph as a space, which Chinese does not have.
    broken = [part.split("\n") for part in body(CHINESE / name).split("\n\n") if "\n" in part]
    assert [line for lines in broken for line in lines if not line.startswith("* ")] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_marks_of_emphasis_are_read_as_such(name: str) -> None:
    # Beside Chinese punctuation CommonMark takes the stars of `**Word.**then` for stars.
    text = FORMULA.sub("", body(CHINESE / name))
    assert not re.search(r"[^\s\w*]\*+[\w]", re.sub(r"\*+[^*\n]+[\w]\*+", "", text))
