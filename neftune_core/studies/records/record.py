"""Record of a study: a folder that is readable during a run and however it ends.

runs/<id>/  study.toml  record.json  data/  events.jsonl  checkpoint/  arms/<name>/seed-<n>/  answers.jsonl
            claim  (lock of the process that writes the record)

A sweep has `sweep.toml` instead of `study.toml`, and the records of its cells in `cells/`.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from neftune_core.bounded_io import read_toml
from neftune_core.durable import claiming, flush, is_claimed, write_whole
from neftune_core.errors import LabError, RecordError
from neftune_core.home import home
from neftune_core.language import later, say
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, from_toml, parse, to_toml
from neftune_core.studies.records.failures import failure_text
from neftune_core.studies.records.log import Event, Log, RecentLogs, append, as_jsonl, finite
from neftune_core.studies.records.owners import SAFE_ID, owner_hash, owner_of, record_folders, require_space
from neftune_core.studies.records.schema import LOG_BYTES, LOG_VALUES, about_of, read_answers, settings_text
from neftune_core.studies.records.user_rows import check_rows, with_absolute_files, with_copied_rows
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering import best_arms
from neftune_core.studies.steering.log import STEERED

FORMAT = 1
CLAIM = "claim"
LOG = "events.jsonl"
CELLS = "cells"
ENDINGS = ("finished", "stopped", "failed")
STUDY_FILE, SWEEP_FILE = "study.toml", "sweep.toml"
_RECENT_LOGS = RecentLogs(32, 32_000_000)

asked_from: ContextVar[str] = ContextVar("asked_from", default="")
"""IP address of the current caller; empty for calls from the command line and from Python."""


@dataclass(frozen=True)
class Record:
    """A study or sweep on disk; reading a record never changes it, and tolerates damage.

    Attributes:
        folder: Folder of the record.
    """

    folder: Path

    @property
    def id(self) -> str:
        """Name of the folder, unique on this machine and safe in URLs."""
        return self.folder.name

    @property
    def name(self) -> str:
        """Name in commands: the id, or `SWEEP/CELL` for a study of a sweep."""
        above = self.folder.parent
        return f"{above.parent.name}/{self.id}" if above.name == CELLS else self.id

    @property
    def study(self) -> StudySettings:
        """Settings of the study, with absolute paths.

        Raises:
            RecordError: If the settings are missing or cannot be read.
        """
        try:
            return with_absolute_files(self._read_study(), self.folder)
        except FileNotFoundError:
            raise RecordError(say("The settings of record {record} are missing.", record=self.id)) from None
        except (OSError, UnicodeDecodeError, LabError) as error:
            words = later("The settings of record {record} cannot be read: {reason}")
            raise RecordError(say(words, record=self.id, reason=error)) from None

    @property
    def is_sweep(self) -> bool:
        """Whether this is a sweep; if so, `study` is the study that the sweep varies."""
        return (self.folder / SWEEP_FILE).is_file()

    @property
    def settings_file(self) -> Path:
        """Path of the settings file."""
        return self.folder / (SWEEP_FILE if self.is_sweep else STUDY_FILE)

    def _read_study(self) -> StudySettings:
        text = settings_text(self.settings_file)
        if not self.is_sweep:
            return from_toml(StudySettings, text)
        try:
            return parse(StudySettings, read_toml(text)["study"])
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(say("it is not valid TOML ({reason}).", reason=error)) from None

    @property
    def about(self) -> dict[str, Any]:
        """Valid parts of `record.json` (owner, time, machine, model, data and so on); empty if unreadable."""
        return self.read_about()[0]

    def read_about(self) -> tuple[dict[str, Any], list[str]]:
        """Return the valid parts of `record.json`, and the names of the invalid ones."""
        try:
            return about_of(self.folder / "record.json")
        except (OSError, ValueError):
            return {}, []

    def about_table(self, part: str) -> dict[str, Any]:
        """Return one table of `record.json`, such as `model` or `data`; empty if missing or malformed."""
        found = self.about.get(part)
        return found if isinstance(found, dict) else {}

    @property
    def day(self) -> date | None:
        """Date of creation, which chat templates render as today's date; None if unknown."""
        about = self.about
        try:
            return date.fromisoformat(about["date"]) if "date" in about else date.fromtimestamp(about["created"])
        except (KeyError, TypeError, ValueError, OverflowError, OSError):
            return None

    @property
    def arms(self) -> dict[str, NoiseSettings]:
        """Arms by name, control first; from `record.json` if the settings cannot be read."""
        try:
            return self.study.arms
        except RecordError:
            return {name: _noise(values) for name, values in self.about_table("arms").items()}

    def belongs_to(self, owner: str) -> bool:
        """Return whether a visitor with the key `owner` may see and stop this record.

        Records from the command line belong to everyone, and records without a readable owner to no one.
        """
        stored = owner_of(self.folder)
        return stored == "" or (stored is not None and stored == owner_hash(owner))

    @property
    def is_owned(self) -> bool:
        """Whether the record belongs to one visitor."""
        return bool(owner_of(self.folder))

    def require_usable(self) -> None:
        """Check that this record can be run.

        Raises:
            RecordError: If a newer version made the record, its owner is unknown, or its settings cannot be read.
        """
        if self.is_newer:
            raise RecordError(say("This record was made by a newer version of the lab: continue it with that version."))
        self._require_owner()
        _ = self.study

    def _require_owner(self) -> None:
        if "owner" not in self.about:
            words = later("The owner of the record {record} is unknown: its record.json is damaged.")
            raise RecordError(say(words, record=self.id))

    @property
    def is_newer(self) -> bool:
        """Whether a newer version of the lab wrote this record, or its format number is invalid."""
        about, unusable = self.read_about()
        return "format" in unusable or about.get("format", FORMAT) > FORMAT

    def append(self, event: Event) -> None:
        """Append an event with the current time; steps are flushed with the next checkpoint, other events at once."""
        append(self.folder / LOG, {"time": round(time.time(), 3), **event}, flushed=event["event"] != "step")

    def log(self) -> Log:
        """Return a new reader of the event log; imported records have stricter size limits."""
        path = self.folder / LOG
        return Log(path, LOG_BYTES, LOG_VALUES) if self.about.get("imported") else Log(path)

    def read_log(self) -> Log:
        """Return the event log, read to its end; all callers share it, so its events must not be changed."""
        log = _RECENT_LOGS.shared(self.log())
        log.read()
        return log

    def events(self) -> list[Event]:
        """Return all readable events, which must not be changed (see `read_log`)."""
        return _RECENT_LOGS.shared(self.log()).read()

    def rewind(self, seed: int, step: int) -> set[int]:
        """Before a run resumes, remove any final event and the events of `seed` after `step`.

        The events of other seeds and all `steered` events remain.

        Args:
            seed: Seed of the run that resumes.
            step: Step of the checkpoint; 0 to start the seed again.

        Returns:
            Steps of the seed that were already evaluated.
        """
        kept = [event for event in self.events() if _survives_rewind(event, seed, step)]
        write_whole(self.folder / LOG, as_jsonl(kept))
        mine = (event for event in kept if event["event"] == "evaluated" and event.get("seed") == seed)
        return {event["step"] for event in mine}

    def ending(self) -> Event | None:
        """Return the last event that ended the run (`finished`, `stopped` or `failed`), if any."""
        return next((event for event in reversed(self.events()) if event["event"] in ENDINGS), None)

    def arm_folder(self, arm: str, seed: int) -> Path:
        """Return the folder of one arm and seed.

        Args:
            arm: Name of the arm, or `NAME@best` for the weights of its best evaluation.
            seed: Seed with which the arm was trained.

        Returns:
            The folder, which may not exist.
        """
        last = self.folder / "arms" / best_arms.plain_name(arm) / f"seed-{seed}"
        return last if best_arms.plain_name(arm) == arm else best_arms.best_folder(last)

    def answers(self, seed: int | None = None) -> list[dict[str, Any]]:
        """Return the stored answers of one seed (None for all seeds), one dictionary per prompt."""
        answers = read_answers(self.folder / "answers.jsonl")
        return [answer for answer in answers if seed is None or answer.get("seed", seed) == seed]

    def write_answers(self, answers: list[dict[str, Any]], seed: int) -> None:
        """Store the answers of one seed, keeping those of other seeds.

        Args:
            answers: Lines from `answer_lines`.
            seed: Seed of the arms that gave the answers.
        """
        others = [answer for answer in self.answers() if answer.get("seed") != seed]
        write_whole(self.folder / "answers.jsonl", as_jsonl([*others, *({"seed": seed, **one} for one in answers)]))

    def update_about(self, **values: Any) -> None:
        """Add values to `record.json`.

        Raises:
            RecordError: If the file is damaged, so that the owner is not lost.
        """
        self._require_owner()
        text = json.dumps(finite({**self.about, **values}), indent=2, ensure_ascii=False)
        write_whole(self.folder / "record.json", text)

    def is_running(self) -> bool:
        """Return whether a running process is writing this record."""
        return is_claimed(self.folder / CLAIM)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Lock this record for writing during the block.

        Raises:
            RecordError: If the record is already locked.
        """
        with claiming(self.folder / CLAIM) as is_mine:
            if not is_mine:
                raise RecordError(say("This study is already running, here or in another process."))
            yield


def _survives_rewind(event: Event, seed: int, step: int) -> bool:
    """Return whether an event remains when `seed` is rewound to `step`."""
    if event["event"] in ENDINGS:
        return False
    if event.get("seed") != seed or event["event"] == STEERED:
        return True
    if event["event"] == "started" or step == 0:
        return step > 0
    return bool(event.get("step", step + 1) <= step)  # events without a step, such as `saved`, come last


def _noise(values: Any) -> NoiseSettings:
    """Parse the noise settings of an arm, ignoring unknown names; return the defaults if a setting is invalid."""
    given = values if isinstance(values, dict) else {}
    try:
        return parse(NoiseSettings, {name: given[name] for name in NoiseSettings.model_fields if name in given})
    except LabError:
        return NoiseSettings()


def create(study: StudySettings, owner: str, limits: Limits | None = None, *, folder: Path | None = None) -> Record:
    """Create the record of a study, with its own copy of uploaded rows.

    Args:
        study: Settings of the study; the paths of its row files may be anywhere.
        owner: Key of the visitor; empty for the command line.
        limits: Limits of this server; None for the defaults.
        folder: Folder of all records; None for the default.

    Returns:
        The record.

    Raises:
        LabError: If a file of the study cannot be used, or the disk limit is exceeded.
    """
    with new_record(study, owner, limits, folder) as record:
        write_whole(record.folder / STUDY_FILE, to_toml(with_copied_rows(study, record.folder), comments=True))
    return record


@contextmanager
def new_record(study: StudySettings, owner: str, limits: Limits | None, folder: Path | None) -> Iterator[Record]:
    """Create the folder of a record, to be filled by the block; remove it if the block raises an exception.

    Args:
        study: Settings of the study; for a sweep, of the study that it varies.
        owner: Key of the visitor; empty for the command line.
        limits: Limits of this server; None for the defaults.
        folder: Folder of all records; None for the default.

    Yields:
        The record.

    Raises:
        DataError: If a row file of the study is missing or unreadable.
        DoesNotFit: If a row file is too large, or the disk limit is exceeded.
    """
    limits, root = limits or Limits(), folder or runs_folder()
    check_rows(study, limits)
    require_space(root, owner, limits)
    record = Record(root / (time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)))
    record.folder.mkdir(parents=True)
    try:
        write_about(record, owner_hash(owner))
        yield record
        flush(record.folder)
    except BaseException:
        shutil.rmtree(record.folder, ignore_errors=True)
        raise


def write_about(record: Record, owned_by: str, day: date | None = None) -> None:
    """Write the first `record.json` of a record.

    Args:
        record: The record, whose folder exists.
        owned_by: Result of `owner_hash`.
        day: Date that chat templates render; None for today.
    """
    about = {"format": FORMAT, "owner": owned_by, "created": round(time.time(), 3)}
    about["date"] = (day or date.today()).isoformat()
    write_whole(record.folder / "record.json", json.dumps(about, indent=2))


def runs_folder() -> Path:
    """Return the folder of all records.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    return home() / "runs"


def find(record_id: str | None, owner: str | None) -> Record:
    """Find a record by its id.

    Args:
        record_id: Id of the record.
        owner: Key of the visitor; None for the command line, which may read every record.

    Returns:
        The record.

    Raises:
        RecordError: If no such record exists, or it belongs to another visitor.
    """
    record_id = record_id or ""
    record = Record(runs_folder() / record_id)
    if SAFE_ID.fullmatch(record_id) and record.folder.is_dir() and (owner is None or record.belongs_to(owner)):
        return record
    words = later("There is no record called {record!r} here, or it belongs to another visitor.")
    raise RecordError(failure_text(record_id, owner) or say(words, record=record_id[:60]))


def all_records(*, folder: Path | None = None) -> list[Record]:
    """Return every record, newest first."""
    return [Record(path) for path in record_folders(folder or runs_folder())]


def owned_records(owner: str) -> list[Record]:
    """Return the records that a visitor may see, newest first."""
    return [record for record in all_records() if record.belongs_to(owner)]


def own_records(owner: str) -> list[Record]:
    """Return the records of exactly this owner, "" for the command line, newest first."""
    return [record for record in all_records() if owner_of(record.folder) == owner_hash(owner)]
