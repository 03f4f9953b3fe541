"""Run one suite: `python -m tests.stress NAME [--short] [--count N] [--json]`; exit status 1 with findings."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.stress.findings import FindingsTable

from . import imports
from .crowd import run_crowd
from .families.summary import measure_families
from .faults.summary import TINY, measure_faults
from .fuzz import CASES, measure_fuzz
from .load import SHORT, Load, measure_load
from .target import run_attacks


@dataclass(frozen=True)
class Suite:
    """A named suite: its description, and a function from (folder, short, count) to rows with a `found` column."""

    words: str
    run: Callable[[Path, bool, int | None], list[dict[str, Any]]]


SUITES = {
    "attacks": Suite("every attack on a served lab", lambda folder, short, count: run_attacks(folder)),
    "crowd": Suite(
        "40 sessions for 2 minutes, hostile ones among them",
        lambda folder, short, count: run_crowd(folder, short=short),
    ),
    "imports": Suite("fuzzed records brought in (2,000, or --count)", imports.run),
}


def _faults(asked: argparse.Namespace) -> FindingsTable:
    return measure_faults(asked.model)


def _fuzz(asked: argparse.Namespace) -> FindingsTable:
    return measure_fuzz(asked.count or CASES)


def _families(asked: argparse.Namespace) -> FindingsTable:
    return measure_families(asked.file)


def _load(asked: argparse.Namespace) -> FindingsTable:
    load = SHORT if asked.short else Load()
    return measure_load(replace(load, parts=tuple(asked.parts)) if asked.parts else load)


TABLES: dict[str, tuple[str, Callable[[argparse.Namespace], FindingsTable]]] = {
    "faults": ("faults that a study must survive: killed, stopped, a full disk and the like (--model)", _faults),
    "fuzz": ("hostile uploads and calls (2,000, or --count)", _fuzz),
    "families": ("every family of models against its own code (--file keeps the outcomes)", _families),
    "load": ("many users at once; half an hour (--parts noise studies mixed killed)", _load),
}
"""Suites that give a table of figures; a table counts its `findings`."""


def main(arguments: list[str]) -> int:
    """Run the suite named in `arguments`, print its table, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    listed = "; ".join(f"{name}: {suite.words}" for name, suite in SUITES.items())
    listed += "".join(f"; {name}: {words}" for name, (words, _) in TABLES.items())
    parser.add_argument("suite", choices=[*SUITES, *TABLES], help=listed)
    parser.add_argument("--short", action="store_true", help="a version of seconds")
    parser.add_argument("--count", type=int, help="how many cases, for suites that draw them")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--model", default=TINY, help="of faults: the model that is trained")
    parser.add_argument("--file", type=Path, help="of families: a file for the outcomes, as assets/docs/families.json")
    parser.add_argument("--parts", nargs="*", default=[], help="of load: only these")
    asked = parser.parse_args(arguments)
    if asked.suite in TABLES:
        return _tabled(asked)
    with tempfile.TemporaryDirectory() as folder:
        rows = SUITES[asked.suite].run(Path(folder), asked.short, asked.count)
    findings = sum(bool(row["found"]) for row in rows)
    if asked.json:
        print(json.dumps({"suite": asked.suite, "rows": rows, "findings": findings}, indent=2))
    else:
        for row in rows:
            print("  ".join(f"{name}: {value}" for name, value in row.items()))
        print(f"{findings} findings")
    return 1 if findings else 0


def _tabled(asked: argparse.Namespace) -> int:
    """Run a suite of `TABLES`, print its table, and return the exit status."""
    table = TABLES[asked.suite][1](asked)
    print(json.dumps(table.as_json(), indent=2) if asked.json else table.as_markdown())
    return 1 if table.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
