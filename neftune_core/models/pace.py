"""How fast this machine trained last, kept on disk: estimates follow it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from neftune_core.durable import write_whole
from neftune_core.home import home

MOST_KEPT = 200
SLOWEST = 1000.0
"""A ratio beyond it, or below its inverse, is no measurement."""


@dataclass(frozen=True)
class Pace:
    """Measured over estimated time.

    Attributes:
        steps: Seconds of the last measured steps over those that the machine's arithmetic alone gives.
        whole: Seconds of a run with its measuring and its answers, over those of its steps.
    """

    steps: float = 1.0
    whole: float = 1.0

    @property
    def factor(self) -> float:
        """What an estimate of the steps is multiplied by, for the whole run."""
        return self.steps * self.whole


def pace_key(source: str, device: str, precision: str, method: str) -> str:
    """Return the name of a pace: trainings of one model, device, number format and method share it."""
    return "|".join((source, device, precision, method))


def known_pace(key: str) -> Pace | None:
    """Return the pace that was measured last under `key`, or None if there is none."""
    found = _all().get(key)
    try:
        pace = Pace(float(found["steps"]), float(found["whole"])) if isinstance(found, dict) else None
    except (KeyError, TypeError, ValueError):
        return None
    return pace if pace and _is_sound((pace.steps, pace.whole)) else None


def remember_pace(key: str, pace: Pace) -> None:
    """Keep `pace` under `key`; a disk that cannot be written changes nothing."""
    if not _is_sound((pace.steps, pace.whole)):
        return
    kept = {name: value for name, value in _all().items() if name != key} | {key: asdict(pace)}
    try:
        write_whole(home() / "pace.json", json.dumps(dict(list(kept.items())[-MOST_KEPT:]), indent=1))
    except OSError:
        return


def _is_sound(ratios: Iterable[float]) -> bool:
    return all(1 / SLOWEST < ratio < SLOWEST for ratio in ratios)


def _all() -> dict[str, object]:
    try:
        found = json.loads((home() / "pace.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
