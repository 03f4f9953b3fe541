"""File lock that lets one process write a record.

The operating system releases the lock when the process exits or is killed. The lock does not depend on process ids,
which can be reused, or on clocks, which can be set back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neftune_core.durable import acquire_lock, lock_of_machine

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
