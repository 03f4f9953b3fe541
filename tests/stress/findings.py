"""The table of a suite that looks for faults."""

from __future__ import annotations

from dataclasses import dataclass

from neftune_core.bench.table import ResultTable


@dataclass
class FindingsTable(ResultTable):
    """The results of a suite; `findings` counts the faults that it found."""

    findings: int = 0
