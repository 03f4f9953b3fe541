"""Conversion between a noise strength in its unit and the standard deviation per coordinate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """One unit of noise strength.

    Attributes:
        words: Name shown to users.
        scale: `scale(length, width, signal)` returns the standard deviation at strength 1; `signal` is the
            root-mean-square coordinate of the clean vectors.
    """

    words: str
    scale: Callable[[int, int, float], float]


UNITS: dict[str, Unit] = {
    "alpha": Unit("alpha (the paper's)", lambda length, width, signal: 1 / math.sqrt(3 * length * width)),
    "std": Unit("std (per coordinate)", lambda length, width, signal: 1.0),
    "relative": Unit("relative (to the signal)", lambda length, width, signal: signal),
}

SHARE = "share"
"""The unit of token dropout: the share of tokens set to zero."""

LENGTH_RULES = {"true": "True length (the paper's code)", "padded": "Padded length (the common trainer hook)"}


def standard_deviation(strength: float, unit: str, length: int, width: int, signal: float = 1.0) -> float:
    """Return the per-coordinate standard deviation of the noise on one sequence.

    Args:
        strength: Noise strength, in `unit`.
        unit: "alpha", "std" or "relative".
        length: Length `L` of the sequence in tokens: without padding, or padded under the length rule "padded".
        width: Embedding width `d`.
        signal: Root-mean-square coordinate of the clean vectors; only used by "relative".

    Returns:
        `alpha / sqrt(3 L d)` for "alpha", which bounds uniform noise by `alpha / sqrt(L d)` (arXiv 2310.05914, section
        3); `strength` for "std"; `strength * signal` for "relative".
    """
    return strength * UNITS[unit].scale(length, width, signal)
