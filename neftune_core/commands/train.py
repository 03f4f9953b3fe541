"""The `neftune train` command, and functions that run a study to completion with a progress bar."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from neftune_core.commands.common import Command, more_seeds, refuse, run_to_end, with_missing_seeds
from neftune_core.errors import InvalidSetting
from neftune_core.sentences import cause
from neftune_core.settings import Limits, from_toml, to_toml
from neftune_core.studies.judging import LIVE, verdict_of
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.records.user_rows import with_absolute_files
from neftune_core.studies.results import lost_every_noise_arm, mean_results
from neftune_core.studies.settings import EXAMPLE, StudySettings
from neftune_core.sweeps.more_seeds import find_same


@dataclass
class TrainCommand(Command):
    """Train a study from a TOML file; every setting in the file can be overridden by an option."""

    file: Annotated[Path | None, tyro.conf.Positional] = None
    """The study file; `neftune train --example` prints one."""
    example: bool = False
    """Print a complete, commented study.toml for the bundled model, and exit."""
    resume: bool = False
    """Resume the record of this study, or add seeds to one that has fewer; start a new record if neither exists."""
    track: str = ""
    """Also log every step to a tracker: trackio, tensorboard, wandb, mlflow or swanlab, if it is installed.
    trackio:OWNER/SPACE logs to a Space, trackio:URL to a trackio server."""
    study: Annotated[StudySettings, tyro.conf.arg(name="")] = field(default_factory=lambda: EXAMPLE)
    """The settings of the study."""


def defaults(arguments: list[str]) -> TrainCommand | None:
    """Return the command with the settings of the study file as defaults; None unless a file is the first argument.

    Raises:
        InvalidSetting: If the file cannot be read, or a setting is not valid.
    """
    if not arguments or arguments[0].startswith("-"):
        return None
    return TrainCommand(file=Path(arguments[0]), study=read_study(Path(arguments[0])))


def read_study(path: Path) -> StudySettings:
    """Read a study from a TOML file, with paths relative to its folder.

    Raises:
        InvalidSetting: If the file cannot be read, or a setting is not valid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"The study {path.absolute()} cannot be read: {cause(error)}.") from None
    return with_absolute_files(from_toml(StudySettings, text), path.parent)


def train(arguments: TrainCommand) -> int:
    """Train the study and return the exit status.

    Raises:
        LabError: If the study exceeds a limit, its files or its tracker cannot be used, or it fails before its first
            step.
    """
    if arguments.example:
        print(to_toml(EXAMPLE, comments=True), end="")
        return 0
    if arguments.file is None or str(arguments.file) != sys.argv[2]:
        return refuse("No study file was given: `neftune train --example > study.toml` writes an example.")
    from neftune_core.studies.tracking import require_tracker

    limits = Limits()
    arguments.study.check(limits)
    if arguments.track:
        require_tracker(arguments.track)
    if follows(limits):
        return 0
    record = record_to_resume(arguments.study) if arguments.resume else None
    if arguments.resume and record is None:
        print(
            "There is no record of this study, so a new record is started (`neftune runs` lists all records).",
            file=sys.stderr,
        )
    return run_record(record or create(arguments.study, "", limits), limits, track=arguments.track)


def record_to_resume(requested: StudySettings) -> Record | None:
    """Return the existing record of a study, extended to the requested seeds if it has fewer; None if there is none.

    Raises:
        RecordError: If the record is running or cannot be used.
    """
    return find_same(requested, owner="") or with_missing_seeds(requested, requested.seeds)


def follows(limits: Limits) -> bool:
    """Wait for the end of a distributed study in all processes but the first; return whether this process waited.

    Raises:
        LabError: If a process cannot prepare the study.
    """
    from neftune_core.engine.parallel import process_group
    from neftune_core.studies.study import follow_study

    if process_group().is_first:
        return False
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to every process, but only the first one acts
        signal.signal(number, signal.SIG_IGN)
    follow_study(limits)
    return True


def run_record(record: Record, limits: Limits, *, track: str = "") -> int:
    """Run a record to completion, resuming it if it was interrupted.

    Args:
        record: The record of the study.
        limits: Limits on rows, disk and time.
        track: Name of a tracker that every step is also logged to; "" for none.

    Returns:
        The exit status: 1 if the study did not finish or no noise arm remained.

    Raises:
        LabError: If a new study failed before its first step.
    """
    from neftune_core.engine.parallel import process_group
    from neftune_core.studies.study import run_study
    from neftune_core.studies.tracking import track_events

    ended: dict[str, Any] = record.ending() or {}
    is_finished = ended.get("event") == "finished"
    process_group().broadcast_text("" if is_finished else str(record.folder))
    if is_finished:
        print(f"record: {record.folder} (already finished)")
        return _exit_status(record, ended)

    def run(should_stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        events = run_study(record, limits, should_stop)
        return track_events(record, events, track) if track else events

    ending = run_to_end(record, run)
    print(f"record: {record.folder}")
    if ending["event"] == "finished":
        print(losses_text(record))
        print(verdict_text(record))
        return _exit_status(record, ending)
    return refuse(ending.get("message") or f"The study was stopped; its results so far are in {record.folder}.")


def _exit_status(record: Record, ending: dict[str, Any]) -> int:
    """Print the final message of a study and return the exit status: 1 if no noise arm remained to compare."""
    if ending.get("message"):
        print(ending["message"], file=sys.stderr)
    return int(lost_every_noise_arm(record))


def losses_text(record: Record) -> str:
    """Return a table of the final losses with noise off, as means over the seeds that all arms have."""
    found = mean_results(record)
    title = f"noise off, nats per response token{found.of_seeds}"
    lines = [f"{'arm':24} {'training loss':>14} {'held-out loss':>14}   ({title})"]
    for arm in ("base", *record.arms):
        values = [found.last.get(arm, {}).get(loss) for loss in ("train_loss", "held_out_loss")]
        numbers = (f"{'-' if value is None else format(value, '.4f'):>14}" for value in values)
        lines.append(f"{arm:24} {' '.join(numbers)}")
    return "\n".join([*lines, *found.notes])


def verdict_text(record: Record) -> str:
    """Return the verdict after an empty line, and the command that adds seeds; for a live study, a note instead.

    Raises:
        RecordError: If the settings of the record cannot be read.
        DataError: If the runs were measured on different numbers of examples.
    """
    lines = [LIVE] if record.study.live else [verdict_of(record).text(), *more_seeds(record)]
    return "\n".join(["", *lines])
