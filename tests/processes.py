"""Processes that tests start, and that no failed test leaves running."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_SECONDS = 30


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Yield the process; afterwards ask it to end, and kill it if it does not."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
