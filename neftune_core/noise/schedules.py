"""How the strength changes over a run: a multiplier m(t), with t from 0 at the first step to 1 at the last."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LAST_SHARE = 0.01
"""What is left of the strength at the end of an exponential decay."""

SMOOTHING = 0.9
"""How much of the smoothed loss an adaptive schedule keeps from one step to the next."""


@dataclass(frozen=True)
class Schedule:
    """One schedule: `multiplier(t, point)`; None where it follows the training loss and not the time."""

    words: str
    multiplier: Callable[[float, float], float] | None


def _warm_up(t: float, point: float) -> float:
    return min(1.0, t / point) if point > 0 else 1.0


def _switch_off(t: float, point: float) -> float:
    return 1.0 if t < point or point == 1 else 0.0  # switched off after the whole run is not at all


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule("Constant", lambda t, point: 1.0),
    "linear": Schedule("Linear decay", lambda t, point: 1 - t),
    "cosine": Schedule("Cosine decay", lambda t, point: 0.5 * (1 + math.cos(math.pi * t))),
    "exponential": Schedule("Exponential decay", lambda t, point: LAST_SHARE**t),
    "warm-up": Schedule("Warm-up", _warm_up),
    "switch-off": Schedule("Switch off", _switch_off),
    "adaptive": Schedule("Adaptive (follows the training loss)", None),
}


def multipliers(schedule: str, steps: int, *, point: float = 0.5, equal_energy: bool = False) -> list[float]:
    """m of every step of a run of `steps`, for any schedule but `adaptive`.

    `point` is the share of the run at which warm-up is complete, or the noise switched off. With `equal_energy`
    they are scaled to a mean square of 1, so that a run sees as much noise as with the constant schedule.
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
    """The multiplier of one arm under `adaptive`: its smoothed training loss over the first one, at most 1.

    `first` and `smoothed` (nats) are all of its state, and NaN before the first step.
    """

    first: float = math.nan
    smoothed: float = math.nan

    @property
    def multiplier(self) -> float:
        """m for the step to come."""
        if math.isnan(self.first):
            return 1.0
        return min(1.0, self.smoothed / self.first) if self.first > 0 else 0.0

    def follow(self, loss: float) -> None:
        """Take the training loss of a step into account; one that is not finite is passed over."""
        if not math.isfinite(loss):
            return
        if math.isnan(self.first):
            self.first = self.smoothed = loss
        else:
            self.smoothed = SMOOTHING * self.smoothed + (1 - SMOOTHING) * loss
