"""Seeded choices. Only `random()` is used, which Python promises to keep the same in all versions."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """A stream of choices fixed by `parts` (text and integers): the same on every machine and hash seed."""

    def __init__(self, *parts: str | int) -> None:
        digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
        self._next = random.Random(int.from_bytes(digest[:8], "big")).random

    def share(self) -> float:
        """A number from 0 to 1, 1 excluded."""
        return self._next()

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return self._next() < probability

    def below(self, count: int) -> int:
        """An integer from 0 to `count - 1`."""
        return int(self._next() * count)

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + int(self._next() * (high - low + 1))

    def one(self, choices: Sequence[T]) -> T:
        """One of the choices, each equally likely."""
        return choices[int(self._next() * len(choices))]

    def weighted(self, choices: Sequence[tuple[T, float]]) -> T:
        """One of the choices, each as likely as its weight says."""
        left = self._next() * sum(weight for _, weight in choices)
        for choice, weight in choices:
            left -= weight
            if left < 0:
                return choice
        return choices[-1][0]

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """`count` different places of `choices`, in random order."""
        return self.shuffled(choices, count)

    def shuffled(self, choices: Sequence[T], count: int | None = None) -> list[T]:
        """The choices in random order, or the first `count` of that order."""
        pool = list(choices)
        stop = len(pool) if count is None else min(count, len(pool))
        for place in range(stop):
            other = place + int(self._next() * (len(pool) - place))
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:stop]
