"""Answers and votes as files that others read: JSONL, and CSV that a spreadsheet does not run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a cell begins with that a spreadsheet would run as a formula; the apostrophe before it shows it as text."""

COLUMNS = ("prompt", "sample", "reference", "arm", "text", "tokens", "characters", "ended", "repetition", "rouge_l")

Line = Mapping[str, Any]


def as_jsonl(lines: Sequence[Line]) -> str:
    """One object a prompt, as the comparison gave them."""
    return "".join(json.dumps(dict(line), ensure_ascii=False) + "\n" for line in lines)


def as_csv(lines: Sequence[Line]) -> str:
    """One row an answer; a `vote` of the line stands in each of its rows."""
    names = [*COLUMNS, "vote"] if any("vote" in line for line in lines) else list(COLUMNS)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for line in lines:
        for arm, answer in line["arms"].items():
            row = {**line, **answer, "arm": arm}
            writer.writerow([_cell(row.get(name)) for name in names])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return "'" + value if value.startswith(FORMULA) else value
    return "" if value is None else value


WRITERS: dict[str, Callable[[Sequence[Line]], str]] = {"jsonl": as_jsonl, "csv": as_csv}
