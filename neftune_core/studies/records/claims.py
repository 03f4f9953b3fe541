"""One writer per record: a file lock that the system takes back when its holder ends, however it ends.

Neither process numbers nor clocks are trusted, so that a number that is given out again or a clock that is set back
cannot make a dead writer look alive, or a living one dead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PATIENCE_SECONDS = 0.4
"""A look at a file holds its lock for a moment: whoever claims it tries again for this long."""


@contextmanager
def claiming(path: Path) -> Iterator[bool]:
    """Hold the file at `path`, made if missing, until the block is left; yields whether it was free.

    Raises `OSError` if the file cannot be written.
    """
    lock = _lock(path)
    try:
        lock.acquire(timeout=PATIENCE_SECONDS, poll_interval=0.02)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_claimed(path: Path) -> bool:
    """Return whether a living process, this one or another, holds the file at `path`; no file is made."""
    if not path.exists():
        return False
    lock = _lock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:  # it cannot be written here, so nobody here holds it
        return False
    lock.release()
    return False


def _lock(path: Path) -> FileLock:
    return FileLock(path, thread_local=False, is_singleton=False)
