"""The results of a benchmark, with the machine on which they were measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from neftune_core.models.device import describe_machine


@dataclass
class ResultTable:
    """The results of one benchmark run.

    Attributes:
        title: Heading of the table.
        machine: Description of the machine.
        rows: Cells of each row by column; units are part of the name of the row or column.
        notes: Remarks shown below the table.
    """

    title: str
    machine: dict[str, Any] = field(default_factory=describe_machine)
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, values: Sequence[float], goal: str = "") -> None:
        """Add a row with the median, minimum and maximum of several runs.

        Args:
            what: Name and unit.
            values: One value per run.
            goal: The target; "" for none.
        """
        spread = {"median": float(statistics.median(values)), "min": float(min(values)), "max": float(max(values))}
        self.rows.append({"what": what} | spread | ({"to reach": goal} if goal else {}))

    def as_json(self) -> dict[str, Any]:
        """Return the table as a dictionary for JSON."""
        return {"title": self.title, "machine": self.machine, "rows": self.rows, "notes": self.notes}

    def as_markdown(self) -> str:
        """Return the table as Markdown, with the machine above and the notes below."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        lines = [f"### {self.title}", "", ", ".join(f"{k}: {v}" for k, v in self.machine.items()), ""]
        lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
        lines += ["| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |" for row in self.rows]
        lines += [""] + [f"* {note}" for note in self.notes]
        return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else str(value)


def seconds_of(work: Callable[[], object], times: int = 1) -> float:
    """Measure the mean time of a function over several calls.

    Args:
        work: A function without arguments.
        times: Number of calls.

    Returns:
        Seconds per call.
    """
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times
