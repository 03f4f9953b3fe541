"""Exchange records and rows between the machines of a cluster, as zip files."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from neftune_core.durable import atomic_write, move
from neftune_core.errors import RecordError
from neftune_core.sweeps.sweep import SweepCell

NOT_RETURNED = (
    "Its record was not returned: set --store to a folder that every machine of the cluster can write to and this one "
    "can read."
)


def pack(folder: Path, root: Path) -> bytes:
    """Return the files of a folder as a zip file.

    Args:
        folder: The folder; if it does not exist, the zip file has no entries.
        root: Names in the archive are relative to this folder.

    Returns:
        The content of the zip file.
    """
    packed = io.BytesIO()
    _write_zip(packed, folder, root)
    return packed.getvalue()


def _write_zip(file: IO[bytes], folder: Path, root: Path, without: Sequence[str] = ()) -> None:
    """Write the files of a folder, except the subfolders in `without`, to a zip file, with names relative to `root`."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.relative_to(folder).parts[0] not in without:
                archive.write(path, path.relative_to(root).as_posix())


def unpack(packed: bytes | Path, folder: Path, only: str = "") -> None:
    """Extract files from a zip file written by `_write_zip`; no file can be written outside the folder.

    Args:
        packed: The zip file, or its content.
        folder: Target folder.
        only: Prefix of the names to extract.
    """
    with zipfile.ZipFile(packed if isinstance(packed, Path) else io.BytesIO(packed)) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(only)])


def send(folder: Path, root: Path, target: str, without: Sequence[str] = ()) -> None:
    """Write the files of a folder as a zip file to a store.

    Args:
        folder: The folder to send, with its subfolders.
        root: Names in the archive are relative to this folder, which also receives the temporary file.
        target: fsspec URL.
        without: Names of direct subfolders to leave out.
    """
    import fsspec

    files, path = fsspec.url_to_fs(target)
    with tempfile.NamedTemporaryFile(dir=root, suffix=".zip") as packed:
        _write_zip(packed, folder, root, without)
        packed.flush()
        files.makedirs(files._parent(path), exist_ok=True)
        files.put_file(packed.name, path)


def fetch(target: str, one: SweepCell) -> None:
    """Replace the local record of a cell with the worker's record, which is then removed from the store.

    Args:
        target: fsspec URL.
        one: The cell.

    Raises:
        RecordError: If the record is not in the store.
    """
    import fsspec

    files, path = fsspec.url_to_fs(target)
    if not files.exists(path):
        raise RecordError(NOT_RETURNED)
    folder = one.record.folder
    with tempfile.TemporaryDirectory(prefix=".fetched-", dir=folder.parent) as fetched:
        packed = Path(fetched) / "record.zip"
        files.get_file(path, str(packed))
        unpack(packed, Path(fetched), only=f"cells/{one.cell.name}/")
        with atomic_write(folder) as replacement:  # also removes files that the run deleted
            move(Path(fetched) / "cells" / one.cell.name, replacement)
    files.rm_file(path)
