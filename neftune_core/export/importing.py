"""Unpack and check an imported record in a child process with bounded memory and time."""

from __future__ import annotations

import contextlib
import json
import re
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from neftune_core.bounded_io import SETTINGS_BYTES, SETTINGS_VALUES, read_file, read_json
from neftune_core.data.formats.sandboxed_reader import main
from neftune_core.durable import write_whole
from neftune_core.errors import DoesNotFit, LabError, RecordError
from neftune_core.language import in_language, later, say
from neftune_core.sentences import cause
from neftune_core.settings import from_toml
from neftune_core.studies.records import schema
from neftune_core.studies.records.log import Log
from neftune_core.studies.records.numbers import EXAMPLES
from neftune_core.studies.records.record import FORMAT
from neftune_core.studies.records.user_rows import FILE, SOURCE_SETTINGS
from neftune_core.studies.settings import StudySettings

# The files of a record. An archive with any other file is refused. Names begin with a letter or digit, which excludes
# command-line options, hidden files and parent folders.
RECORD_FILES = re.compile(
    r"study\.toml|record\.json|events\.jsonl|answers\.jsonl|examples\.jsonl|judge\.jsonl|metrics\.json|"
    r"data/(held_out_)?source/[^\W_][\w.\-]{0,99}|"
    r"arms/[A-Za-z0-9][A-Za-z0-9_.\-]{0,149}/seed-[0-9]{1,10}(-step-[0-9]{1,10})?/(adapter_config\.json|adapter_model\.safetensors|"
    r"README\.md|model\.safetensors|[a-z][a-z_]{0,39}\.(json|jinja|txt|model))"
)
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{6}")
REQUIRED_FILES = ("study.toml", "record.json", "events.jsonl")
TEXT_BYTES = 64_000_000
"""Maximum size of a text file of a saved model, such as its vocabulary, in bytes."""
HEADER_BYTES, HEADER_VALUES = 4_000_000, 400_000
CHUNK_BYTES = 1 << 20

SIZE_LIMITS: dict[str, int] = {
    "study.toml": SETTINGS_BYTES,
    "record.json": SETTINGS_BYTES,
    "events.jsonl": schema.LOG_BYTES,
    "answers.jsonl": schema.ANSWERS_BYTES,
    EXAMPLES: schema.EXAMPLES_BYTES,
    "judge.jsonl": schema.JUDGE_BYTES,
    "metrics.json": schema.METRICS_BYTES,
    "adapter_config.json": schema.ADAPTER_CONFIG_BYTES,
    "README.md": SETTINGS_BYTES,
}


def _unpack_record(
    path: str, folder: str, owner: str, most: int, files: int, rows: int, language: str
) -> Iterator[list[Any]]:
    """Unpack the record in a zip file into an empty folder, check it, store its owner, and yield `["record", id]`.

    `owner` is a hash from `owner_hash`. The limits are `most` bytes and `files` files for the record, and `rows` bytes
    for each file of rows. A `LabError` is raised if the archive is too large or not a record of the lab.
    """
    with in_language(language), _open_zip(Path(path)) as archive:
        record_id, entries = _entries(archive, files)
        left = most
        for name, entry in entries.items():
            left -= _unpack(archive, name, entry, Path(folder) / name, left, rows)
        _check(Path(folder), owner)
        yield ["record", record_id]


def no_record(reason: str) -> RecordError:
    """Return the error for a file that is not a record of the lab."""
    words = later(
        "This zip file is not a record of the lab: {reason} Export one on the Runs tab, or with `neftune runs export`."
    )
    return RecordError(say(words, reason=reason))


def _unusable(name: str, reason: object) -> RecordError:
    return no_record(say("{name!r} cannot be used ({reason}).", name=name, reason=str(reason)[:80]))


def _damaged(name: str, error: Exception) -> RecordError:
    return no_record(say("{name!r} is damaged ({fault}).", name=name[:80], fault=cause(error)))


@contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError, RuntimeError) as error:
        raise no_record(say("it cannot be read ({fault}).", fault=cause(error))) from None
    with archive:
        yield archive


def _entries(archive: zipfile.ZipFile, most: int) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """Return the id of the record and its entries by file name; raise a `LabError` unless they form a record."""
    found = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(found) > most:
        words = later("This zip file has {count:,} files, more than the maximum of {most:,} for a record.")
        raise DoesNotFit(say(words, count=len(found), most=most))
    entries: dict[str, zipfile.ZipInfo] = {}
    ids = {PurePosixPath(entry.filename).parts[0] if "/" in entry.filename else "" for entry in found}
    for entry in found:
        name = entry.filename.partition("/")[2]
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not RECORD_FILES.fullmatch(name) or kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
            raise no_record(say("{name!r} does not belong in a record.", name=entry.filename[:80]))
        if name in entries:
            raise no_record(say("it contains {name!r} twice.", name=name))
        entries[name] = entry
    missing = [name for name in REQUIRED_FILES if name not in entries]
    if len(ids) != 1 or not _ID.fullmatch(next(iter(ids), "")) or missing:
        raise no_record(say("{missing} is missing.", missing=", ".join(missing) or say("the name of its folder")))
    return ids.pop(), entries


