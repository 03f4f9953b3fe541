"""Export records and models as zip files, and import records from other machines."""

from __future__ import annotations

import io
import json
import re
import shutil
import tempfile
import threading
import zipfile
from pathlib import Path

from neftune_core.data.formats.sandboxed_reader import Bounds, ReaderError, run_reader
from neftune_core.durable import atomic_write, publish
from neftune_core.errors import DataError, DoesNotFit, LabError, RecordError
from neftune_core.export.importing import CHUNK_BYTES, RECORD_FILES, no_record
from neftune_core.home import folder_bytes
from neftune_core.language import current, later, say
from neftune_core.sentences import cause
from neftune_core.settings import Limits
from neftune_core.studies.records.log import finite
from neftune_core.studies.records.numbers import EXAMPLES
from neftune_core.studies.records.owners import bytes_left, owner_hash, require_space
from neftune_core.studies.records.record import Record, runs_folder
from neftune_core.studies.records.removal import IMPORTING
from neftune_core.studies.records.schema import EXAMPLES_BYTES, fits_import

MOST_FILES = 2_000
MOST_BYTES = 2_000_000_000
BOUNDS = Bounds(memory_bytes=1_000_000_000, seconds=120, row_characters=10_000, characters=10_000)
"""Limits of the child process that unpacks and checks a record."""


def pack(
    folder: Path,
    target: Path,
    inside: str,
    *,
    only: re.Pattern[str] | None = None,
    without: str = "",
    record_text: str = "",
) -> Path:
    """Write a folder as a reproducible zip file.

    Args:
        folder: The folder to pack, with all its subfolders.
        target: The zip file to write.
        inside: Name of the top folder inside the archive.
        only: Pattern of the relative paths to pack; None for all.
        without: Relative path to leave out; "" for none.
        record_text: Content that replaces that of `record.json`; "" to keep it.

    Returns:
        `target`.
    """
    with (
        atomic_write(target) as aside,
        zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if name != without and (only is None or only.fullmatch(name)):
                entry = zipfile.ZipInfo(f"{inside}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                is_replaced = record_text and name == "record.json"
                source = io.BytesIO(record_text.encode()) if is_replaced else path.open("rb")
                with source, archive.open(entry, "w") as written:
                    shutil.copyfileobj(source, written, CHUNK_BYTES)
    return target


def pack_record(record: Record, target: Path) -> Path:
    """Write a record as a zip file that contains neither the checkpoint nor the hash of the owner's key.

    The measures of single rows are left out if they exceed the limits of imported records.

    Args:
        record: The record of a study that is not part of a sweep.
        target: The zip file to write.

    Returns:
        `target`.

    Raises:
        RecordError: If the record is a sweep or one study of a sweep, or cannot be used.
    """
    record.require_usable()
    if record.is_sweep or record.name != record.id:
        words = later(
            "A sweep and its studies cannot be exported as records: export the table (`neftune sweep {sweep} --csv`), "
            "or one arm of a study as an adapter or a whole model."
        )
        raise RecordError(say(words, sweep=record.name.partition("/")[0]))
    text = json.dumps(finite({**record.about, "owner": ""}), indent=2, ensure_ascii=False)
    without = "" if fits_import(record.folder / EXAMPLES, EXAMPLES_BYTES) else EXAMPLES
    return pack(record.folder, target, record.id, only=RECORD_FILES, without=without, record_text=text)


def import_record(path: Path, owner: str, limits: Limits | None = None, *, folder: Path | None = None) -> Record:
    """Import the record in a zip file for `owner`, under its original id.

    The archive is unpacked and checked in a child process with bounded memory. The process writes only to a new folder,
    which is removed if the record is refused.

    Args:
        path: The zip file.
        owner: Key of the visitor who will own the record. The record counts towards the visitor's disk limit.
        limits: Limits on size and number; the defaults if None.
        folder: Folder for records; the lab's own if None.

    Returns:
        The imported record.

    Raises:
        DataError: If there is no file at `path`.
        RecordError: If the archive is not a record, or a record with the same id exists.
        DoesNotFit: If the record is too large or has too many files, or a disk limit is exceeded.
    """
    limits, root = limits or Limits(), folder or runs_folder()
    if not path.is_file():
        raise DataError(say("The file {file!r} does not exist: check the path.", file=path.name))
    require_space(root, owner, limits)
    root.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=IMPORTING, dir=root))
    try:
        with Record(aside).claimed():  # so that a clean-up does not remove the folder
            record_id = _import_into(path, aside, owner, limits)
            with _publishing:
                if (root / record_id).exists():
                    raise RecordError(
                        say("The record {record} already exists here: remove it first.", record=record_id)
                    )
                require_space(root, owner, limits, more=folder_bytes(aside))
                publish(aside, root / record_id)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return Record(root / record_id)


_publishing = threading.Lock()


def _import_into(path: Path, folder: Path, owner: str, limits: Limits) -> str:
    """Unpack a record into `folder` and return its id; raise a `LabError` if it is refused."""
    arguments = {
        "path": str(path.resolve()),
        "folder": str(folder.resolve()),
        "owner": owner_hash(owner),
        "most": min(MOST_BYTES, bytes_left(folder.parent, owner, limits)),
        "files": MOST_FILES,
        "rows": limits.upload_megabytes * 1_000_000,
        "language": current(),
    }
    try:
        ((_, record_id),) = run_reader("record", arguments, BOUNDS, module="neftune_core.export.importing")
    except ReaderError as error:
        known: dict[str, type[LabError]] = {"RecordError": RecordError, "DoesNotFit": DoesNotFit}
        if error.kind in known:
            raise known[error.kind](str(error)) from None
        raise no_record(say("it cannot be read ({fault}).", fault=cause(error))) from None
    return str(record_id)
