"""Copy a finished sweep to assets/recorded: `python -m tests.tools.recorded SWEEP NAME`.

Adapters, checkpoints and claims are not copied; settings, logs and numbers are. Prints its tables for
assets/docs/sweeps.md.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from neftune_core.home import assets
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.table import SweepTable, TableRow, sweep_table

KEPT = ("sweep.toml", "study.toml", "record.json", "events.jsonl", "examples.jsonl", "metrics.json", "answers.jsonl")
MEASURES = ("exact", "right", "accuracy", "held_out_loss", "bleu", "rouge_l")
PERCENT = ("exact", "right", "accuracy")


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


def markdown(table: SweepTable, measures: tuple[str, ...] = MEASURES) -> str:
    """Return a table of the base and every setting: means at the last epoch, with the interval over the control."""
    known = [name for name in measures if name in table.measures]
    lines = ["| setting | seeds | " + " | ".join(known) + " |", "|" + " --- |" * (len(known) + 2)]
    lines += ["| " + " | ".join(_cells(row, known)) + " |" for row in table.shown]
    return "\n".join(lines)


def _cells(row: TableRow, measures: list[str]) -> Iterator[str]:
    yield f"{row.cell}: {row.arm}" if row.cell else row.arm
    yield "-" if row.arm == "base" else str(len(row.seeds))
    for measure in measures:
        value = row.mean(measure, "last")
        shown = f"{100 * value:.1f}%" if measure in PERCENT else f"{value:.3g}"
        found = row.effects.get(measure, {}).get("last")
        if found is not None and found.interval is not None:
            shown += f", {found.difference:+.2g} [{found.interval.low:+.2g}, {found.interval.high:+.2g}]"
        yield shown


if __name__ == "__main__":
    kept = sweep_table(keep(Sweep(Path(sys.argv[1]).resolve()), sys.argv[2]))
    print(markdown(kept))
    print("\n" + (kept.verdict.text() if kept.verdict else ""))
