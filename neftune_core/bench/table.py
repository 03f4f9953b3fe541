"""A benchmark's result: rows of figures, and the machine they were measured on."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Table:
    """Figures of one run of a benchmark; every figure names its unit in its column.

    `findings` counts what should not have happened, in suites that look for faults.
    """

    title: str
    machine: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: int = 0

    def as_json(self) -> dict[str, Any]:
        """The table as plain values."""
        return {"title": self.title, "machine": self.machine, "rows": self.rows, "notes": self.notes}

    def as_markdown(self) -> str:
        """The table for a README, the machine above it and notes below."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        lines = [f"### {self.title}", "", ", ".join(f"{k}: {v}" for k, v in self.machine.items()), ""]
        lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
        lines += ["| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |" for row in self.rows]
        lines += [""] + [f"* {note}" for note in self.notes]
        return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else str(value)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
