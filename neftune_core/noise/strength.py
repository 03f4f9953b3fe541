"""From a strength in its unit to the standard deviation of one coordinate, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """One way to say how strong noise is: `scale(length, width)` is the standard deviation at strength 1."""

    words: str
    scale: Callable[[int, int], float]


UNITS: dict[str, Unit] = {
    "alpha": Unit("alpha (the paper's)", lambda length, width: 1 / math.sqrt(3 * length * width)),
    "std": Unit("std (per coordinate)", lambda length, width: 1.0),
}


def standard_deviation(strength: float, unit: str, length: int, width: int) -> float:
    """The standard deviation of one coordinate of the noise on a sequence of true `length` and `width`.

    `alpha`: alpha / sqrt(3 L d), so that uniform noise is bounded by alpha / sqrt(L d)
    (arXiv 2310.05914, section 3); `std`: the number itself.
    """
    return strength * UNITS[unit].scale(length, width)


def equivalents(strength: float, unit: str, length: int, width: int) -> dict[str, float]:
    """The same strength in every unit, for a sequence of true `length` and vectors of `width`."""
    deviation = standard_deviation(strength, unit, length, width)
    return {name: deviation / other.scale(length, width) for name, other in UNITS.items()}
