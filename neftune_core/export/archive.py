"""Records and models as zip files: what is taken away from here, and records that come from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from neftune_core.durable import publish, write_whole, written_aside
from neftune_core.errors import DataError, DoesNotFit, LabError, RecordError
from neftune_core.language import say
from neftune_core.settings import Limits, from_toml
from neftune_core.training.own_rows import FILE, FILE_PARTS
from neftune_core.training.record import FORMAT, Record, owner_hash, require_room, runs_folder
from neftune_core.training.settings import StudySettings

# What a record is made of; anything else in an archive is no record's, and is refused.
PARTS = re.compile(
    r"study\.toml|record\.json|events\.jsonl|answers\.jsonl|metrics\.json|"
    r"data/(held_out_)?source/[\w.\-]{1,100}|"
    r"arms/[\w.\-]{1,150}/seed-\d{1,10}/(adapter_config\.json|adapter_model\.safetensors|README\.md|"
    r"model\.safetensors|[a-z_]{1,40}\.(json|jinja|txt|model))",
    re.ASCII,
)
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{6}")
NEEDED = ("study.toml", "record.json", "events.jsonl")
MOST_FILES = 2_000
MOST_BYTES = 2_000_000_000
PIECE = 1 << 20


def pack(folder: Path, target: Path, inside: str) -> Path:
    """`folder` as the zip file `target`, its files under the name `inside`; the same bytes for the same content."""
    with _zipped(target) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            _add(archive, path, f"{inside}/{path.relative_to(folder).as_posix()}")
    return target


def pack_record(record: Record, target: Path) -> Path:
    """A record as a zip file, without its checkpoint and without its owner's mark."""
    record.require_usable()
    if record.name != record.id:
        raise RecordError(
            say(
                "The study {record} of a sweep is not taken away as a record: take one of its arms, or the table of "
                "the sweep.",
                record=record.name,
            )
        )
    if record.is_sweep:
        raise RecordError(say("A sweep is not taken away as one record: take its studies, or its table."))
    with _zipped(target) as archive:
        for path in sorted(path for path in record.folder.rglob("*") if path.is_file()):
            name = path.relative_to(record.folder).as_posix()
            if name == "record.json":
                text = json.dumps({**record.about, "owner": ""}, indent=2, ensure_ascii=False)
                archive.writestr(_entry(f"{record.id}/{name}"), text)
            elif PARTS.fullmatch(name):
                _add(archive, path, f"{record.id}/{name}")
    return target


@contextmanager
def _zipped(target: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file to be filled, which appears as `target` when it is whole."""
    with (
        written_aside(target) as aside,
        zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        yield archive


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    with path.open("rb") as source, archive.open(_entry(name), "w") as written:
        shutil.copyfileobj(source, written, PIECE)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return entry


def import_record(path: Path, owner: str, limits: Limits | None = None, *, folder: Path | None = None) -> Record:
    """The record in a zip file, as one of `owner`'s here, under its own id.

    Raises `RecordError` for what is no record or is here already, and `DoesNotFit` for what is too large. Nothing is
    written outside a folder of its own, and nothing is left where it is refused.
    """
    limits, root = limits or Limits(), folder or runs_folder()
    require_room(root, owner, limits)
    root.mkdir(parents=True, exist_ok=True)
    with _opened(path) as archive:
        record_id, entries = _entries(archive)
        if (root / record_id).exists():
            raise RecordError(say("The record {record} is here already: remove it first.", record=record_id))
        aside = Path(tempfile.mkdtemp(prefix=".import-", dir=root))
        try:
            _unpack(archive, entries, aside, round(min(MOST_BYTES, limits.disk_gigabytes * 1e9)))
            _check(Record(aside), owner)
            publish(aside, root / record_id)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    return Record(root / record_id)


def _no_record(reason: str) -> RecordError:
    return RecordError(
        say(
            "This zip file holds no record of the lab: {reason} Take one from the Runs tab, or with `neftune runs "
            "export`.",
            reason=reason,
        )
    )


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise DataError(say("There is no file {file!r} where it was named: check the path.", file=path.name)) from None
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise _no_record(say("it cannot be read as one ({fault}).", fault=type(error).__name__)) from None
    with archive:
        yield archive


def _entries(archive: zipfile.ZipFile) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """The record's id, and its files by their names in it; every name is one that a record has."""
    found = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(found) > MOST_FILES:
        raise DoesNotFit(
            say(
                "This zip file holds {count:,} files, more than the {most:,} a record may have.",
                count=len(found),
                most=MOST_FILES,
            )
        )
    entries: dict[str, zipfile.ZipInfo] = {}
    ids = {PurePosixPath(entry.filename).parts[0] if "/" in entry.filename else "" for entry in found}
    for entry in found:
        name = entry.filename.partition("/")[2]
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not PARTS.fullmatch(name) or kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
            raise _no_record(say("{name!r} is not a part of one.", name=entry.filename[:80]))
        if name in entries:
            raise _no_record(say("{name!r} stands there twice.", name=name))
        entries[name] = entry
    missing = [name for name in NEEDED if name not in entries]
    if len(ids) != 1 or not _ID.fullmatch(next(iter(ids), "")) or missing:
        raise _no_record(say("{missing} is missing.", missing=", ".join(missing) or say("the name of its folder")))
    return ids.pop(), entries


def _unpack(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], folder: Path, most: int) -> None:
    """Write the files, counting what comes out and not what the archive says of itself."""
    left = most
    for name, entry in entries.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with archive.open(entry) as source, target.open("xb") as written:
                while piece := source.read(PIECE):
                    left -= len(piece)
                    if left < 0:
                        raise DoesNotFit(
                            say("The record in this zip file is larger than {most:g} GB.", most=most / 1e9)
                        )
                    written.write(piece)
        except LabError:
            raise
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise _no_record(say("{name!r} is damaged ({fault}).", name=name, fault=type(error).__name__)) from None


def _check(record: Record, owner: str) -> None:
    """Raise `RecordError` unless the settings can be read and name no file but the record's own; say whose it is."""
    about = record.about
    if not isinstance(about.get("format"), int) or about["format"] > FORMAT:
        raise RecordError(say("This record was made by a newer version of the lab, or is damaged: open it there."))
    try:
        study = from_toml(StudySettings, (record.folder / "study.toml").read_text(encoding="utf-8"))
    except (LabError, UnicodeDecodeError) as error:
        raise _no_record(say("its settings cannot be read ({reason}).", reason=error)) from None
    for part in FILE_PARTS:
        source: str = getattr(study.data, part)
        if source.startswith(FILE):
            name = source.removeprefix(FILE)
            if not (name.startswith("data/") and PARTS.fullmatch(name) and (record.folder / name).is_file()):
                raise _no_record(say("it names rows that are not in it."))
    told = {**about, "owner": owner_hash(owner), "imported": True}
    write_whole(record.folder / "record.json", json.dumps(told, indent=2, ensure_ascii=False))
