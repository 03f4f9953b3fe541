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
"""How long a claim is retried, because `is_claimed` briefly holds the lock."""


@contextmanager
def claiming(path: Path) -> Iterator[bool]:
    """Lock the file at `path`, created if missing, during the block; yield whether the lock was acquired."""
    lock = acquire_lock(path, timeout=PATIENCE_SECONDS, poll_interval=0.02)
    if lock is None:
        yield False
        return
    try:
        yield True
    finally:
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
