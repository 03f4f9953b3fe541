"""The lessons: `assets/lessons/*.md`, each with a front matter in TOML between two lines of +++.

    title    its name; tab: the tab that its controls are on
    [preset] what the page is set to, by the parameters of a link (`noise.strength`, `view`, `train.epochs`, `data`)
    [[task]] text: what to do; when: a condition on the page's state that ticks it off

A condition is one or more comparisons joined by `and`, as in `noise.strength >= 40 and noise.flips >= 1`; the names are
those of `facts.KNOWN`.
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_core import language
from neftune_core.home import assets
from neftune_core.lessons.facts import KNOWN

TABS = ("Learn", "Noise", "Data", "Train", "Compare", "Sweep", "Runs")
_COMPARISON = re.compile(r"([a-z_.]+) (>=|<=|=|!=) ([\w.+-]+)")


@dataclass(frozen=True)
class Task:
    """What to do, and when it is done."""

    text: str
    when: str


@dataclass(frozen=True)
class Lesson:
    """One lesson; `number` from 1 is its place and its name in links, `text` is Markdown."""

    number: int
    title: str
    tab: str
    minutes: int
    preset: dict[str, Any]
    tasks: tuple[Task, ...]
    text: str
    faults: bool = False


def comparisons(condition: str) -> list[tuple[str, str, str]]:
    """(name, operator, value) of each part of a condition; raises `ValueError` where it is none, or unknown."""
    found = []
    for part in condition.split(" and "):
        match = _COMPARISON.fullmatch(part.strip())
        if match is None or match[1] not in KNOWN:
            raise ValueError(f"{part!r} is no condition on the page's state")
        found.append((match[1], match[2], match[3]))
    return found


def read_lesson(path: Path, number: int) -> Lesson:
    """The lesson in a file; raises `ValueError` with what is wrong with it."""
    _, front, text = path.read_text(encoding="utf-8").split("+++\n", 2)
    said = tomllib.loads(front)
    tasks = tuple(Task(**task) for task in said.pop("task", []))
    for task in tasks:
        comparisons(task.when)
    if said.get("tab") not in TABS or not tasks:
        raise ValueError(f"{path.name} names no tab, or has no task")
    return Lesson(number=number, preset=said.pop("preset", {}), tasks=tasks, text=text.strip(), **said)


def lessons() -> tuple[Lesson, ...]:
    """All lessons in the order of their files' names, each in the current language where it was written in it."""
    return _lessons(language.current())


@functools.cache
def _lessons(code: str) -> tuple[Lesson, ...]:
    paths = sorted((assets() / "lessons").glob("[0-9]*.md"))
    with language.in_language(code):
        return tuple(read_lesson(lesson_file(path.name), number) for number, path in enumerate(paths, start=1))


def lesson_file(name: str) -> Path:
    """The file of that name in the current language, `assets/lessons/zh/`; the English one where there is none."""
    folder = assets() / "lessons"
    translated = folder / language.current() / name
    return translated if translated.is_file() else folder / name