def _unpack(archive: zipfile.ZipFile, name: str, entry: zipfile.ZipInfo, target: Path, left: int, rows: int) -> int:
    """Write one file and return its size in bytes, counted while unpacking because the header is not trusted.

    Raises:
        DoesNotFit: If the file is too large.
        RecordError: If the file is damaged.
    """
    most, taken = _most_of(name, rows), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("xb") as written:
            while piece := source.read(CHUNK_BYTES):
                taken += len(piece)
                if taken > left:
                    words = later(
                        "The record in this zip file is larger than the {room:,.1f} MB that are available: remove "
                        "other records first."
                    )
                    raise DoesNotFit(say(words, room=left / 1e6))
                if taken > most:
                    words = later("The file {name} of this record is larger than the maximum of {most:,} kB.")
                    raise DoesNotFit(say(words, name=name[:80], most=most // 1000))
                written.write(piece)
    except LabError:
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError, zlib.error) as error:
        raise _damaged(name, error) from None
    return taken


def _most_of(name: str, rows: int) -> int:
    file = name.rpartition("/")[2]
    if name.startswith("data/"):
        return rows
    return sys.maxsize if file.endswith(".safetensors") else SIZE_LIMITS.get(file, TEXT_BYTES)


def _check(folder: Path, owner: str) -> None:
    """Check every file and the paths in the settings, and store the owner; raise a `LabError` on failure."""
    about = _about(folder / "record.json")
    try:
        study = from_toml(StudySettings, schema.settings_text(folder / "study.toml"))
    except (LabError, UnicodeDecodeError) as error:
        raise no_record(say("its settings cannot be read ({reason}).", reason=str(error)[:200])) from None
    for setting in SOURCE_SETTINGS:
        source: str = getattr(study.data, setting)
        if source.startswith(FILE):
            name = source.removeprefix(FILE)
            if not (name.startswith("data/") and RECORD_FILES.fullmatch(name) and (folder / name).is_file()):
                raise no_record(say("it refers to rows that it does not contain."))
    _check_numbers(folder)
    for path in sorted(folder.glob("arms/*/*/*.safetensors")):
        _check_weights(path)
    text = json.dumps({**about, "owner": owner, "imported": True}, ensure_ascii=False)
    if len(text.encode()) > SETTINGS_BYTES:
        raise _unusable("record.json", "too large")
    write_whole(folder / "record.json", text)


def _about(path: Path) -> dict[str, Any]:
    try:
        about = read_json(read_file(path, SETTINGS_BYTES), SETTINGS_VALUES)
        if isinstance(about, dict) and (type(about.get("format")) is not int or about["format"] > FORMAT):
            raise RecordError(
                say(
                    "This record was made by a newer version of the lab, or is damaged: open it with the version that "
                    "made it."
                )
            )
        schema.About.model_validate(about)
    except ValidationError as error:
        raise _unusable(path.name, ".".join(map(str, error.errors(include_url=False)[0]["loc"]))) from None
    except ValueError as error:
        raise _unusable(path.name, error) from None
    return dict(about)


def _check_numbers(folder: Path) -> None:
    """Check the log, answers, row measures, verdicts and metrics against the limits of their readers.

    Raises:
        RecordError: If they exceed a limit.
    """
    log = Log(folder / "events.jsonl", schema.LOG_BYTES, schema.LOG_VALUES)
    log.read()
    if log.cut:
        raise _unusable("events.jsonl", "too many values")
    for name in ("answers.jsonl", EXAMPLES, "judge.jsonl"):
        if not schema.fits_import(folder / name, SIZE_LIMITS[name]):
            raise _unusable(name, "too many values")
    try:
        schema.metrics_of(folder / "metrics.json")
    except FileNotFoundError:
        return
    except ValueError as error:
        raise _unusable("metrics.json", error) from None


def _check_weights(path: Path) -> None:
    """Check that the header of a safetensors file describes exactly its bytes.

    Raises:
        RecordError: If it does not.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEADER_BYTES:
                raise ValueError("no header")
            header = read_json(file.read(length), HEADER_VALUES)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        if max(ends, default=0) != path.stat().st_size - 8 - length:
            raise ValueError("cut off")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _damaged("/".join(path.parts[-3:]), error) from None


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(sys.argv[1], {"record": _unpack_record})
