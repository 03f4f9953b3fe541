"""Events by which a person steered a study while it trained, and the records that it went on from.

`steered` has a step and, by arm, `{"stopped": true}` or, in a live study, `{"strength": 12.0}`. It acts between that
step and the next one; step 0 is before the first one of a seed, which begins with the last strength of the seeds
before. It stays in the log when a run resumes from before it, and acts again at the same step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

STEERED = "steered"


def stopped_arms(events: Iterable[Mapping[str, Any]]) -> dict[Any, dict[str, int]]:
    """Return by seed the arms that were stopped, with their last step.

    Args:
        events: Events of one record.
    """
    found: dict[Any, dict[str, int]] = {}
    for event in events:
        for arm, change in event.get("arms", {}).items() if event["event"] == STEERED else ():
            if change.get("stopped"):
                found.setdefault(event.get("seed"), {})[arm] = event["step"]
    return found


def continued_from(about: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Return the records that a study went on from, the first one first, with the step after which it did.

    Args:
        about: Content of `record.json`.
    """
    return tuple((str(one["record"]), int(one["step"])) for one in about.get("continues") or ())


def strengths(events: Iterable[Mapping[str, Any]]) -> list[tuple[Any, int, float]]:
    """Return the changes of the noise of a live study in their order: seed, last step before it, and new strength.

    Args:
        events: Events of one record.
    """
    return [
        (event.get("seed"), event["step"], float(change["strength"]))
        for event in events
        if event["event"] == STEERED
        for change in event.get("arms", {}).values()
        if isinstance(change.get("strength"), int | float)
    ]
