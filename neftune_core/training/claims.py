"""One writer a record: a lock on a file that the system itself takes back when its holder ends, however it ends.

No process number and no clock is trusted, so that neither a number that is given out again nor a clock that is set
back can make a dead writer look alive, or a living one dead. On a file system without locks only the writers within
one process are kept apart.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TRIES = 20
BETWEEN_SECONDS = 0.02
"""A look at a file holds its lock for a moment: whoever claims it tries again for less than half a second."""

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)

_guard = threading.Lock()
_held: set[Path] = set()  # by this process; a system may not tell a process of its own locks


@contextmanager
def claiming(path: Path) -> Iterator[bool]:
    """Hold the file at `path`, made where it is missing, until the block is left; gives whether it was free.

    Raises `OSError` where it cannot be written. The file stays: were it removed, one process could hold the file that
    is gone and another the new one.
    """
    whole = path.resolve()
    with _guard:
        is_free = whole not in _held
        if is_free:
            _held.add(whole)
    if not is_free:
        yield False
        return
    try:
        with path.open("a+b") as file:
            locked = _locked_soon(file.fileno())
            try:
                yield locked
            finally:
                if locked:
                    _unlock(file.fileno())
    finally:
        with _guard:
            _held.discard(whole)


def is_claimed(path: Path) -> bool:
    """Whether a living process, this one or another, holds the file at `path`."""
    with _guard:
        if path.resolve() in _held:
            return True
        with suppress(OSError), path.open("r+b") as file:
            if not _locked(file.fileno()):
                return True
            _unlock(file.fileno())
    return False


def _locked_soon(descriptor: int) -> bool:
    for _ in range(TRIES):
        if _locked(descriptor):
            return True
        time.sleep(BETWEEN_SECONDS)
    return False


if sys.platform == "win32":
    import msvcrt

    def _locked(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _locked(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in WITHOUT_LOCKS
        return True

    def _unlock(descriptor: int) -> None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
