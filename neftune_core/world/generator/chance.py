"""Seeded random choices, based only on `Random.random`, whose sequence Python guarantees across versions."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """A stream of choices that depends only on `parts` (strings and integers), not on the machine or the hash seed."""

    def __init__(self, *parts: str | int) -> None:
        digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
        self._next = random.Random(int.from_bytes(digest[:8], "big")).random

    def share(self) -> float:
        """Return a number in [0, 1)."""
        return self._next()

    def happens(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._next() < probability

    def below(self, count: int) -> int:
        """Return an integer from 0 to `count - 1`."""
        return int(self._next() * count)

    def between(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, inclusive.

        Args:
            low: Smallest value.
            high: Largest value.

        Returns:
            The integer.
        """
        return low + int(self._next() * (high - low + 1))

    def one(self, choices: Sequence[T]) -> T:
        """Return one of the choices, with equal probabilities."""
        return choices[int(self._next() * len(choices))]

    def weighted(self, choices: Sequence[tuple[T, float]]) -> T:
        """Return one of the choices, with probabilities proportional to their weights."""
        left = self._next() * sum(weight for _, weight in choices)
        for choice, weight in choices:
            left -= weight
            if left < 0:
                return choice
        return choices[-1][0]

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """Return a random sample without replacement, in random order.

        Args:
            choices: Choices to draw from.
            count: Size of the sample.

        Returns:
            At most `count` choices.
        """
        pool = list(choices)
        stop = min(count, len(pool))
        for place in range(stop):
            other = place + int(self._next() * (len(pool) - place))
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:stop]

    def shuffled(self, choices: Sequence[T]) -> list[T]:
        """Return all choices in random order."""
        return self.some(choices, len(choices))
