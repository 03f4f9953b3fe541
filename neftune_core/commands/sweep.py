"""The `neftune sweep` command: run a sweep from a TOML file and print its table."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from neftune_core.commands.common import (
    Command,
    aligned,
    more_seeds,
    record_by_name,
    refuse,
    run_to_end,
    with_missing_seeds,
)
from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.evaluation.measures import BESIDE
from neftune_core.settings import Limits, to_toml
from neftune_core.studies.results import lost_every_noise_arm, rounding_note
from neftune_core.sweeps.more_seeds import find_same
from neftune_core.sweeps.record import Sweep, create_sweep, read_sweep
from neftune_core.sweeps.settings import EXAMPLE_SWEEP, cells, size_text
from neftune_core.sweeps.table import SweepTable, TableRow, sweep_table, table_csv, table_values

if TYPE_CHECKING:
    from neftune_core.studies.records.record import Record
    from neftune_core.sweeps.sweep import RunCells


@dataclass
class SweepCommand(Command):
    """Train studies with many settings and seeds from a TOML file, and print the effect of each setting."""

    file: Annotated[Path | None, tyro.conf.Positional] = None
    """The sweep file (`neftune sweep --example` prints one), or the id of a sweep's record, to print its table."""
    example: bool = False
    """Print a complete, commented sweep.toml for the bundled model, and exit."""
    resume: bool = False
    """Resume the record of this sweep, or add seeds to one that has fewer; start a new record if neither exists."""
    json: bool = False
    """Print the table as JSON, with the numbers of every seed."""
    csv: bool = False
    """Print the table as CSV, one line per setting and seed."""
    ray: str = ""
    """Run the studies as tasks on the Ray cluster at this address; `auto` is the cluster of this machine, `local` a new
    one for this sweep only."""
    store: str = ""
    """With --ray: a folder that all machines can write to, as an fsspec URL; the sweep's own folder by default."""
    cpus: float = 1.0
    """With --ray: CPU cores per study."""
    gpus: float = 0.0
    """With --ray: GPUs per study."""


def record_to_run(arguments: SweepCommand) -> Sweep:
    """Return the record to run: a new one or, with `--resume`, that of the same sweep, extended to all of its seeds.

    Raises:
        InvalidSetting: If no file is given, or a setting is invalid.
        LabError: If the record, the model or the data cannot be used, or a limit is exceeded.
    """
    from neftune_core.sweeps.estimate import plan

    if arguments.file is None:
        raise InvalidSetting("No sweep file was given: `neftune sweep --example > sweep.toml` writes an example.")
    settings, limits = read_sweep(arguments.file), Limits()
    settings.check(limits)
    if arguments.resume:
        found = find_same(settings, owner="") or with_missing_seeds(settings, settings.study.seeds)
        if found is not None:
            return Sweep(found.folder)
        print("There is no record of this sweep, so a new record is started.", file=sys.stderr)
    print(f"{size_text(settings)}. {plan(settings, limits).sentence}", file=sys.stderr)
    return create_sweep(settings, "", limits)


def form_of(arguments: SweepCommand) -> str:
    """Return the format of the printed table: "text", "json" or "csv".

    Raises:
        InvalidSetting: If more than one format is requested.
    """
    if arguments.json and arguments.csv:
        raise InvalidSetting("The table can be printed as JSON or CSV, but not both: give either --json or --csv.")
    return "json" if arguments.json else "csv" if arguments.csv else "text"


def _record_by_id(file: Path | None) -> Sweep | None:
    """Return the record of a sweep if its id is given instead of a file; otherwise None.

    Raises:
        InvalidSetting: If the record is a study, not a sweep.
    """
    if file is None or file.is_file() or file.suffix == ".toml":
        return None
    record = record_by_name(str(file))
    if not record.is_sweep:
        raise InvalidSetting(f"The record {record.name} is a study, not a sweep: see `neftune verdict {record.name}`.")
    return Sweep(record.folder)


def _print_table(sweep: Sweep, form: str) -> None:
    """Print the results of a sweep so far on standard output; JSON and CSV include the numbers of every seed."""
    table = sweep_table(sweep)
    if form == "csv":
        print(table_csv(table), end="")
        return
    if form == "text":
        print("\n".join(_table_lines(table)))
        return
    state = (sweep.ending() or {}).get("event")
    values = {"record": str(sweep.folder), "state": state, **table_values(table, sweep.settings)}
    print(json.dumps(values, ensure_ascii=False))


