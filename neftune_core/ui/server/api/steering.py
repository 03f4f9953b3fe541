"""Endpoints that change a running study, or continue a finished one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neftune_core.studies.records.record import Record
from neftune_core.ui.server.api.arguments import checked_key, checked_text, number
from neftune_core.ui.server.lab import Lab


def stop_arm(lab: Lab) -> Callable[..., Any]:
    """Return the endpoint that stops one arm."""

    def stop_arm(record: str, key: str, arm: str) -> dict:
        """Stop one arm of a running study after its current step; the others continue.

        study_status reports the stop as a `steered` event. The verdict makes no claim about a stopped arm.

        Args:
            record: Id of the study.
            key: The key with which the study was started.
            arm: Name of the arm, such as `uniform-alpha-5`; the control cannot be stopped alone.
        """
        from neftune_core.studies.steering import requests

        found = _changeable(lab, record, key)
        requests.stop_arm(found, checked_text(arm, "arm", 200))
        return {"arm": arm, "step": lab.jobs.status(found).step}

    return stop_arm


def set_strength(lab: Lab) -> Callable[..., Any]:
    """Return the endpoint that changes the noise strength of a live study."""

    def set_strength(record: str, key: str, strength: float) -> dict:
        """Change the strength of the first noise arm of a running live study (`live = true`) from its next step on.

        study_status reports the change as a `steered` event. A live study never gets a verdict.

        Args:
            record: Id of the study.
            key: The key with which the study was started.
            strength: The new strength, in the unit of the arm.
        """
        from neftune_core.studies.steering import requests

        found, wanted = _changeable(lab, record, key), number(strength, "strength")
        requests.set_strength(found, wanted)
        return {"arm": found.study.live_arm, "strength": wanted, "step": lab.jobs.status(found).step}

    return set_strength


def continue_study(lab: Lab) -> Callable[..., Any]:
    """Return the endpoint that trains a finished study for more epochs."""

    def continue_study(record: str, key: str, epochs: float = 1) -> dict:
        """Train a finished study for more epochs as a new record; the original record is unchanged.

        The learning-rate and noise schedules start again.

        Args:
            record: Id of the finished study.
            key: The key with which the study was started.
            epochs: Number of additional epochs.
        """
        from neftune_core.studies.steering import going_on

        found, owner, more = _changeable(lab, record, key), checked_key(key), number(epochs, "epochs")
        made = lab.jobs.submit_made(owner, lambda: going_on.go_on(found, more, owner, lab.limits))
        for _ in lab.attended(made, owner):
            pass
        return {"record": made.id, "arms": list(made.study.arms), "place": lab.jobs.status(made).place}

    return continue_study


def _changeable(lab: Lab, record: Any, key: Any) -> Record:
    """Return a record that the caller may change: their own or, on a private server, one from the command line."""
    return lab.jobs.find_owned(checked_text(record, "record", 100), checked_key(key))
