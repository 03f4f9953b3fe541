"""Files and folders that appear atomically and survive a power failure.

They are written under a temporary name, flushed to disk and renamed; then the parent folder is flushed. A rename alone
may reach the disk before the content.

Storage buckets and some network file systems have no locks, permissions or flushes. Locks are then held in the
temporary folder of this machine; permissions and flushes are skipped.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

# Windows can only flush files opened for writing.
_FLAGS = os.O_RDONLY if os.name == "posix" else os.O_RDWR

UMASK = os.umask(0o022)
os.umask(UMASK)

UNSUPPORTED = frozenset(
    {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ENOLCK, errno.EXDEV}
)
"""Values of `errno` by which a file system reports that it lacks an operation."""


def is_unsupported(error: OSError) -> bool:
    """Return whether an error means that the file system lacks the operation."""
    return error.errno in UNSUPPORTED


@contextmanager
def _skipped_if_unsupported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_unsupported(error):
            raise


def acquire_lock(path: Path, *, timeout: float = -1, poll_interval: float = 0.05) -> FileLock | None:
    """Lock a file, created if missing, until the result is released or the process ends.

    Args:
        path: The file. If its file system has no locks, a file in the temporary folder is locked instead, which only
            excludes processes of this machine.
        timeout: Seconds to wait; 0 for one attempt, negative for no limit.
        poll_interval: Seconds between attempts.

    Returns:
        The lock, to be released by the caller; None if it is still held elsewhere after `timeout`.

    Raises:
        OSError: If the file cannot be written.
    """
    try:
        return _acquire(path, timeout, poll_interval)
    except OSError as error:
        if not is_unsupported(error):
            raise
        beside = lock_of_machine(path)
        beside.parent.mkdir(mode=0o700, exist_ok=True)
        return _acquire(beside, timeout, poll_interval)


def _acquire(path: Path, timeout: float, poll_interval: float) -> FileLock | None:
    lock = FileLock(path, thread_local=False, is_singleton=False)
    try:
        lock.acquire(timeout=timeout, poll_interval=poll_interval)
    except Timeout:
        return None
    return lock


def lock_of_machine(path: Path) -> Path:
    """Return the file in the temporary folder that is locked instead of `path` if its file system has no locks."""
    folder = Path(tempfile.gettempdir()) / f"neftune-lab-locks-{os.getuid() if hasattr(os, 'getuid') else 0}"
    return folder / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]


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
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """Flush an open file to disk, if its file system can.

    Raises:
        OSError: If the content cannot be written, for example because the disk is full.
    """
    with _skipped_if_unsupported():
        os.fsync(descriptor)


def publish(aside: Path, target: Path) -> None:
    """Flush a finished file or folder and rename it, with the permissions of a new file.

    Args:
        aside: The finished file or folder.
        target: Its final name; an existing file is replaced by a file.

    Raises:
        OSError: If `aside` is a folder, and `target` is a file or a folder with content.
    """
    _open_to_readers(aside)
    _flush_below(aside)
    move(aside, target)


def _open_to_readers(path: Path) -> None:
    """Replace the private permissions of temporary files, such as those that safetensors writes."""
    if path.is_symlink():
        return
    is_folder = path.is_dir()
    with _skipped_if_unsupported():
        path.chmod((0o777 if is_folder else 0o666) & ~UMASK)
    if is_folder:
        for inside in path.iterdir():
            _open_to_readers(inside)


def move(source: Path, target: Path) -> None:
    """Rename a file or folder whose content is already flushed, and flush the directory entries.

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
    """Yield a temporary path next to `target`; the file or folder written there becomes `target` after the block.

    An existing `target` is replaced only then, and kept if the block raises.
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
