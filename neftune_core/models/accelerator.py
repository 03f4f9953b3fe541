"""A lock that shares the machine's compute: training holds it for one pass, generation for one token."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


class FairLock:
    """A lock that threads acquire in the order of their requests.

    Therefore, a training loop cannot keep other threads, such as those that generate answers, waiting indefinitely.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._held = False
        self._owner = 0

    @property
    def waiting(self) -> int:
        """Number of threads waiting for the lock."""
        return len(self._waiting)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock inside the block."""
        self._take()
        try:
            yield
        finally:
            self._pass_on()

    def yield_turn(self) -> None:
        """Release the lock to any waiting threads and acquire it again; do nothing if this thread does not hold it."""
        with self._guard:
            if self._owner != threading.get_ident() or not self._waiting:
                return
        self._pass_on()
        self._take()

    def _take(self) -> None:
        turn = threading.Event()
        with self._guard:
            if self._held:
                self._waiting.append(turn)
            else:
                self._held = True
                turn.set()
        try:
            turn.wait()
        except BaseException:
            self._give_up(turn)
            raise
        self._owner = threading.get_ident()

    def _give_up(self, turn: threading.Event) -> None:
        """Remove a thread that stopped waiting from the queue, or pass the lock on if the thread already has it."""
        with self._guard:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        self._pass_on()

    def _pass_on(self) -> None:
        with self._guard:
            self._owner = 0
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._held = False


accelerator = FairLock()
if hasattr(os, "register_at_fork"):  # the thread that holds the lock does not exist in the child
    os.register_at_fork(after_in_child=accelerator.__init__)  # type: ignore[misc]


def holding(stream: Iterator[Item]) -> Iterator[Item]:
    """Yield the items of `stream`, and hold the accelerator while each item is computed."""
    while True:
        with accelerator.held():
            item = next(stream, None)
        if item is None:
            return
        yield item
