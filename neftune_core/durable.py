"""Files and folders that appear atomically and survive a power failure.

They are written under a temporary name, flushed to disk and renamed; then the parent folder is flushed. A rename alone
may reach the disk before the content.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Windows can only flush files opened for writing.
_FLAGS = os.O_RDONLY if os.name == "posix" else os.O_RDWR

UMASK = os.umask(0o022)
os.umask(UMASK)


def flush(path: Path) -> None:
    """Flush a file or folder, everything below it, and its directory entry to disk.

    Raises:
        OSError: If the content of a file cannot be written, for example because the disk is full.
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
    with contextlib.suppress(OSError):  # Windows and some network file systems cannot open folders
        _flush(folder, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(aside: Path, target: Path) -> None:
    """Flush a finished file or folder and rename it, with the permissions of a new file.

    Args:
        aside: The finished file or folder.
        target: Its final name. A file replaces an existing file; a folder replaces nothing.

    Raises:
        OSError: If `aside` is a folder and `target` exists.
    """
    _open_to_readers(aside)
    _flush_below(aside)
    move(aside, target)


def _open_to_readers(path: Path) -> None:
    """Replace the private permissions of temporary files, such as those that safetensors writes."""
    if path.is_symlink():
        return
    is_folder = path.is_dir()
    path.chmod((0o777 if is_folder else 0o666) & ~UMASK)
    if is_folder:
        for inside in path.iterdir():
            _open_to_readers(inside)


def move(source: Path, target: Path) -> None:
    """Rename a file or folder that is already on disk, and flush the directory entries.

    Args:
        source: Current name.
        target: New name.
    """
    if source.is_dir():
        os.rename(source, target)  # noqa: PTH104 - Path.rename overwrites files on some systems
    else:
        source.replace(target)
    for folder in {source.parent, target.parent}:
        _flush_names(folder)


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary name next to `target`; what is written there becomes `target` at the end of the block.

    An existing `target` stays in place until then, and if the block raises.
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
    """Remove a file or folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file atomically.

    Args:
        path: The file.
        text: Its content.
    """
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")
