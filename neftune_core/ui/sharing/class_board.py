"""The board of a class: the numbers and curves of its studies, without any text written by students."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from neftune_core.errors import LabError
from neftune_core.figures.class_overlay import ClassStudy
from neftune_core.figures.colours import CONTROL
from neftune_core.figures.curves import downsample, mean_of_seeds, select_seeds, shared_seeds
from neftune_core.studies.records.log import Event
from neftune_core.studies.records.record import ENDINGS, Record
from neftune_core.studies.results import mean_results
from neftune_core.studies.sharing.classes import Classroom

SECONDS = 0.5
"""Maximum age of a board; with the polling interval, a page shows a board at most two seconds old."""
KEPT_CLASSES, KEPT_STUDIES, KEPT_BOARDS = 50, 3_000, 100
LOSS = "held_out_loss"

Points = dict[Any, tuple[list[int], list[float]]]


@dataclass(frozen=True)
class Board:
    """The content of the board of one class.

    Attributes:
        version: Hash of the content.
        students: Number of students who have joined.
        studies: Studies with a held-out loss, newest first.
        unmeasured: Number of studies without a held-out loss.
    """

    version: int
    students: int
    studies: tuple[ClassStudy, ...]
    unmeasured: int

    @property
    def over(self) -> int:
        """Number of studies with a final difference from the control."""
        return sum(bool(study.differences) for study in self.studies)


@dataclass
class ClassBoards:
    """The boards of all classes on one server; a study is read again only if its log has grown."""

    _boards: OrderedDict[str, tuple[float, Board]] = field(default_factory=OrderedDict)
    _shown: OrderedDict[tuple[str, int], Board] = field(default_factory=OrderedDict)
    _studies: OrderedDict[str, tuple[int, ClassStudy]] = field(default_factory=OrderedDict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def of(self, room: Classroom) -> Board:
        """Return the board of a class, computed at most `SECONDS` seconds ago."""
        with self._guard:
            made, board = self._boards.get(room.code, (float("-inf"), None))
            if board is None or time.monotonic() - made >= SECONDS or board.students != len(room.students):
                board = self._read(room)
                _keep(self._boards, room.code, (time.monotonic(), board), KEPT_CLASSES)
                _keep(self._shown, (room.code, board.version), board, KEPT_BOARDS)
            return board

    def shown(self, code: str, version: int) -> Board | None:
        """Return a version of a board that a page shows.

        Args:
            code: Code of the class.
            version: Version of the board.

        Returns:
            The board; None if it is no longer cached.
        """
        with self._guard:
            return self._shown.get((code, version))

    def _read(self, room: Classroom) -> Board:
        found = [self._study(number, record) for number, record in room.records()]
        shown = tuple(study for study in found if study is not None and study.curves)
        version = hash((len(room.students), tuple((one.student, _sizes(one)) for one in shown)))
        return Board(version, len(room.students), shown, len(found) - len(shown))

    def _study(self, number: int, record: Record) -> ClassStudy | None:
        """Return a study, from the cache if its log has not grown; None if it cannot be read."""
        try:
            size = (record.folder / "events.jsonl").stat().st_size
            known = self._studies.get(record.id)
            if known is None or known[0] != size or known[1].student != number:
                known = size, class_study(number, record)
                _keep(self._studies, record.id, known, KEPT_STUDIES)
            return known[1]
        except (OSError, LabError, ArithmeticError, LookupError, TypeError, ValueError):
            return None  # before its first event, removed in the meantime, or damaged


def _keep(kept: OrderedDict[Any, Any], name: Any, value: Any, most: int) -> None:
    """Cache a value as the newest, and drop the oldest beyond `most` values."""
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > most:
        kept.popitem(last=False)


def _sizes(study: ClassStudy) -> tuple[object, ...]:
    curves = tuple((name, len(steps), losses[-1]) for name, (steps, losses) in study.curves.items())
    return curves, tuple(study.differences.items())


def class_study(number: int, record: Record) -> ClassStudy:
    """Return the numbers of a study that its class can see.

    Args:
        number: Number of the student.
        record: The study.

    Returns:
        The study without any text.
    """
    events = record.events()
    arms, shared = record.arms, shared_seeds(events)
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for arm in arms:
        seeds = _held_out(events, arm)
        if seeds:
            curves[arm] = downsample(*mean_of_seeds(select_seeds(seeds, shared)))
    is_over = any(event["event"] in ENDINGS for event in events)
    return ClassStudy(number, arms, curves, _differences(record) if is_over and len(curves) > 1 else {})


def _held_out(events: Sequence[Event], arm: str) -> Points:
    """Return the steps and held-out losses of an arm, by seed."""
    seeds: Points = {}
    for event in events:
        loss = event.get("arms", {}).get(arm, {}).get(LOSS) if event["event"] == "evaluated" else None
        if loss is not None:
            steps, losses = seeds.setdefault(event.get("seed"), ([], []))
            steps.append(event["step"])
            losses.append(loss)
    return seeds


def _differences(record: Record) -> dict[str, float]:
    last = mean_results(record).last
    control = last.get(CONTROL, {}).get(LOSS)
    if control is None:
        return {}
    return {
        name: found[LOSS] - control for name, found in last.items() if name not in (CONTROL, "base") and LOSS in found
    }
