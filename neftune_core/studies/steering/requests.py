"""Requests to a running study, from another thread or process: one line of a file each, read between two steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from neftune_core.errors import RecordError
from neftune_core.language import say
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import parse
from neftune_core.studies.records.log import parsed
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CONTROL
from neftune_core.studies.steering.log import stopped_arms

FILE = "requests.jsonl"


def stop_arm(record: Record, arm: str) -> None:
    """Ask a running study to stop one arm after its current step; the others continue, also with later seeds.

    Args:
        record: The study.
        arm: Name of the arm.

    Raises:
        RecordError: If the study is not running, or the arm cannot be stopped.
    """
    if not record.is_running():
        raise RecordError(say("This study is not running: only an arm that is being trained can be stopped."))
    if arm == CONTROL.name:
        raise RecordError(say("Every arm is compared with the control: stop the whole study instead."))
    stopped = {name for own in stopped_arms(record.events()).values() for name in own}
    running = [name for name in record.arms if name != CONTROL.name and name not in stopped]
    if arm not in running:
        words = say("The arm {arm!r} is not being trained: name one of {arms}.", arm=arm[:60], arms=", ".join(running))
        raise RecordError(words if running else say("No arm but the control is being trained: stop the whole study."))
    _ask(record, {"stop": arm})


def set_strength(record: Record, strength: float) -> None:
    """Change the strength of a live study's first noise arm from its next step on.

    Args:
        record: The study.
        strength: The strength, in the unit of the arm.

    Raises:
        RecordError: If the study is not live, or is not running.
        InvalidSetting: If the strength is out of range.
    """
    study = record.study
    if not study.live:
        raise RecordError(say("Only the noise of a live study can be changed while it trains."))
    if not record.is_running():
        raise RecordError(say("This study is not running: its noise can be changed only while it trains."))
    checked = parse(NoiseSettings, study.noise[0].model_dump() | {"strength": strength})
    _ask(record, {"strength": checked.strength})


def _ask(record: Record, request: dict[str, Any]) -> None:
    with (record.folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(request) + "\n")


def forget(record: Record) -> None:
    """Remove requests that an earlier run left unread."""
    (record.folder / FILE).unlink(missing_ok=True)


class Requests:
    """Reads the requests to a record, each once.

    Args:
        record: The record.
    """

    def __init__(self, record: Record) -> None:
        self.path, self.size = record.folder / FILE, 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield the requests since the last call; an incomplete last line is left for the next one."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.size)
                block = file.read()
        except OSError:
            return
        whole = block[: block.rfind(b"\n") + 1]
        self.size += len(whole)
        yield from filter(None, map(parsed, whole.splitlines()))
