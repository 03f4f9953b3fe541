"""The scale of the loss under float16, whose small gradients would otherwise be lost (arXiv 1710.03740)."""

from __future__ import annotations

import math
from collections.abc import Iterable

FIRST, LARGEST = 2.0**14, 2.0**24
DOUBLED_AFTER = 2000


class LossScale:
    """One scale for all arms: halved when a gradient overflows, doubled after 2,000 whole steps; 1 in other precisions.

    A step that overflowed is taken again at the smaller scale, so that all arms take the same steps.
    """

    def __init__(self, precision: str) -> None:
        self.value = FIRST if precision == "float16" else 1.0
        self.whole_steps = 0
        self._is_fixed = precision != "float16"

    def overflowed(self, losses: Iterable[float], norms: Iterable[float]) -> bool:
        """Whether an arm with a finite loss has a gradient that is not; if so the scale is halved.

        At a scale of 1 it is the gradient itself that is not finite.
        """
        if self._is_fixed or self.value <= 1:
            return False
        pairs = zip(losses, norms, strict=True)
        if all(math.isfinite(norm) or not math.isfinite(loss) for loss, norm in pairs):
            return False
        self.value, self.whole_steps = self.value / 2, 0
        return True

    def stepped(self) -> None:
        """Count a whole step."""
        self.whole_steps += 1
        if not self._is_fixed and self.whole_steps >= DOUBLED_AFTER:
            self.value, self.whole_steps = min(2 * self.value, LARGEST), 0
