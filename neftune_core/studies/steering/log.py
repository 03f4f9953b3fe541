"""Events that record the user's changes to a running study, and the records that a study continues.

A `steered` event has a step and, by arm, `{"stopped": true}` or, in a live study, `{"strength": 12.0}`. The change is
applied after that step. A change at step 0 is applied before the first step of a seed, so that the seed starts with the
last strength of the seeds before it. If a run resumes from an earlier step, the event stays in the log and is applied
again after the same step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

STEERED = "steered"


def stopped_arms(events: Iterable[Mapping[str, Any]]) -> dict[Any, dict[str, int]]:
    """Return the arms that the user stopped, by seed, each with the last step that it took."""
    found: dict[Any, dict[str, int]] = {}
    for event in events:
        for arm, change in event.get("arms", {}).items() if event["event"] == STEERED else ():
            if change.get("stopped"):
                found.setdefault(event.get("seed"), {})[arm] = event["step"]
    return found


def continued_from(about: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Return the records that a study continues, oldest first, each with the step at which it ended."""
    return tuple((str(one["record"]), int(one["step"])) for one in about.get("continues") or ())


def strengths(events: Iterable[Mapping[str, Any]]) -> list[tuple[Any, int, float]]:
    """Return the strength changes of a live study in order, as (seed, last step before the change, strength)."""
    return [
        (event.get("seed"), event["step"], float(change["strength"]))
        for event in events
        if event["event"] == STEERED
        for change in event.get("arms", {}).values()
        if isinstance(change.get("strength"), int | float)
    ]
