"""Lesson files: `assets/lessons/*.md`, each with TOML front matter between two lines of +++.

    title    name of the lesson
    tab      tab with the controls of the lesson
    minutes  duration of the lesson in minutes
    seen     what readers should have observed, shown at the end
    faults   true if the faults of the training script can be run below the text
    stage    true if the recorded study is shown below the text
    [preset] values of the page, under the names used in links (`noise.strength`, `view`, `train.epochs`, `data`)
    [[task]] `text`, the task, and `when`, the condition on the page's state that completes it

A condition is one or more comparisons joined by `and`, as in `noise.strength >= 40 and noise.flips >= 1`, or several of
these joined by `or`. `assets/lessons/facts.toml` lists the names.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_core.errors import RecordError
from neftune_core.home import assets
from neftune_core.language import current
from neftune_core.studies.records.record import Record

KNOWN = frozenset(
    f"{group}.{name}"
    for group, names in tomllib.loads((assets() / "lessons" / "facts.toml").read_text(encoding="utf-8")).items()
    for name in names
)
"""Names of all facts."""


def study_facts(record: Record) -> dict[str, float]:
    """Return the facts about a study that can be computed from its record, by name; empty without readable settings.

    Losses are in nats per response token, averaged over the seeds, with noise off.
    """
    try:
        study = record.study
    except RecordError:
        return {}
    found = {
        "study.noise_arms": float(len(study.noise)),
        "study.seeds": float(study.seeds),
        "study.epochs": float(study.training.epochs),
    }
    alphas = [noise.strength for noise in study.noise if noise.unit == "alpha"]
    if alphas:
        found |= {"study.strongest": max(alphas), "study.weakest": min(alphas)}
    ending = record.ending()
    found["study.finished"] = float(ending is not None and ending["event"] == "finished")
    losses = held_out_losses(record.events())
    last = {arm: curve[-1] for arm, curve in losses.items()}
    noisy = [last[name] for name, noise in study.arms.items() if not noise.is_silent and name in last]
    if "control" in losses and found["study.finished"]:
        found["study.control_rise"] = losses["control"][-1] / max(min(losses["control"]), 1e-9)
        if noisy:
            found["study.worst"] = max(noisy) - last["control"]
            found["study.best"] = last["control"] - min(noisy)
    return found


def held_out_losses(events: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the held-out loss of each arm at every evaluation, averaged over the seeds that all arms share.

    Seeds that trained only a second control are ignored. Diverged arms are left out, as they have no final loss.
    """
    measured = [event for event in events if event["event"] == "evaluated"]
    arms = {arm for event in measured for arm in event["arms"]}
    seeds = {event.get("seed") for event in measured if arms <= set(event["arms"])}
    lost = {arm for event in events if event["event"] == "diverged" for arm in event.get("arms", {})}
    gathered: dict[str, dict[int, list[float]]] = {}
    for event in measured:
        for arm, numbers in event["arms"].items():
            if event.get("seed") in seeds and arm not in lost and isinstance(numbers.get("held_out_loss"), int | float):
                gathered.setdefault(arm, {}).setdefault(event["step"], []).append(numbers["held_out_loss"])
    return {arm: [sum(v) / len(v) for _, v in sorted(steps.items())] for arm, steps in gathered.items()}


TABS = ("Learn", "Noise", "Data", "Train", "Compare", "Sweep", "Runs")
_COMPARISON = re.compile(r"([a-z_.]+) (>=|<=|=|!=) ([\w.+-]+)")


@dataclass(frozen=True)
class LessonTask:
    """A task of a lesson.

    Attributes:
        text: The task.
        when: Condition on the page's state that completes the task; see `comparisons`.
    """

    text: str
    when: str


@dataclass(frozen=True)
class Lesson:
    """A lesson.

    `number`, from 1, identifies the lesson in links, and `text` is the Markdown below the front matter; the module
    docstring describes the other fields.
    """

    number: int
    title: str
    tab: str
    minutes: int
    preset: dict[str, Any]
    tasks: tuple[LessonTask, ...]
    text: str
    seen: str
    faults: bool = False
    stage: bool = False


def comparisons(condition: str) -> list[tuple[str, str, str]]:
    """Return (name, operator, value) for each comparison in a condition.

    Raises:
        ValueError: If a part between `and` or `or` is not a comparison, or if its name is not a known fact.
    """
    found = []
    for part in re.split(" and | or ", condition):
        match = _COMPARISON.fullmatch(part.strip())
        if match is None or match[1] not in KNOWN:
            raise ValueError(f"{part!r} is not a condition on the page's state")
        found.append((match[1], match[2], match[3]))
    return found


def read_lesson(path: Path, number: int) -> Lesson:
    """Read a lesson from a file.

    Args:
        path: The Markdown file.
        number: Number of the lesson, from 1.

    Returns:
        The lesson.

    Raises:
        ValueError: If the front matter, the tab, a condition or the list of tasks is not valid.
    """
    _, front, text = path.read_text(encoding="utf-8").split("+++\n", 2)
    fields = tomllib.loads(front)
    tasks = tuple(LessonTask(**task) for task in fields.pop("task", []))
    for task in tasks:
        comparisons(task.when)
    if fields.get("tab") not in TABS or not tasks or not fields.get("seen"):
        raise ValueError(f"{path.name} has no known tab, no task or no text in `seen`")
    return Lesson(number=number, preset=fields.pop("preset", {}), tasks=tasks, text=text.strip(), **fields)


def lessons() -> tuple[Lesson, ...]:
    """Return all lessons, ordered by the numbers in their file names, in the current language if translated."""
    return _lessons(current())


@functools.cache
def _lessons(code: str) -> tuple[Lesson, ...]:
    paths = sorted((assets() / "lessons").glob("[0-9]*.md"), key=lambda path: int(path.name.partition("-")[0]))
    return tuple(read_lesson(lesson_file(path.name, code), number) for number, path in enumerate(paths, start=1))


def lesson_file(name: str, code: str) -> Path:
    """Return a lesson file in a language, such as `assets/lessons/zh/intro.md`, or the English one if untranslated.

    Args:
        name: Name of the file.
        code: The language, `en` or `zh`.

    Returns:
        The path.
    """
    folder = assets() / "lessons"
    translated = folder / code / name
    return translated if translated.is_file() else folder / name
