"""The board of a class: the numbers and curves of its studies, without any text written by students."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from neftune_core.errors import LabError
from neftune_core.figures.class_overlay import ClassStudy
from neftune_core.figures.colours import CONTROL
from neftune_core.figures.curves import downsample, gather_losses, mean_of_seeds, select_seeds, shared_seeds
from neftune_core.studies.records.record import ENDINGS, Record
from neftune_core.studies.results import mean_results
from neftune_core.studies.sharing.classes import Classroom
from neftune_core.ui.server.recent import Recent

SECONDS = 0.5
"""Maximum age of a board; with the polling interval, a page shows a board at most two seconds old."""
KEPT_CLASSES, KEPT_STUDIES, KEPT_BOARDS = 50, 3_000, 100
LOSS = "held_out_loss"


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


class ClassBoards:
    """The boards of all classes on one server; a study is read again only if its log has grown."""

    def __init__(self) -> None:
        self._boards: Recent[tuple[float, Board]] = Recent(KEPT_CLASSES)
        self._shown: Recent[Board] = Recent(KEPT_BOARDS)
        self._studies: Recent[tuple[int, ClassStudy]] = Recent(KEPT_STUDIES)
        self._guard = threading.Lock()

    def of(self, room: Classroom) -> Board:
        """Return the board of a class, computed at most `SECONDS` seconds ago."""
        with self._guard:
            made, board = self._boards.get(room.code, (float("-inf"), None))
            if board is None or time.monotonic() - made >= SECONDS or board.students != len(room.students):
                board = self._read(room)
                self._shown[room.code, board.version] = board
                self._boards[room.code] = time.monotonic(), board
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
                self._studies[record.id] = known = size, class_study(number, record)
            return known[1]
        except (OSError, LabError, ArithmeticError, LookupError, TypeError, ValueError):
            return None  # before its first event, removed in the meantime, or damaged


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
    arms, shared, losses = record.arms, shared_seeds(events), gather_losses(events)[LOSS]
    of_arms = {arm: {seed: points for (name, seed), points in losses.items() if name == arm} for arm in arms}
    curves = {arm: downsample(*mean_of_seeds(select_seeds(seeds, shared))) for arm, seeds in of_arms.items() if seeds}
    is_over = any(event["event"] in ENDINGS for event in events)
    return ClassStudy(number, arms, curves, _differences(record) if is_over and len(curves) > 1 else {})


def _differences(record: Record) -> dict[str, float]:
    last = mean_results(record).last
    control = last.get(CONTROL, {}).get(LOSS)
    if control is None:
        return {}
    return {
        name: found[LOSS] - control for name, found in last.items() if name not in (CONTROL, "base") and LOSS in found
    }
