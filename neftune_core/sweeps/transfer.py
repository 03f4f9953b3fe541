"""What the machines of a cluster send each other: records and rows as zip files."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from neftune_core.durable import move, written_aside
from neftune_core.errors import RecordError
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.sweep import SweepCell

NOT_BACK = (
    "Its record did not come back: name with --store a folder that every machine of the cluster can write and this one "
    "can read."
)


def pack(one: SweepCell) -> bytes:
    """What a cell alone needs elsewhere: its record as it stands."""
    held = io.BytesIO()
    write_zip(held, one.record.folder, one.sweep.folder)
    return held.getvalue()


def pack_rows(sweep: Sweep) -> bytes:
    """What all cells of a sweep need elsewhere: its rows."""
    held = io.BytesIO()
    write_zip(held, sweep.folder / "data", sweep.folder)
    return held.getvalue()


def write_zip(held: IO[bytes], folder: Path, root: Path, without: Sequence[str] = ()) -> None:
    """The files of `folder`, if it is there, by their names under `root`; folders called as in `without` stay."""
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.relative_to(folder).parts[0] not in without:
                archive.write(path, path.relative_to(root).as_posix())


def unpack(packed: bytes | Path, folder: Path, only: str = "") -> None:
    """Write what `write_zip` gave under `folder`, those files alone whose names begin with `only`; none leaves it."""
    with zipfile.ZipFile(packed if isinstance(packed, Path) else io.BytesIO(packed)) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(only)])


def send(folder: Path, root: Path, target: str, without: Sequence[str] = ()) -> None:
    """Write the files of `folder`, as `write_zip` packs them, to `target`, through a zip file in `root`."""
    import fsspec

    files, path = fsspec.url_to_fs(target)
    with tempfile.NamedTemporaryFile(dir=root, suffix=".zip") as packed:
        write_zip(packed, folder, root, without)
        packed.flush()
        files.makedirs(files._parent(path), exist_ok=True)
        files.put_file(packed.name, path)


def fetch(target: str, one: SweepCell) -> None:
    """Put the record of a cell, as the worker wrote it, in place of the one here, and remove it there.

    Raises `RecordError` where it has not come.
    """
    import fsspec

    files, path = fsspec.url_to_fs(target)
    if not files.exists(path):
        raise RecordError(NOT_BACK)
    home = one.record.folder
    with tempfile.TemporaryDirectory(prefix=".came-", dir=home.parent) as aside:
        packed = Path(aside) / "record.zip"
        files.get_file(path, str(packed))
        unpack(packed, Path(aside), only=f"cells/{one.cell.name}/")
        with written_aside(home) as whole:  # what the run has dropped does not stay here
            move(Path(aside) / "cells" / one.cell.name, whole)
    files.rm_file(path)
