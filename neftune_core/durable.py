"""Atomic writing of files and folders that survives a power failure, and locks between processes.

Files and folders are written under a temporary name, flushed to disk and renamed, and then the parent folder is
flushed. Without flushing, a rename may reach the disk before the content.

Storage buckets and some network file systems do not support locks, permissions or flushing. Locks are then held in the
temporary folder of this machine, and permissions and flushing are skipped. The operating system releases a lock when
the process exits or is killed. A lock does not depend on process ids, which can be reused, or on clocks, which can be
set back.
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
"""Values of `errno` for operations that a file system does not support."""


def is_unsupported(error: OSError) -> bool:
    """Return whether an error means that the file system does not support the operation."""
    return error.errno in UNSUPPORTED


@contextmanager
def _skipped_if_unsupported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_unsupported(error):
            raise


def acquire_lock(path: Path, *, timeout: float = -1, poll_interval: float = 0.05) -> FileLock | None:
    """Lock a file until the lock is released or the process ends; the file is created if missing.

    Args:
        path: The file. If its file system does not support locks, a file in the temporary folder is locked instead,
            which only excludes processes on this machine.
        timeout: Seconds to wait; 0 for one attempt, negative for no limit.
        poll_interval: Seconds between attempts.

    Returns:
        The lock, to be released by the caller; None if it is not acquired within `timeout`.

    Raises:
        OSError: If the file cannot be written.
    """
    try:
        return _acquire(path, timeout, poll_interval)
    except OSError as error:
        if not is_unsupported(error):
            raise
        fallback = lock_of_machine(path)
        fallback.parent.mkdir(mode=0o700, exist_ok=True)
        return _acquire(fallback, timeout, poll_interval)


def _acquire(path: Path, timeout: float, poll_interval: float) -> FileLock | None:
    lock = FileLock(path, thread_local=False, is_singleton=False)
    try:
        lock.acquire(timeout=timeout, poll_interval=poll_interval)
    except Timeout:
        return None
    return lock


def lock_of_machine(path: Path) -> Path:
    """Return the temporary file that is locked instead of `path` if its file system does not support locks."""
    folder = Path(tempfile.gettempdir()) / f"neftune-lab-locks-{os.getuid() if hasattr(os, 'getuid') else 0}"
    return folder / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]


def flush(path: Path) -> None:
    """Flush a file or folder, everything below it, and its directory entry to disk.

    Raises:
        OSError: If the content of a file cannot be written, for example because the disk is full.
    """
    _flush_below(path)
    _flush_names(path.parent)


def _tree(path: Path) -> Iterator[Path]:
    """Yield everything in a folder, and then the folder or file itself, except symbolic links."""
    if path.is_symlink():
        return
    if path.is_dir():
        for inside in path.iterdir():
            yield from _tree(inside)
    yield path


def _flush_below(path: Path) -> None:
    for found in _tree(path):
        if found.is_dir():
            _flush_names(found)
        else:
            _flush(found, _FLAGS)


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
    """Flush an open file to disk, if its file system supports this.

    Raises:
        OSError: If the content cannot be written, for example because the disk is full.
    """
    with _skipped_if_unsupported():
        os.fsync(descriptor)


def publish(aside: Path, target: Path) -> None:
    """Flush a finished file or folder and rename it; the result gets the default permissions of a new one.

    Args:
        aside: The finished file or folder.
        target: Final path; a file replaces an existing file.

    Raises:
        OSError: If the content cannot be written, or `aside` is a folder and `target` is a file or a non-empty folder.
    """
    for path in _tree(aside):  # temporary files, such as those of safetensors, are private
        with _skipped_if_unsupported():
            path.chmod((0o777 if path.is_dir() else 0o666) & ~UMASK)
    _flush_below(aside)
    move(aside, target)


def move(source: Path, target: Path) -> None:
    """Rename a file or folder that has already been flushed, and flush the directory entries.

    Args:
        source: Current path.
        target: New path.
    """
    if source.is_dir():
        os.rename(source, target)  # noqa: PTH104 - Path.rename overwrites files on some systems
    else:
        source.replace(target)
    for folder in {source.parent, target.parent}:
        _flush_names(folder)


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary path next to `target`; the file or folder written there is renamed to `target` after the block.

    An existing `target` is only replaced after the block, and is kept if the block raises.
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
        text: The content.
    """
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


PATIENCE_SECONDS = 0.4
"""How long to retry a claim; `is_claimed` may briefly hold the lock."""


@contextmanager
def claiming(path: Path, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[bool]:
    """Lock a file, created if missing, during the block.

    Args:
        path: The file.
        patience_seconds: How long to wait for the lock.

    Yields:
        Whether the lock was acquired.
    """
    lock = acquire_lock(path, timeout=patience_seconds, poll_interval=0.02)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


def is_claimed(path: Path) -> bool:
    """Return whether a running process holds the lock on the file at `path`; a missing file is not created."""
    if not path.exists() and not lock_of_machine(path).exists():
        return False
    try:
        lock = acquire_lock(path, timeout=0)
    except OSError:  # not writable, so no process here can hold the lock
        return False
    if lock is None:
        return True
    lock.release()
    return False