def _table_lines(table: SweepTable) -> list[str]:
    """Return the table as lines of text: the chosen measure and its effect at both epochs, then the other measures."""
    if not table.rows:
        return ["Nothing has been measured yet."]
    asked = table.question.measure
    others = [name for name in BESIDE if name in table.measures and name != asked]
    heads = ["combination", "seeds", f"{asked}, last", "minus control", f"{asked}, best", "minus control", *others]
    lines = aligned([heads, *(_cells(row, asked, others) for row in table.shown)])
    said = table.verdict.text().splitlines() if table.verdict else []
    return [*lines, rounding_note(table.rounding, asked), "", *said]


def _cells(row: TableRow, asked: str, others: Sequence[str]) -> list[str]:
    name = f"{row.cell}: {row.arm}" if row.cell else row.arm
    seeds = "-" if row.arm == "base" else str(row.counted)
    own = [part for epoch in ("last", "best") for part in (number(row.mean(asked, epoch)), _effect(row, asked, epoch))]
    return [name, seeds, *own, *(number(row.mean(other, "last")) for other in others)]


def number(value: float) -> str:
    """Format a number with four significant digits; "-" for NaN."""
    return "-" if value != value else f"{value:.4g}"


def _effect(row: TableRow, measure: str, epoch: str) -> str:
    """Format the mean difference from the control, as in "+0.0200 [+0.0100, +0.0300]"; "" if there is none."""
    found = row.effects.get(measure, {}).get(epoch)
    if found is None or not found.seeds:
        return ""
    if found.interval is None:
        return f"{found.difference:+.4f}"
    return f"{found.difference:+.4f} [{found.interval.low:+.4f}, {found.interval.high:+.4f}]"


def sweep(arguments: SweepCommand) -> int:
    """Run the sweep and return the exit status.

    Raises:
        NotAvailable: If several processes were started without `--ray`.
        LabError: If the sweep cannot be read or run.
    """
    if arguments.example:
        print(to_toml(EXAMPLE_SWEEP, comments=True), end="")
        return 0
    from neftune_core.engine.parallel import process_group

    if process_group().size > 1:
        raise NotAvailable("Several processes can only train a single study: use `--ray` to distribute a sweep.")
    form, recorded = form_of(arguments), _record_by_id(arguments.file)
    if recorded is not None:
        _print_table(recorded, form)
        return 0
    return run_sweep(record_to_run(arguments), Limits(), form=form, run=_runner(arguments))


def _runner(arguments: SweepCommand) -> RunCells:
    from neftune_core.sweeps.on_ray import OnRay
    from neftune_core.sweeps.sweep import run_in_turn

    if not arguments.ray:
        return run_in_turn
    return OnRay(arguments.ray, arguments.store, arguments.cpus, arguments.gpus)


def run_sweep(record: Record, limits: Limits, *, form: str = "text", run: RunCells | None = None) -> int:
    """Run a sweep to completion, resuming it if it was interrupted, and print its table.

    Args:
        record: The record of the sweep.
        limits: Limits on rows, disk and time.
        form: Format of the printed table: "text", "json" or "csv".
        run: Function that runs the studies; by default, they run one after another.

    Returns:
        The exit status: 1 if the sweep did not finish or no noise arm of any study remained.

    Raises:
        LabError: If a new sweep failed before its first step.
    """
    from neftune_core.sweeps import sweep as sweeps

    sweep = Sweep(record.folder)
    ending: dict[str, Any] = sweep.ending() or {}
    if ending.get("event") != "finished":
        ending = run_to_end(sweep, partial(sweeps.run_sweep, sweep, limits, run=run or sweeps.run_in_turn))
    _print_table(sweep, form)
    print(f"record: {sweep.folder}", file=sys.stdout if form == "text" else sys.stderr)
    if form == "text" and ending["event"] == "finished":
        print("".join(f"{line}\n" for line in more_seeds(sweep)), end="")
    if ending["event"] != "finished":
        return refuse(str(ending.get("message") or "The sweep was stopped."))
    if ending.get("message"):
        print(ending["message"], file=sys.stderr)
    return int(all(lost_every_noise_arm(sweep.record_of(cell)) for cell in cells(sweep.settings)))
