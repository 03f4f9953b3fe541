"""What a study produced, on disk in one folder, readable while it grows and after any ending.

runs/<id>/  study.toml  record.json  data/  events.jsonl  checkpoint/  arms/<name>/seed-<n>/  answers.jsonl
            claim  (held by the process that writes it)

A sweep has `sweep.toml` in place of `study.toml`, and a record of each of its cells below `cells/` (sweep.py).
"""

from __future__ import annotations

import hashlib
import json
import re
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

from neftune_core.bounded import read_toml
from neftune_core.durable import flush, write_whole
from neftune_core.errors import DoesNotFit, LabError, RecordError
from neftune_core.home import folder_bytes, home
from neftune_core.language import retold, say
from neftune_core.models.catalogue import gigabytes
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, from_toml, parse, to_toml
from neftune_core.studies.records.claims import claiming, is_claimed
from neftune_core.studies.records.log import Event, Log, append, as_text, finite
from neftune_core.studies.records.owners import owner_of
from neftune_core.studies.records.parts import LOG_BYTES, LOG_VALUES, about_of, read_answers, settings_text
from neftune_core.studies.records.user_rows import check_rows, located, study_key, with_own_rows
from neftune_core.studies.settings import StudySettings

FORMAT = 1
CLAIM = "claim"
LOG = "events.jsonl"
CELLS = "cells"
ENDINGS = ("finished", "stopped", "failed")
STUDY_FILE, SWEEP_FILE = "study.toml", "sweep.toml"
_SAFE_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{6}")

asked_from: ContextVar[str] = ContextVar("asked_from", default="")
"""The network address that the current call comes from; empty for the command line and for code."""


