"""Record of a sweep: a folder with its settings, and one record per cell.

runs/<id>/  sweep.toml  record.json  data/  events.jsonl  cells/<name>/ (study.toml, record.json, events.jsonl, ...)

The log of the sweep contains `started`, one `cell` event per completed cell (`state`, `message`, completed steps), and
at the end `finished`, `stopped` or `failed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_core.durable import write_whole
from neftune_core.errors import InvalidSetting, LabError, RecordError
from neftune_core.language import later, say
from neftune_core.sentences import cause
from neftune_core.settings import Limits, from_toml, to_toml
from neftune_core.studies.records.log import Event
from neftune_core.studies.records.record import CELLS, STUDY_FILE, SWEEP_FILE, Record, find, new_record
from neftune_core.studies.records.schema import settings_text
from neftune_core.studies.records.user_rows import with_absolute_files, with_copied_rows
from neftune_core.sweeps.settings import Cell, SweepSettings, axes, cells


@dataclass(frozen=True)
class Sweep(Record):
    """Record of one sweep."""

    @property
    def settings(self) -> SweepSettings:
        """Settings of the sweep, with absolute paths.

        Raises:
            RecordError: If the settings are missing or cannot be read.
        """
        try:
            found = from_toml(SweepSettings, settings_text(self.folder / SWEEP_FILE))
        except FileNotFoundError:
            words = later("The record {record} is not a sweep, or its settings are missing.")
            raise RecordError(say(words, record=self.id)) from None
        except (OSError, UnicodeDecodeError, LabError) as error:
            words = later("The settings of sweep {record} cannot be read: {reason}")
            raise RecordError(say(words, record=self.id, reason=error)) from None
        return found.model_copy(update={"study": with_absolute_files(found.study, self.folder)})

    def record_of(self, cell: Cell) -> Record:
        """Return the record of a cell, which may not exist yet."""
        return Record(self.folder / CELLS / cell.name)

    def started_cells(self) -> list[str]:
        """Return the names of the cells that have a record, in running order."""
        started = {path.parent.name for path in self.folder.glob(f"{CELLS}/*/{STUDY_FILE}")}
        return [cell.name for cell in cells(self.settings) if cell.name in started]

    def cell_endings(self) -> dict[str, Event]:
        """Return the latest `cell` event of each cell that has ended, by name."""
        return {str(event.get("cell")): event for event in self.events() if event["event"] == "cell"}


MOST_LISTED = 8


def find_study(name: str, owner: str | None) -> Record:
    """Find the record of a study, a sweep or a cell.

    Args:
        name: Id of a record, or `SWEEP/CELL`.
        owner: Key of the visitor; None for the command line.

    Returns:
        The record.

    Raises:
        RecordError: If the record does not exist, or belongs to another visitor.
    """
    sweep_id, _, cell = name.partition("/")
    record = find(sweep_id, owner)
    if not cell:
        return record
    if not record.is_sweep:
        words = later("The record {record} is not a sweep and has no cells: leave out the cell.")
        raise RecordError(say(words, record=record.id))
    started = Sweep(record.folder).started_cells()
    if cell not in started:
        words = later("The sweep {record} has no study {cell!r}. Its studies: {cells}.")
        raise RecordError(say(words, record=record.id, cell=cell[:60], cells=_list_names(started)))
    return Record(record.folder / CELLS / cell)


def require_single(record: Record) -> Record:
    """Return `record` if it is one study.

    Raises:
        RecordError: If the record is a sweep; the message lists its cells.
    """
    if not record.is_sweep:
        return record
    started = Sweep(record.folder).started_cells()
    if not started:
        raise RecordError(say("The sweep {record} has trained no study yet: run it first.", record=record.id))
    words = later(
        "The record {record} is a sweep, but a single study is needed: choose one, such as {record}/{cell}. Its "
        "studies: {cells}."
    )
    raise RecordError(say(words, record=record.id, cell=started[0], cells=_list_names(started)))


def _list_names(names: Sequence[str]) -> str:
    more = len(names) - MOST_LISTED
    shown = ", ".join(names[:MOST_LISTED])
    return say("{names} and {count} more", names=shown, count=more) if more > 0 else shown or say("none yet")


def create_sweep(
    settings: SweepSettings, owner: str, limits: Limits | None = None, *, folder: Path | None = None
) -> Sweep:
    """Create a sweep with its own copy of uploaded rows.

    Args:
        settings: The sweep.
        owner: Key of the visitor; empty for the command line.
        limits: Limits of this server; None for the defaults.
        folder: Folder of all records; None for the default.

    Returns:
        The sweep.

    Raises:
        DataError: If a row file of the study is missing or unreadable.
        DoesNotFit: If a row file is too large, or the disk limit is exceeded.
    """
    settings.check(limits or Limits())
    with new_record(settings.study, owner, limits, folder) as record:
        own = settings.model_copy(update={"study": with_copied_rows(settings.study, record.folder)})
        write_whole(record.folder / SWEEP_FILE, to_toml(own, comments=True))
    return Sweep(record.folder)


def read_sweep(path: Path) -> SweepSettings:
    """Read a sweep from a TOML file, whose paths are relative to its folder.

    Raises:
        InvalidSetting: If the file cannot be read, or a setting is not valid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"The sweep {path.absolute()} cannot be read: {cause(error)}.") from None
    found = from_toml(SweepSettings, text)
    return found.model_copy(update={"study": with_absolute_files(found.study, path.parent)})


def describe_training(varied: Mapping[str, Any]) -> str:
    """Describe a cell's varied training and data settings, as in `learning rate 0.002, LoRA rank 8`; "" if none."""
    known = axes()
    parts = []
    for name, value in varied.items():
        label = say(known[name].label)
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(f"{label[:1].lower() + label[1:] if label[1:2].islower() else label} {shown}")
    return ", ".join(parts)
