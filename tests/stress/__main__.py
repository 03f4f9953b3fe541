"""`python -m tests.stress NAME [--short] [--count N] [--json]`: run one suite; exit status 1 if it has findings."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import imports
from .crowd import run_crowd
from .target import run_attacks


@dataclass(frozen=True)
class Suite:
    """A named suite: what it does, and its run from (folder, short, count) to rows, each with what it `found`."""

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


def main(arguments: list[str]) -> int:
    """Run the suite that `arguments` name, print its table, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    listed = "; ".join(f"{name}: {suite.words}" for name, suite in SUITES.items())
    parser.add_argument("suite", choices=SUITES, help=listed)
    parser.add_argument("--short", action="store_true", help="a version of seconds")
    parser.add_argument("--count", type=int, help="how many cases, for suites that draw them")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