@dataclass(frozen=True)
class Record:
    """One study's folder. Reading never changes it, and reads as far as it can."""

    folder: Path

    @property
    def id(self) -> str:
        """The folder's name, unique on this machine and safe in links."""
        return self.folder.name

    @property
    def name(self) -> str:
        """What commands call it: its id, or `SWEEP/CELL` for a study of a sweep."""
        above = self.folder.parent
        return f"{above.parent.name}/{self.id}" if above.name == CELLS else self.id

    @property
    def study(self) -> StudySettings:
        """The exact settings, file names made whole; raises `RecordError` where they cannot be read."""
        try:
            return located(self._read_study(), self.folder)
        except FileNotFoundError:
            raise RecordError(say("The settings of record {record} are missing.", record=self.id)) from None
        except (OSError, UnicodeDecodeError, LabError) as error:
            raise RecordError(
                say("The settings of record {record} cannot be read: {reason}", record=self.id, reason=error)
            ) from None

    @property
    def is_sweep(self) -> bool:
        """Whether it holds the cells of a sweep, whose study is the one that is varied."""
        return (self.folder / SWEEP_FILE).is_file()

    @property
    def settings_file(self) -> Path:
        """The file with its settings."""
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
        """Owner, times, versions, machine, model and data: the usable parts of `record.json`, empty if unreadable."""
        return self.read_about()[0]

    def read_about(self) -> tuple[dict[str, Any], list[str]]:
        """Return the parts of `record.json`, and the names of those that are left out because they cannot be used."""
        try:
            return about_of(self.folder / "record.json")
        except (OSError, ValueError):
            return {}, []

    def said_of(self, part: str) -> dict[str, Any]:
        """One table of what `record.json` says, such as `model` or `data`; empty where it is missing or no table."""
        found = self.about.get(part)
        return found if isinstance(found, dict) else {}

    @property
    def day(self) -> date | None:
        """The day of its start, which chat templates print as that of today; None if the record does not know it."""
        about = self.about
        try:
            return date.fromisoformat(about["date"]) if "date" in about else date.fromtimestamp(about["created"])
        except (KeyError, TypeError, ValueError, OverflowError, OSError):
            return None

    @property
    def arms(self) -> dict[str, NoiseSettings]:
        """The arms by name, control first: as the study says, or else as far as `record.json` tells."""
        try:
            return self.study.arms
        except RecordError:
            return {name: _noise(values) for name, values in self.said_of("arms").items()}

    def belongs_to(self, owner: str) -> bool:
        """Whether the key `owner` may see and stop this record; one made on the command line is everybody's.

        A record that does not say whose it is belongs to nobody.
        """
        kept = owner_of(self.folder)
        return kept == "" or (kept is not None and kept == owner_hash(owner))

    @property
    def is_owned(self) -> bool:
        """Whether it is one visitor's, and not of the command line or of nobody."""
        return bool(owner_of(self.folder))

    def require_usable(self) -> None:
        """Raise `RecordError` where this record cannot be run: a newer version made it, or parts of it are gone."""
        if self.is_newer:
            raise RecordError(say("A newer version of the lab made this record: go on with it there."))
        if "owner" not in self.about:
            raise RecordError(
                say("The record {record} no longer says whose it is: its record.json is damaged.", record=self.id)
            )
        _ = self.study

    @property
    def is_newer(self) -> bool:
        """Whether a newer version of the lab, with another format of records, made this one."""
        about, unusable = self.read_about()
        return "format" in unusable or about.get("format", FORMAT) > FORMAT

    def append(self, event: Event) -> None:
        """Write one event as a whole line, with its time first; all but steps are on the disk when this returns.

        The steps up to a checkpoint are flushed with it.
        """
        append(self.folder / LOG, {"time": round(time.time(), 3), **event}, flushed=event["event"] != "step")

    def log(self) -> Log:
        """The log, not yet read; that of an imported record is read within limits."""
        path = self.folder / LOG
        return Log(path, LOG_BYTES, LOG_VALUES) if self.about.get("imported") else Log(path)

    def events(self) -> list[Event]:
        """All events that can be read."""
        return self.log().read()

    def rewind(self, seed: int, step: int) -> set[int]:
        """Forget what `seed` did after `step`, and any ending, before a run goes on; gives the steps measured by then.

        With `step` 0 the seed begins anew. What other seeds did stays.
        """
        kept = [event for event in self.events() if _stays(event, seed, step)]
        write_whole(self.folder / LOG, as_text(kept))
        mine = (event for event in kept if event["event"] == "evaluated" and event.get("seed") == seed)
        return {event["step"] for event in mine}

    def ending(self) -> Event | None:
        """The last event that ended the run (`finished`, `stopped` or `failed`), if there is one."""
        return next((event for event in reversed(self.events()) if event["event"] in ENDINGS), None)

    def arm_folder(self, arm: str, seed: int) -> Path:
        """Where the adapter of one arm and seed is kept."""
        return self.folder / "arms" / arm / f"seed-{seed}"

    def answers(self, seed: int | None = None) -> list[dict[str, Any]]:
        """The kept answers, one object a prompt with the text of each arm: of one seed, or of all."""
        answers = read_answers(self.folder / "answers.jsonl")
        return [answer for answer in answers if seed is None or answer.get("seed", seed) == seed]

    def write_answers(self, answers: list[dict[str, Any]], seed: int) -> None:
        """Keep the answers of one seed beside those of the others."""
        others = [answer for answer in self.answers() if answer.get("seed") != seed]
        write_whole(self.folder / "answers.jsonl", as_text([*others, *({"seed": seed, **one} for one in answers)]))

    def update_about(self, **values: Any) -> None:
        """Add to what `record.json` says; raises `RecordError` where it cannot be read, and would lose its owner."""
        if "owner" not in self.about:
            raise RecordError(
                say("The record {record} no longer says whose it is: its record.json is damaged.", record=self.id)
            )
        text = json.dumps(finite({**self.about, **values}), indent=2, ensure_ascii=False)
        write_whole(self.folder / "record.json", text)

    def is_running(self) -> bool:
        """Whether a living process writes this record; what a killed one left behind does not count."""
        return is_claimed(self.folder / CLAIM)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the one process that writes this record; raises `RecordError` where another does."""
        with claiming(self.folder / CLAIM) as is_mine:
            if not is_mine:
                raise RecordError(say("This study is under way already, here or in another process."))
            yield


def _stays(event: Event, seed: int, step: int) -> bool:
    """Whether an event is part of a record whose `seed` stands at `step`."""
    if event["event"] in ENDINGS:
        return False
    if event.get("seed") != seed:
        return True
    if event["event"] == "started" or step == 0:
        return step > 0
    return bool(event.get("step", step + 1) <= step)  # what has no step, such as `saved`, comes after the last one


def _noise(values: Any) -> NoiseSettings:
    """An arm's settings as far as this version knows them."""
    given = values if isinstance(values, dict) else {}
    try:
        return parse(NoiseSettings, {name: given[name] for name in NoiseSettings.model_fields if name in given})
    except LabError:
        return NoiseSettings()


def create(study: StudySettings, owner: str, limits: Limits | None = None, *, folder: Path | None = None) -> Record:
    """A new record of `study` with its own copy of uploaded rows, owned by the key `owner` (empty: everybody's).

    Raises a `LabError` where a file of the study cannot be used, or the records take more disk than is allowed.
    """
    with new_record(study, owner, limits, folder) as record:
        write_whole(record.folder / STUDY_FILE, to_toml(with_own_rows(study, record.folder), comments=True))
    return record


