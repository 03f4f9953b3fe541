"""The one lock around the machine's compute: a study holds it step by step, a comparison token by token."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class FairLock:
    """A lock that serves in the order of asking, so that a training loop cannot starve a comparison."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._held = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the turn, then hold the lock until the block is left."""
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
        try:
            yield
        finally:
            self._pass_on()

    def _give_up(self, turn: threading.Event) -> None:
        """Somebody stopped waiting: they lose their place, or pass on the turn that they were just given."""
        with self._guard:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        self._pass_on()

    def _pass_on(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._held = False


accelerator = FairLock()
