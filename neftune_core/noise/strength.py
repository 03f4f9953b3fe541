"""From a strength in its unit to the standard deviation of one coordinate, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """One way to say how strong noise is.

    `scale(length, width, signal)` is the standard deviation at strength 1, where `signal` is the root-mean-square
    coordinate of the clean vectors.
    """

    words: str
    scale: Callable[[int, int, float], float]


UNITS: dict[str, Unit] = {
    "alpha": Unit("alpha (the paper's)", lambda length, width, signal: 1 / math.sqrt(3 * length * width)),
    "std": Unit("std (per coordinate)", lambda length, width, signal: 1.0),
    "relative": Unit("relative (to the signal)", lambda length, width, signal: signal),
}

SHARE = "share"
"""The unit of token dropout, which has no standard deviation: the share of tokens that are set to zero."""

LENGTH_RULES = {
    "true": "True length (the paper's code)",
    "padded": "Padded length (the common trainer hook)",
}


def standard_deviation(strength: float, unit: str, length: int, width: int, signal: float = 1.0) -> float:
    """The standard deviation of one coordinate of the noise on a sequence of `length` and `width`.

    `alpha`: alpha / sqrt(3 L d), so that uniform noise is bounded by alpha / sqrt(L d)
    (arXiv 2310.05914, section 3); `std`: the number itself; `relative`: the number times `signal`, the
    root-mean-square coordinate of that sequence's clean vectors.
    """
    return strength * UNITS[unit].scale(length, width, signal)


def equivalents(strength: float, unit: str, length: int, width: int, signal: float) -> dict[str, float]:
    """The same strength in every unit, for a sequence of `length`, vectors of `width` and their `signal`."""
    deviation = standard_deviation(strength, unit, length, width, signal)
    scales = {name: other.scale(length, width, signal) for name, other in UNITS.items()}
    return {name: deviation / scale if scale else math.inf for name, scale in scales.items()}
