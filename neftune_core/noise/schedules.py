"""Noise schedules: a multiplier `m(t)` of the strength, with `t` from 0 at the first step to 1 at the last."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LAST_SHARE = 0.01
"""Share of the strength that remains at the end of an exponential decay."""

SMOOTHING = 0.9
"""Weight of the previous smoothed loss in the exponential moving average of an adaptive schedule."""


@dataclass(frozen=True)
class Schedule:
    """One noise schedule.

    Attributes:
        words: Name shown to users.
        multiplier: `multiplier(t, point)` returns `m(t)`; None if the schedule follows the training loss.
    """

    words: str
    multiplier: Callable[[float, float], float] | None


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule("Constant", lambda t, point: 1.0),
    "linear": Schedule("Linear decay", lambda t, point: 1 - t),
    "cosine": Schedule("Cosine decay", lambda t, point: 0.5 * (1 + math.cos(math.pi * t))),
    "exponential": Schedule("Exponential decay", lambda t, point: LAST_SHARE**t),
    "warm-up": Schedule("Warm-up", lambda t, point: min(1.0, t / point) if point > 0 else 1.0),
    # with point 1, the noise stays on for the whole run
    "switch-off": Schedule("Switch off", lambda t, point: 1.0 if t < point or point == 1 else 0.0),
    "adaptive": Schedule("Adaptive (follows the training loss)", None),
}

WITH_A_POINT = ("warm-up", "switch-off")
"""Schedules that depend on `point`."""


def multipliers(schedule: str, steps: int, *, point: float = 0.5, equal_energy: bool = False) -> list[float]:
    """Return the schedule's multiplier for every step of a run.

    Args:
        schedule: Name of a schedule, except "adaptive".
        steps: Number of steps.
        point: Share of the run at which the warm-up is complete or the noise is switched off.
        equal_energy: Whether to scale the multipliers to a mean square of 1, as in the constant schedule.

    Returns:
        One factor per step, from the first.

    Raises:
        ValueError: If the schedule follows the loss.
    """
    shape = SCHEDULES[schedule].multiplier
    if shape is None:
        raise ValueError(f"the schedule {schedule!r} follows the loss, not the steps")
    found = [shape(step / max(steps - 1, 1), point) for step in range(steps)]
    energy = sum(value * value for value in found) / len(found) if found else 0.0
    if not equal_energy or energy == 0:
        return found
    return [value / math.sqrt(energy) for value in found]


@dataclass
class AdaptiveSchedule:
    """The multiplier of one arm under "adaptive": smoothed loss divided by the loss of the first step, at most 1.

    Attributes:
        first: Loss of the first step in nats; NaN before it.
        smoothed: Exponential moving average of the loss in nats; NaN before the first step.
    """

    first: float = math.nan
    smoothed: float = math.nan

    @property
    def multiplier(self) -> float:
        """Multiplier for the next step."""
        if math.isnan(self.first):
            return 1.0
        return min(1.0, self.smoothed / self.first) if self.first > 0 else 0.0

    def follow(self, loss: float) -> None:
        """Update the average with the training loss of a step; losses that are not finite are ignored."""
        if not math.isfinite(loss):
            return
        if math.isnan(self.first):
            self.first = self.smoothed = loss
        else:
            self.smoothed = SMOOTHING * self.smoothed + (1 - SMOOTHING) * loss
