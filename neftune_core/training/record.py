"""What a study produced, on disk in one folder, readable while it grows and after any ending.

runs/<id>/  study.toml  record.json  data/  events.jsonl  arms/<name>/seed-<n>/  answers.jsonl
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_core.data.files import check_file
from neftune_core.errors import DoesNotFit, LabError, RecordError
from neftune_core.home import home
from neftune_core.settings import Limits, from_toml, to_toml
from neftune_core.training.settings import StudySettings

FORMAT = 1
FILE = "file:"
FILE_PARTS = ("source", "held_out_source")
ENDINGS = {"finished": "finished", "stopped": "stopped", "failed": "failed"}
_SAFE_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{6}")


@dataclass(frozen=True)
class Record:
    """One study's folder. Reading never changes it; lines that cannot be read are skipped."""

    folder: Path

    @property
    def id(self) -> str:
        """The folder's name, unique on this machine and safe in links."""
        return self.folder.name

    @property
    def study(self) -> StudySettings:
        """The exact settings, file names made whole; raises `RecordError` where they cannot be read."""
        try:
            study = from_toml(StudySettings, (self.folder / "study.toml").read_text(encoding="utf-8"))
            return located(study, self.folder)
        except (OSError, UnicodeDecodeError, LabError) as error:
            raise RecordError(f"The settings of record {self.id} cannot be read: {error}") from None

    @property
    def about(self) -> dict[str, Any]:
        """Owner, times, versions, machine, model and data: what `record.json` says, empty where unreadable."""
        try:
            about = json.loads((self.folder / "record.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return about if isinstance(about, dict) else {}

    def belongs_to(self, owner: str) -> bool:
        """Whether the key `owner` may see and stop this record; one made on the command line is everybody's.

        A record that does not say whose it is belongs to nobody.
        """
        kept = self.about.get("owner")
        return kept == "" or (kept is not None and kept == owner_hash(owner))

    @functools.cached_property
    def _seed(self) -> int:
        return self.study.seed

    def append(self, event: dict[str, Any]) -> None:
        """Write one event as a whole line, with its time and seed first."""
        whole = {"time": round(time.time(), 3), "seed": self._seed, **event}
        line = json.dumps(finite(whole), ensure_ascii=False, allow_nan=False)
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Whole events from byte `offset` on, and the offset to go on from."""
        try:
            with (self.folder / "events.jsonl").open("rb") as file:
                file.seek(offset)
                block = file.read()
        except OSError:
            return [], offset
        whole = block[: block.rfind(b"\n") + 1]
        return list(_json_lines(whole)), offset + len(whole)

    def rewind(self, step: int) -> set[int]:
        """Forget the events after `step` and any ending, before a run goes on from there; gives the steps measured.

        With `step` 0 everything is forgotten: the run begins anew.
        """
        kept = [event for event in self.events()[0] if step and _belongs(event, step)]
        write_whole(
            self.folder / "events.jsonl", "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in kept)
        )
        return {event["step"] for event in kept if event["event"] == "evaluated"}

    def ending(self) -> dict[str, Any] | None:
        """The last event that ended the run (`finished`, `stopped` or `failed`), if there is one."""
        return next((event for event in reversed(self.events()[0]) if event.get("event") in ENDINGS), None)

    def arm_folder(self, arm: str, seed: int) -> Path:
        """Where the adapter of one arm and seed is kept."""
        return self.folder / "arms" / arm / f"seed-{seed}"

    def answers(self) -> list[dict[str, Any]]:
        """The kept answers: one object a prompt, with the text of each arm."""
        try:
            return list(_json_lines((self.folder / "answers.jsonl").read_bytes()))
        except OSError:
            return []

    def write_answers(self, answers: list[dict[str, Any]]) -> None:
        """Keep the answers, one object a prompt."""
        text = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
        write_whole(self.folder / "answers.jsonl", text)

    def update_about(self, **values: Any) -> None:
        """Add to what `record.json` says; raises `RecordError` where it cannot be read, and would lose its owner."""
        if "owner" not in self.about:
            raise RecordError(f"The record {self.id} no longer says whose it is: its record.json is damaged.")
        write_whole(self.folder / "record.json", json.dumps({**self.about, **values}, indent=2, ensure_ascii=False))


def _belongs(event: dict[str, Any], step: int) -> bool:
    """Whether an event is part of a run up to `step`."""
    if event.get("event") == "started":
        return True
    return event.get("event") in ("step", "evaluated", "diverged") and int(event.get("step", step + 1)) <= step


def create(study: StudySettings, owner: str, limits: Limits | None = None, *, folder: Path | None = None) -> Record:
    """A new record of `study` with its own copy of uploaded rows, owned by the key `owner` (empty: everybody's).

    Raises a `LabError` where a file of the study cannot be used, or the records take more disk than is allowed.
    """
    limits, root = limits or Limits(), folder or runs_folder()
    for part in FILE_PARTS:
        path = _file_of(study, part)
        if path is not None:
            check_file(path, limits)
    _require_disk(root, limits)
    record = Record(root / (time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)))
    record.folder.mkdir(parents=True)
    try:
        about = {"format": FORMAT, "owner": owner_hash(owner), "created": round(time.time(), 3)}
        write_whole(record.folder / "record.json", json.dumps(about, indent=2))
        write_whole(record.folder / "study.toml", to_toml(_with_own_rows(study, record.folder), comments=True))
    except BaseException:
        shutil.rmtree(record.folder, ignore_errors=True)
        raise
    return record


def _require_disk(root: Path, limits: Limits) -> None:
    used = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) if root.is_dir() else 0
    if used > limits.disk_gigabytes * 1e9:
        raise DoesNotFit(
            f"The records take {used / 1e9:.1f} GB, over the {limits.disk_gigabytes:g} GB allowed: delete some first."
        )


def _with_own_rows(study: StudySettings, folder: Path) -> StudySettings:
    """The study with its files copied into `folder/data`, named relative to `folder`."""
    changed = {}
    for part in FILE_PARTS:
        original = _file_of(study, part)
        if original is None:
            continue
        kept = folder / "data" / part / _safe_name(original.name)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, kept)
        changed[part] = f"{FILE}{kept.relative_to(folder).as_posix()}"
    return study.model_copy(update={"data": study.data.model_copy(update=changed)})


def _safe_name(name: str) -> str:
    """The name of an upload, as people know it, without what a file system or a link could trip over."""
    return re.sub(r"[^\w.\-]+", "_", name)[-100:].lstrip(".-") or "rows"


def located(study: StudySettings, folder: Path) -> StudySettings:
    """The study with file names that are relative to `folder` made whole."""
    changed = {}
    for part in FILE_PARTS:
        path = _file_of(study, part)
        if path is not None and not path.is_absolute():
            changed[part] = f"{FILE}{folder.resolve() / path}"
    return study.model_copy(update={"data": study.data.model_copy(update=changed)})


def _file_of(study: StudySettings, part: str) -> Path | None:
    source: str = getattr(study.data, part)
    return Path(source.removeprefix(FILE)) if source.startswith(FILE) else None


def study_key(study: StudySettings) -> str:
    """A fingerprint of a study with the content of its files, wherever these lie: equal for equal runs."""
    contents = {}
    for part in FILE_PARTS:
        path = _file_of(study, part)
        if path is not None:
            contents[part] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
    data = study.data.model_copy(update=contents)
    return hashlib.sha256(to_toml(study.model_copy(update={"data": data})).encode()).hexdigest()


def find_same(study: StudySettings, owner: str, *, folder: Path | None = None) -> Record | None:
    """The newest record of this very study that `owner` made; an empty owner is the command line."""
    key = study_key(study)
    for record in owned_records(owner, folder=folder):
        if record.about.get("owner") != owner_hash(owner):
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


def find(record_id: str, owner: str | None, *, folder: Path | None = None) -> Record:
    """The record called `record_id`; raises `RecordError` where it is missing or somebody else's.

    `owner` None asks for no key: the command line of this machine may read every record.
    """
    record = Record((folder or runs_folder()) / record_id)
    missing = RecordError(f"There is no record called {record_id[:60]!r} here, or it belongs to another visitor.")
    if not _SAFE_ID.fullmatch(record_id) or not (record.folder / "study.toml").is_file():
        raise missing
    if owner is not None and not record.belongs_to(owner):
        raise missing
    return record


def owned_records(owner: str, *, folder: Path | None = None) -> list[Record]:
    """The visitor's records, the newest first."""
    root = folder or runs_folder()
    if not root.is_dir():
        return []
    names = sorted((path.name for path in root.iterdir() if _SAFE_ID.fullmatch(path.name)), reverse=True)
    found = (Record(root / name) for name in names if (root / name / "study.toml").is_file())
    return [record for record in found if record.belongs_to(owner)]


def owner_hash(owner: str) -> str:
    """What is kept of an owner's key: enough to recognise it, not to use it."""
    return hashlib.sha256(owner.encode()).hexdigest() if owner else ""


def write_whole(path: Path, text: str) -> None:
    """Write a file aside and rename it, so that a reader never sees half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def finite(value: Any) -> Any:
    """The same nested value with NaN and infinities as None: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json_lines(block: bytes) -> Iterator[dict[str, Any]]:
    for line in block.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield entry
