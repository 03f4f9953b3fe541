"""Event log of a record: one JSON object per line, appended as events occur.

A log can be read during a run and after damage. The module also writes JSONL and CSV for export.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neftune_core.bounded_io import count_values, read_lines
from neftune_core.durable import sync
from neftune_core.studies.records.schema import COUNTED, LINE_BYTES, OWN_LOG_BYTES, event_of

Event = dict[str, Any]

TAIL = 64
VALUES_A_LINE = 4
"""Number of values added to the count of each line, because even empty lines take memory and time."""


class Log:
    """Incremental reader of one event log.

    Args:
        path: Path of the log.
        most_bytes: Maximum number of bytes to read.
        most_values: Maximum number of JSON values to read; None for no limit.

    Attributes:
        events: Events read so far, in order.
        skipped: Number of lines that are not valid events.
        doubled: Number of duplicate events, which are left out of `events`.
        cut: Whether the log exceeds a limit and was not read to the end.
    """

    def __init__(self, path: Path, most_bytes: int = OWN_LOG_BYTES, most_values: int | None = None) -> None:
        self.path, self.most_bytes, self.most_values = path, most_bytes, most_values
        self.events: list[Event] = []
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.size = self.skipped = self.doubled = self._values = 0
        self.cut = False
        self._tail = b""
        self._file = self._changed = 0
        self._seen: set[Any] = set()

    def read(self) -> list[Event]:
        """Read new events, and return all events so far; an incomplete last line is left for the next call.

        A log that was rewritten, as before a run resumes, is read again from the start. Several threads may share the
        reader.
        """
        with self._lock:
            self.events = self._read()
            return self.events

    def _read(self) -> list[Event]:
        events = self.events
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                is_edited = found.st_size == self.size and found.st_mtime_ns != self._changed
                file.seek(self.size - len(self._tail))
                if is_edited or found.st_ino != self._file or file.read(len(self._tail)) != self._tail:
                    self._reset()
                    events = []
                    file.seek(0)
                self._file, self._changed = found.st_ino, found.st_mtime_ns
                if self.cut:
                    return events
                block = file.read(self.most_bytes - self.size)
                self.cut = bool(file.read(1))
        except OSError:
            self._reset()
            return []
        whole = block[: block.rfind(b"\n") + 1]
        if whole:
            self.size += len(whole)
            self._tail = (self._tail + whole)[-TAIL:]
            events = [*events, *self._parse(whole)]
        return events

    def _parse(self, block: bytes) -> Iterator[Event]:
        for line in read_lines(io.BytesIO(block), LINE_BYTES):
            self._values += VALUES_A_LINE + count_values(line)
            if self.most_values is not None and self._values > self.most_values:
                self.cut = True
                return
            event = event_of(line)
            if event is None:
                self.skipped += bool(line.strip())
                continue
            is_counted = event["event"] in COUNTED
            key = (event["event"], event.get("seed"), event["step"]) if is_counted else line
            if key in self._seen:
                self.doubled += 1
            else:
                self._seen.add(key)
                yield event


class RecentLogs:
    """Event logs that were read recently in this process, so that each is parsed only once.

    The events are shared: callers must not change them.

    Args:
        most: Maximum number of logs.
        most_bytes: Maximum size of all logs in bytes, if there is more than one.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most, self.most_bytes = most, most_bytes
        self._logs: OrderedDict[tuple[Path, int, int | None], Log] = OrderedDict()
        self._lock = threading.Lock()

    def shared(self, unread: Log) -> Log:
        """Return the reader of a log that all callers share; it may not have read new events yet.

        Args:
            unread: A new reader of the log. It is returned if there is none yet with the same path and limits.

        Returns:
            The reader.
        """
        key = unread.path.absolute(), unread.most_bytes, unread.most_values
        with self._lock:
            self._logs[key] = log = self._logs.get(key) or unread
            self._logs.move_to_end(key)
            while len(self._logs) > 1 and self._is_full():
                self._logs.popitem(last=False)
        return log

    def _is_full(self) -> bool:
        return len(self._logs) > self.most or sum(log.size for log in self._logs.values()) > self.most_bytes


def append(path: Path, event: Event, *, flushed: bool = True) -> None:
    """Append one event as a line; if an interrupted write left the last line incomplete, end it first.

    Args:
        path: The log.
        event: JSON-serialisable values by name.
        flushed: Whether to wait until this event and all earlier ones are on disk.
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
            sync(file.fileno())


def as_jsonl(entries: Iterable[Mapping[str, Any]]) -> str:
    """Return dictionaries as JSON Lines, such as the text of a log."""
    return "".join(json.dumps(dict(entry), ensure_ascii=False) + "\n" for entry in entries)


def parsed(line: bytes) -> dict[str, Any] | None:
    """Parse a line as a JSON object; return None if it is anything else, or contains NaN or infinity."""
    try:
        entry = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def finite(value: Any) -> Any:
    """Convert a nested value to JSON types, with NaN and infinities replaced by None."""
    if isinstance(value, np.ndarray | np.generic):
        return finite(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters of cells that a spreadsheet runs as formulas, unless an apostrophe precedes them."""


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV in which no spreadsheet interprets a text as a formula; None becomes an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value.startswith(FORMULA) else value
