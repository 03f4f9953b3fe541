"""Events by which a person steered a study while it trained.

`steered` has a step and, by arm, `{"stopped": true}`. It acts between that step and the next one. It stays in the log
when a run resumes from before it, and acts again at the same step.
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