@contextmanager
def new_record(study: StudySettings, owner: str, limits: Limits | None, folder: Path | None) -> Iterator[Record]:
    """A new folder that says whose it is, to be filled with settings; what goes wrong meanwhile leaves none behind."""
    limits, root = limits or Limits(), folder or runs_folder()
    check_rows(study, limits)
    require_room(root, owner, limits)
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
        owned_by: What `owner_hash` gives.
        day: The day that chat templates print as that of today; by default today.
    """
    about = {"format": FORMAT, "owner": owned_by, "created": round(time.time(), 3)}
    about["date"] = (day or date.today()).isoformat()
    write_whole(record.folder / "record.json", json.dumps(about, indent=2))


def require_room(root: Path, owner: str, limits: Limits, more: int = 0) -> None:
    """Raise `DoesNotFit` if the records take more disk than is allowed.

    Args:
        root: The folder of all records, and of what is about to become one.
        owner: The key of the visitor, whose own records are limited too.
        limits: What is allowed.
        more: Bytes in `root` that are about to be the visitor's.
    """
    used, allowed = folder_bytes(root), limits.disk_gigabytes
    if used > allowed * 1e9:
        raise DoesNotFit(
            say(
                "The records take {used}, over the {allowed:g} GB allowed: discard some first.",
                used=gigabytes(used),
                allowed=allowed,
            )
        )
    allowed = limits.visitor_gigabytes
    if owner and allowed:
        mine = bytes_of(owner, root) + more
        if mine > allowed * 1e9:
            raise DoesNotFit(
                say(
                    "Your records take {mine}, over the {allowed:g} GB that a visitor may have: discard some first.",
                    mine=gigabytes(mine),
                    allowed=allowed,
                )
            )


def room_left(root: Path, owner: str, limits: Limits) -> int:
    """Return the bytes that `owner` may still add to the records in `root`."""
    left = limits.disk_gigabytes * 1e9 - folder_bytes(root)
    if owner and limits.visitor_gigabytes:
        left = min(left, limits.visitor_gigabytes * 1e9 - bytes_of(owner, root))
    return max(0, round(left))


def bytes_of(owner: str, root: Path) -> int:
    """The bytes of the records of the key `owner`, without those of the command line, which are everybody's."""
    return sum(folder_bytes(record.folder) for record in owned_records(owner, folder=root) if record.is_owned)


def find_same(study: StudySettings, owner: str, *, folder: Path | None = None) -> Record | None:
    """The newest record of this very study that `owner` made; an empty owner is the command line."""
    key = study_key(study)
    for record in owned_records(owner, folder=folder):
        if record.is_sweep or owner_of(record.folder) != owner_hash(owner):
            continue
        try:
            if study_key(record.study) == key:
                return record
        except RecordError:
            continue
    return None


def runs_folder() -> Path:
    """Where records are kept."""
    return home() / "runs"


def find(record_id: str | None, owner: str | None, *, folder: Path | None = None) -> Record:
    """The record called `record_id`; raises `RecordError` where it is missing or somebody else's.

    `owner` None asks for no key: the command line of this machine may read every record.
    """
    record_id = record_id or ""
    record = Record((folder or runs_folder()) / record_id)
    if _SAFE_ID.fullmatch(record_id) and record.folder.is_dir() and (owner is None or record.belongs_to(owner)):
        return record
    raise RecordError(
        failed_words(record_id, owner)
        or say("There is no record called {record!r} here, or it belongs to another visitor.", record=record_id[:60])
    )


_failed: dict[str, tuple[str, str]] = {}  # the owner and the message of records that were not kept, by id
MOST_FAILED = 1_000


def remember_failure(record: Record) -> None:
    """Keep, in this process, why a record that is about to be removed failed: whoever asks for it is told."""
    message = str((record.ending() or {}).get("message") or "")
    while len(_failed) >= MOST_FAILED:
        _failed.pop(next(iter(_failed)))
    _failed[record.id] = owner_of(record.folder) or "", message


def failed_words(record_id: str, owner: str | None) -> str:
    """Why a study of `owner` that was not kept failed; empty if there was none of that id."""
    of, message = _failed.get(record_id, ("", ""))
    if not message or (owner is not None and of != owner_hash(owner)):
        return ""
    return say("It failed before its first step, so that nothing of it was kept: {message}", message=retold(message))


def all_records(*, folder: Path | None = None) -> list[Record]:
    """Every record, the newest first."""
    root = folder or runs_folder()
    if not root.is_dir():
        return []
    names = sorted((path.name for path in root.iterdir()), reverse=True)
    return [Record(root / name) for name in names if _SAFE_ID.fullmatch(name)]


def owned_records(owner: str, *, folder: Path | None = None) -> list[Record]:
    """The visitor's records, the newest first."""
    return [record for record in all_records(folder=folder) if record.belongs_to(owner)]


def owner_hash(owner: str) -> str:
    """What is kept of an owner's key: enough to recognise it, not to use it."""
    return hashlib.sha256(owner.encode()).hexdigest() if owner else ""
