"""Run a coroutine in an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_own_loop(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run `work()` on another thread and return its result; an open browser occupies this thread's event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
