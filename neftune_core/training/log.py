"""The log of a record: one event a line, appended as it happens, and readable while it grows however it was damaged."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]

COUNTED = ("step", "evaluated")
"""Events that happen once for each seed and step; their losses are drawn."""
LOSSES = ("loss", "train_loss", "held_out_loss")
TAIL = 64


class Log:
    """The events of one log as far as they can be read; `read` takes in what is new since the last time.

    `skipped` counts the lines that are no events, `doubled` those that stand there a second time; neither is among the
    `events`. A last line without its end is left for the next time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self.events: list[Event] = []
        self.size = self.skipped = self.doubled = 0
        self._tail = b""
        self._seen: set[Any] = set()

    def read(self) -> list[Event]:
        """All events so far, in their order; begins anew where the log was cut back, as before a run goes on."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.size - len(self._tail))
                if file.read(len(self._tail)) != self._tail:
                    self._forget()
                    file.seek(0)
                block = file.read()
        except OSError:
            self._forget()
            return []
        whole = block[: block.rfind(b"\n") + 1]
        if whole:
            self.size += len(whole)
            self._tail = (self._tail + whole)[-TAIL:]
            self.events = [*self.events, *self._new(whole)]
        return self.events

    def _new(self, block: bytes) -> Iterator[Event]:
        for line in block.splitlines():
            event = parsed(line)
            if event is None or not _is_event(event):
                self.skipped += bool(line.strip())
                continue
            counted = event["event"] in COUNTED
            key = (event["event"], event.get("seed"), event["step"]) if counted else line
            if key in self._seen:
                self.doubled += 1
                continue
            self._seen.add(key)
            yield event


def append(path: Path, event: Event, *, flushed: bool = True) -> None:
    """Write one event as a whole line; what a full disk or a killed process left of a line stays a line of its own.

    With `flushed` it is on the disk when this returns, and so is all that was written before it.
    """
    line = json.dumps(finite(event), ensure_ascii=False, allow_nan=False).encode() + b"\n"
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        if flushed:
            file.flush()
            os.fsync(file.fileno())


def as_text(events: list[Event]) -> str:
    """Events as the lines of a log."""
    return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)


def parsed(line: bytes) -> dict[str, Any] | None:
    """A line as a JSON object; None for anything else, numbers that JSON does not have included."""
    try:
        entry = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _is_event(entry: dict[str, Any]) -> bool:
    """Whether a line has what every reader relies on: a name, and where it has a step or arms, what these are."""
    name, step, seed, arms = (entry.get(part) for part in ("event", "step", "seed", "arms"))
    if not isinstance(name, str) or not isinstance(seed, int | None) or not isinstance(step, int | None):
        return False
    if name not in COUNTED:
        return True
    if step is None or not isinstance(arms, dict) or not isinstance(entry.get("steps", 0), int):
        return False
    return all(_is_measured(numbers) for numbers in arms.values())


def _is_measured(numbers: Any) -> bool:
    return isinstance(numbers, dict) and all(isinstance(numbers.get(loss), int | float | None) for loss in LOSSES)


def finite(value: Any) -> Any:
    """The same nested value with NaN and infinities as None: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
