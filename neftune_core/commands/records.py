"""The commands for records: `neftune report`, `script`, `verdict` and `runs`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from neftune_core.commands.common import Command, aligned, record_by_name, refuse, study_by_name, writable
from neftune_core.commands.sweep import run_sweep
from neftune_core.commands.train import follows, run_record
from neftune_core.errors import InvalidSetting, LabError, RecordError
from neftune_core.evaluation.outcomes import Question
from neftune_core.home import folder_bytes
from neftune_core.language import plural
from neftune_core.models.estimates import gigabytes
from neftune_core.settings import Limits
from neftune_core.studies.records import removal
from neftune_core.studies.records.log import finite
from neftune_core.studies.records.progress import WORDS, of_record
from neftune_core.studies.records.record import Record, all_records, find
from neftune_core.sweeps.more_seeds import extend
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.settings import cells
from neftune_core.sweeps.table import judge, means_by_arm, named_question


@dataclass
class ReportCommand(Command):
    """Write the figures, answers and settings of a record to one self-contained HTML file."""

    record: Annotated[str, tyro.conf.Positional]
    """The record's id (the name of its folder) or its folder; a study of a sweep is SWEEP/CELL."""
    out: Annotated[Path, tyro.conf.Positional]
    """The file to write; it must not exist yet."""


@dataclass
class ScriptCommand(Command):
    """Write a record as a script for transformers and PEFT, with its rows, their order and the initial adapter."""

    record: Annotated[str, tyro.conf.Positional]
    """The record's id (the name of its folder) or its folder; a study of a sweep is SWEEP/CELL."""
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder to write to; created if missing."""


@dataclass
class VerdictCommand(Command):
    """Print the verdict on a record: the effect of the noise, its size and its uncertainty."""

    record: Annotated[str, tyro.conf.Positional]
    """The record's id (the name of its folder) or its folder; a study of a sweep is SWEEP/CELL."""
    json: bool = False
    """Print JSON: the verdict, its numbers and every measure of every arm."""
    measure: str | None = None
    """Judge by this measure instead of the one chosen before the run, which makes the result exploratory."""
    epoch: str | None = None
    """Judge at the `last` or `best` epoch instead of the chosen one, which makes the result exploratory."""


@dataclass
class RunsCommand(Command):
    """List, resume, continue, export, import or remove records on this machine."""

    action: Annotated[str, tyro.conf.Positional] = "list"
    """`list`; `resume`, `remove` or `export` one record; `continue` a finished one with more epochs, as a new record;
    `import` a zip file from another machine; or `clean` (remove records older than --days)."""
    record: Annotated[str, tyro.conf.Positional] = ""
    """The record's id (the name of its folder); with `import`, the zip file."""
    to: Path | None = None
    """With `export`: the zip file to write (default ID.zip), or the folder for one arm (default the arm's name)."""
    form: str = "record"
    """With `export`: the whole `record`, or one arm as `adapter` (PEFT) or `merged` (transformers)."""
    arm: str = "control"
    """With `export` of an arm: its name; `NAME@best` for the weights of its best evaluation."""
    seed: int | None = None
    """With `export` of an arm: its seed; the record's first seed by default."""
    seeds: int | None = None
    """With `resume`: total number of seeds; the missing ones are trained."""
    epochs: float | None = None
    """With `continue`: number of additional epochs; the learning-rate and noise schedules restart."""
    days: float | None = None
    """With `clean`: days since the last change of a record."""


def report(arguments: ReportCommand) -> int:
    """Write the report of a record and return the exit status.

    Raises:
        RecordError: If there is no such record, or nothing has been measured yet.
        InvalidSetting: If the file cannot be written.
    """
    from neftune_core.export.report import write_report

    print(f"report: {write_report(record_by_name(arguments.record), writable(arguments.out))}")
    return 0


def script(arguments: ScriptCommand) -> int:
    """Write a script that reproduces a record, and return the exit status.

    Raises:
        LabError: If the record has changed or cannot be reproduced, or the folder exists.
    """
    from neftune_core.export.script import script_folder

    folder = script_folder(study_by_name(arguments.record), arguments.folder)
    print(f"script: {folder / 'standalone.py'}")
    return 0


def verdict(arguments: VerdictCommand) -> int:
    """Print the verdict on a record and return the exit status.

    Raises:
        RecordError: If the record is missing, live or without results.
    """
    record = record_by_name(arguments.record)
    first = named_question(record)
    asked = Question(arguments.measure or first.measure, arguments.epoch or first.epoch)
    found = judge(record, asked)
    if not arguments.json:
        print(found.text(named=first))
        return 0
    values = {
        "question": asdict(asked),
        "named_before": first == asked,
        "text": found.text(named=first).splitlines(),
        "rounding": asdict(found.rounding),
        "measures": means_by_arm(record, asked),
        "arms": {
            name: {field: value for field, value in asdict(arm).items() if field != "lines"}
            for name, arm in found.arms.items()
        },
        "floors": {name: asdict(floor) for name, floor in found.floors.items()},
    }
    print(json.dumps(finite(values), indent=2))
    return 0


