"""Copy a finished sweep to assets/recorded: `python -m tests.tools.recorded SWEEP NAME`.

Adapters, checkpoints and claims are not copied; settings, logs and numbers are. Prints its tables for
assets/docs/sweeps.md.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from neftune_core.evaluation.measures import MEASURES
from neftune_core.home import assets
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.table import SweepTable, TableRow, sweep_table

KEPT = ("sweep.toml", "study.toml", "record.json", "events.jsonl", "examples.jsonl", "metrics.json", "answers.jsonl")
SHOWN = ("exact", "right", "held_out_loss")


def keep(sweep: Sweep, name: str, folder: Path | None = None) -> Sweep:
    """Copy the files of a sweep that are distributed to `folder/name`."""
    target = (folder or assets() / "recorded") / name
    shutil.rmtree(target, ignore_errors=True)
    for path in sorted(sweep.folder.rglob("*")):
        if path.name in KEPT and path.is_file():
            copy = target / path.relative_to(sweep.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return Sweep(target)


def markdown(table: SweepTable, measures: tuple[str, ...] = SHOWN) -> str:
    """Return a table of the base and every setting: means at the last epoch, and differences from the control."""
    known = [name for name in measures if name in table.measures]
    heads = ["setting", *(head for name in known for head in (name, "minus control"))]
    rows = [[*_cells(row, known)] for row in table.shown]
    filled = [place for place in range(len(heads)) if any(row[place] for row in rows)]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line[place] for place in filled) + " |" for line in lines)


def _cells(row: TableRow, measures: list[str]) -> Iterator[str]:
    yield f"{row.cell}: {row.arm}" if row.cell else row.arm
    for measure in measures:
        value = row.mean(measure, "last")
        yield f"{100 * value:.1f}%" if MEASURES[measure].is_share else f"{value:.3g}"
        found = row.effects.get(measure, {}).get("last")
        if found is None or found.interval is None:
            yield ""
        else:
            numbers = (found.difference, found.interval.low, found.interval.high)
            yield "{} [{}, {}]".format(*(_difference(number, measure) for number in numbers))


def _difference(number: float, measure: str) -> str:
    """Format a difference; those of shares are in percentage points."""
    if MEASURES[measure].is_share:
        return f"{100 * number:+.1f}"
    return f"{number:+.3f}" if abs(number) < 0.1 else f"{number:+.2f}"


if __name__ == "__main__":
    kept = sweep_table(keep(Sweep(Path(sys.argv[1]).resolve()), sys.argv[2]))
    print(markdown(kept))
    print("\n" + (kept.verdict.text() if kept.verdict else ""))
