"""Files and folders that appear whole, and are still there after a power cut.

They are written aside, flushed to the disk and renamed, and the folder with the new name is flushed as well: a rename
alone may reach the disk before the content that it names.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Windows flushes only what is open for writing.
_FLAGS = os.O_RDONLY if os.name == "posix" else os.O_RDWR

UMASK = os.umask(0o022)
os.umask(UMASK)


def flush(path: Path) -> None:
    """Have a file, or a folder with all that is below it, and its name written to the disk before this returns.

    Raises `OSError` if the content of a file cannot be written, as on a full disk.
    """
    _flush_below(path)
    _flush_names(path.parent)


def _flush_below(path: Path) -> None:
    if path.is_symlink():
        return
    if path.is_dir():
        for inside in path.iterdir():
            _flush_below(inside)
        _flush_names(path)
    else:
        _flush(path, _FLAGS)


def _flush_names(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows and some network file systems do not open folders
        _flush(folder, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(aside: Path, target: Path) -> None:
    """Give the finished file or folder `aside` the name `target`, with the permissions of any new file.

    A file takes the place of another one; a folder takes no place: one that is there already is an `OSError`.
    """
    _open_to_readers(aside)
    _flush_below(aside)
    move(aside, target)


def _open_to_readers(path: Path) -> None:
    """Undo the private permissions that libraries give to temporary files, safetensors among them."""
    if path.is_symlink():
        return
    is_folder = path.is_dir()
    path.chmod((0o777 if is_folder else 0o666) & ~UMASK)
    if is_folder:
        for inside in path.iterdir():
            _open_to_readers(inside)


def move(source: Path, target: Path) -> None:
    """Rename what is on the disk already, and have the new name written to the disk."""
    if source.is_dir():
        os.rename(source, target)  # noqa: PTH104 - Path.rename overwrites files on some systems
    else:
        source.replace(target)
    for folder in {source.parent, target.parent}:
        _flush_names(folder)


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A free name beside `target` for a file or a folder, which is published as `target` at the end of the block.

    What stands at `target` stays until the new one is whole, and if the block raises.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
    before = aside.with_name(f"{aside.name}.old")
    try:
        yield aside
        if target.is_dir():
            _flush_below(aside)
            move(target, before)
        publish(aside, target)
    except BaseException:
        remove(aside)
        raise
    finally:
        if not target.exists() and before.exists():
            move(before, target)
        remove(before)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader never sees half of it, also if the disk is full."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")
