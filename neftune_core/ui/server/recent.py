"""A dictionary of limited size, for caches and for data about visitors."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Recent(OrderedDict[Any, Value], Generic[Value]):
    """Dictionary that keeps only the keys that were set most recently.

    Args:
        most: Maximum number of keys.
        make: Factory for the value of a missing key; None for no default.
    """

    def __init__(self, most: int, make: Callable[[], Value] | None = None) -> None:
        super().__init__()
        self.most, self.make, self._lock = most, make, threading.Lock()

    def __missing__(self, key: Any) -> Value:
        if self.make is None:
            raise KeyError(key)
        self[key] = made = self.make()
        return made

    def __setitem__(self, key: Any, value: Value) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self.most:
            self.popitem(last=False)

    def cached(self, key: Any, compute: Callable[[], Value]) -> Value:
        """Return the value of a key, or compute it without blocking other threads.

        Args:
            key: Hashable key of the value.
            compute: Returns the value of a missing key.

        Returns:
            The value.
        """
        with self._lock:
            known = self.get(key)
        found = compute() if known is None else known
        with self._lock:
            self[key] = found
        return found