def runs(arguments: RunsCommand) -> int:
    """List, resume, continue, export, import or remove records, and return the exit status.

    Raises:
        LabError: If the record or the file cannot be used.
    """
    if arguments.action == "list":
        print("\n".join(runs_table(all_records())))
        return 0
    if arguments.action == "resume" and arguments.record:
        found = find(arguments.record, owner=None)
        if not found.is_sweep and follows(Limits()):
            return 0
        if arguments.seeds is not None and arguments.seeds != found.study.seeds:
            extend(found, arguments.seeds)
        return (run_sweep if found.is_sweep else run_record)(found, Limits())
    if arguments.action == "continue" and arguments.record:
        return _continue(arguments)
    if arguments.action == "remove" and arguments.record:
        removal.remove(find(arguments.record, owner=None))
        return 0
    if arguments.action in ("import", "export") and arguments.record:
        print(_import(arguments) if arguments.action == "import" else _export(arguments))
        return 0
    if arguments.action == "clean" and arguments.days is not None:
        removed = removal.remove_old(arguments.days)
        freed = f" ({gigabytes(sum(removed.values()))})" if removed else ""
        print(f"removed {len(removed)} {plural(len(removed), 'record', 'records')}{freed}")
        return 0
    return refuse(
        "Use `neftune runs list`, `resume ID`, `continue ID --epochs 3`, `remove ID`, `export ID`, `import FILE.zip`, "
        "or `clean --days 30`."
    )


def _continue(arguments: RunsCommand) -> int:
    from neftune_core.studies.steering.going_on import go_on

    if arguments.epochs is None:
        return refuse("The number of additional epochs is missing: use `neftune runs continue ID --epochs 3`.")
    record, limits = record_by_name(arguments.record), Limits()
    if follows(limits):
        return 0
    return run_record(go_on(record, arguments.epochs, "", limits), limits)


def _import(arguments: RunsCommand) -> str:
    from neftune_core.export.archive import import_record

    path = Path(arguments.record)
    if not path.is_file():
        raise InvalidSetting(f"There is no file {path.absolute()}: check the path.")
    return f"record: {import_record(path, owner='').folder}"


def _export(arguments: RunsCommand) -> Path:
    from neftune_core.export.archive import pack_record
    from neftune_core.export.models import write_model

    if arguments.form == "record":
        record = record_by_name(arguments.record)
        return pack_record(record, writable(arguments.to or Path(f"{record.id}.zip")))
    record = study_by_name(arguments.record)
    target = arguments.to or Path(arguments.arm)
    seed = record.study.seed if arguments.seed is None else arguments.seed
    write_model(record, arguments.arm, seed, arguments.form, target)
    return target


COLUMNS = ("record", "state", "steps", "size", "title", "model", "data", "arms", "result")
WIDEST = 40
"""Maximum length of each shortened column in the list of records, in characters."""


def runs_table(records: Sequence[Record]) -> list[str]:
    """Return the list of records as the lines of a table, header included."""
    return aligned([COLUMNS, *map(_run_cells, records)])


def _run_cells(record: Record) -> tuple[str, ...]:
    status = of_record(record)
    steps = f"{status.step:,}/{status.steps:,}" if status.steps else "-"
    size = gigabytes(folder_bytes(record.folder))
    columns = (*_about(record), ", ".join(_arms(record)))
    return record.id, WORDS[status.state], steps, size, *map(_shorten, columns), _result(record)


def _arms(record: Record) -> Iterable[str]:
    """Return the names of all arms of a study or sweep."""
    try:
        every = cells(Sweep(record.folder).settings) if record.is_sweep else []
    except LabError:
        every = []
    return dict.fromkeys(arm for cell in every for arm in cell.study.arms) or record.arms


def _shorten(text: str) -> str:
    line = " ".join(text.split()) or "-"
    return line if len(line) <= WIDEST else f"{line[: WIDEST - 3]}..."


def _about(record: Record) -> tuple[str, str, str]:
    """Return the title, model and data of a record; unknown parts are omitted."""
    model, data = str(record.about_table("model").get("name") or ""), str(record.about_table("data").get("title") or "")
    try:
        study = record.study
        title = f"sweep: {Sweep(record.folder).settings.title}" if record.is_sweep else study.title
    except RecordError:
        return "unreadable settings", model, data
    return title, model or study.model.source, data or study.data.source.rpartition("/")[2]


def _result(record: Record) -> str:
    """Return the control's result and the other arms' differences from it, or a sweep's main finding; "-" if none."""
    try:
        found = judge(record)
    except (LabError, ArithmeticError, LookupError, TypeError, ValueError):
        return "-"
    if record.is_sweep:
        return (*found.warnings, found.opening[0])[0].text()
    asked = found.question
    arms = {name: arm.epochs[asked.epoch] for name, arm in found.arms.items()}
    columns = [_difference(name, arm.status, arms[name].difference) for name, arm in found.arms.items()]
    control = next((f"control {one.control:.4g}" for one in arms.values() if one.seeds), "")
    known = list(filter(None, [control, *columns]))
    return f"{asked.measure}: {', '.join(known)}" if known else "-"


def _difference(arm: str, status: str, difference: float) -> str:
    """Return an arm's name with its difference from the control or "not judged"; "" if the arm was not measured."""
    if status == "void":
        return f"{arm} not judged"
    return "" if status == "nothing" else f"{arm} {difference:+.3g}"
