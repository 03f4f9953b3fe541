"""Measured training speed of this machine, stored on disk to calibrate estimates."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from neftune_core.durable import write_whole
from neftune_core.home import home

MOST_KEPT = 200
SLOWEST = 1000.0
"""Ratios above this, or below its inverse, are discarded as invalid."""
FILE = "times.json"


@dataclass(frozen=True)
class TimeCalibration:
    """Ratios of measured times to those predicted from the speed of the machine: for steps, and for everything else."""

    steps: float = 1.0
    rest: float = 1.0

    @property
    def is_sound(self) -> bool:
        """Whether both ratios are plausible."""
        return all(1 / SLOWEST < ratio < SLOWEST for ratio in (self.steps, self.rest))


def stored_calibration(key: str) -> TimeCalibration | None:
    """Return the last calibration stored under `key`; None if absent or invalid."""
    found = _all().get(key)
    try:
        pace = TimeCalibration(float(found["steps"]), float(found["rest"])) if isinstance(found, dict) else None
    except (KeyError, TypeError, ValueError):
        return None
    return pace if pace and pace.is_sound else None


def store_calibration(key: str, pace: TimeCalibration) -> None:
    """Store a calibration; implausible ratios and write errors are ignored.

    Args:
        key: Key from `catalogue.training_key`.
        pace: The calibration to store.
    """
    if not pace.is_sound:
        return
    kept = {name: value for name, value in _all().items() if name != key} | {key: asdict(pace)}
    try:
        write_whole(home() / FILE, json.dumps(dict(list(kept.items())[-MOST_KEPT:]), indent=1))
    except OSError:
        return


def _all() -> dict[str, object]:
    try:
        found = json.loads((home() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
