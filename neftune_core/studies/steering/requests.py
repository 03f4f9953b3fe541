"""Requests to a running study from another thread or process, stored as lines of a file and read between steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from neftune_core.errors import RecordError
from neftune_core.language import later, say
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import parse
from neftune_core.studies.records.log import parsed
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CONTROL, StudySettings
from neftune_core.studies.steering.log import stopped_arms

FILE, CLOSED = "requests.jsonl", "closed"


def stop_arm(record: Record, arm: str) -> None:
    """Request that a running study stop training one arm after the current step, for this and all later seeds.

    Args:
        record: Record of the study.
        arm: Name of the arm.

    Raises:
        RecordError: If the study is not running, its training is over, or the arm cannot be stopped.
    """
    if not record.is_running():
        raise RecordError(say("This study is not running: only an arm that is being trained can be stopped."))
    if arm == CONTROL.name:
        raise RecordError(say("Every arm is compared with the control: stop the whole study instead."))
    ended = _ended_arms(record)
    running = [name for name in record.arms if name != CONTROL.name and name not in ended]
    if not running:
        raise RecordError(say("Only the control is being trained: stop the whole study."))
    if arm not in running:
        words = later("The arm {arm!r} is not being trained: choose one of {arms}.")
        raise RecordError(say(words, arm=arm[:60], arms=", ".join(running)))
    _ask(record, {"stop": arm})


def set_strength(record: Record, strength: float) -> None:
    """Request a new strength for a live study's first noise arm, for this and all later seeds.

    The strength changes after the current step.

    Args:
        record: Record of the study.
        strength: The strength, in the unit of the arm.

    Raises:
        RecordError: If the study is not live or not running, its training is over, or the arm is no longer trained.
        InvalidSetting: If the strength is out of range.
    """
    study = record.study
    if not study.live:
        raise RecordError(say("The noise can be changed during training only in a live study."))
    if not record.is_running():
        raise RecordError(say("This study is not running: its noise can be changed only while it trains."))
    checked = parse(NoiseSettings, study.noise[0].model_dump() | {"strength": strength})
    if study.live_arm in _ended_arms(record):
        words = later("The arm {arm!r} is no longer being trained: its noise was not changed.")
        raise RecordError(say(words, arm=study.live_arm))
    _ask(record, {"strength": checked.strength})


def last_seed(study: StudySettings) -> int:
    """Return the last seed that trains an arm other than the control."""
    return [seed for seed, names in study.runs.items() if {*names} - {CONTROL.name}][-1]


def _ended_arms(record: Record) -> set[str]:
    """Return the arms that were stopped, and those that diverged for the last seed."""
    events, last = record.events(), last_seed(record.study)
    lost = (event for event in events if event["event"] == "diverged" and event.get("seed") == last)
    return {name for own in (*stopped_arms(events).values(), *(event["arms"] for event in lost)) for name in own}


def _ask(record: Record, request: dict[str, Any]) -> None:
    """Append a request; raise `RecordError` if the study no longer accepts requests.

    Each line is appended in one write, so that requests before and after the closing line can be distinguished.
    """
    with (record.folder / FILE).open("ab", buffering=0) as file:
        file.write(json.dumps(request).encode() + b"\n")
        before = file.tell()
    if any(CLOSED in line for line in _parsed((record.folder / FILE).read_bytes()[:before])):
        raise RecordError(say("The training is over or in its last step, so nothing was changed."))


def forget(record: Record) -> None:
    """Remove the requests of an earlier run."""
    (record.folder / FILE).unlink(missing_ok=True)


class Requests:
    """Reader of the requests to a record.

    Args:
        record: Record of the running study.

    Attributes:
        kept: Requests that the next call of `new` returns again.
        unmet: Accepted requests that were not applied because no step followed.
    """

    def __init__(self, record: Record) -> None:
        self.path, self.size, self.is_closed = record.folder / FILE, 0, False
        self.kept: list[dict[str, Any]] = []
        self.unmet: list[dict[str, Any]] = []

    def new(self) -> list[dict[str, Any]]:
        """Return the kept requests and all new ones; an incomplete last line is left for the next call."""
        found, self.kept = self.kept, []
        try:
            with self.path.open("rb") as file:
                file.seek(self.size)
                block = file.read()
        except OSError:
            return found
        whole = block[: block.rfind(b"\n") + 1]
        self.size += len(whole)
        return [*found, *takewhile(lambda one: CLOSED not in one, _parsed(whole))]

    def close(self) -> list[dict[str, Any]]:
        """Refuse all further requests, and return those not read yet and the kept ones; [] if already closed."""
        if self.is_closed:
            return []
        self.is_closed = True
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps({CLOSED: True}).encode() + b"\n")
        return self.new()


def _parsed(lines: bytes) -> Iterator[dict[str, Any]]:
    return filter(None, map(parsed, lines.splitlines()))
