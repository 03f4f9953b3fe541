"""Metrics of a study in a tracker, one overlaid run per arm and seed."""

from __future__ import annotations

import contextvars
import importlib.util
import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.studies.records.record import Record

logger = logging.getLogger(__name__)

PROJECT = "neftune-lab"

Event = dict[str, Any]


def require_tracker(name: str) -> None:
    """Raise `InvalidSetting` for an unknown tracker, or `NotAvailable` if it is not installed."""
    if name not in TRACKERS:
        raise InvalidSetting(f"There is no tracker called {name!r} here: choose {' or '.join(TRACKERS)}.")
    if importlib.util.find_spec(name) is None:
        raise NotAvailable(f"{name} is not installed here: pip install {name}.")


def tracked(record: Record, events: Iterator[Event], name: str) -> Iterator[Event]:
    """Pass events through, and log them to a tracker; a tracker that fails is dropped, and the study continues.

    Args:
        record: The record.
        events: Events of the study.
        name: A key of `TRACKERS`.

    Yields:
        The same events.
    """
    tracker = TRACKERS[name](record)
    works = True
    try:
        for event in events:
            if works and event["event"] in ("step", "evaluated"):
                works = _succeeded(tracker.log_event, event)
            yield event
    finally:
        tracker.finish()


def _succeeded(act: Callable[..., Any], *given: Any) -> bool:
    try:
        act(*given)
    except Exception as error:
        logger.warning("the tracker failed and was skipped: %s", error)
        return False
    return True


class Tracker(Protocol):
    """Protocol of a tracker."""

    def log_event(self, event: Event) -> None:
        """Log a `step` or `evaluated` event."""

    def finish(self) -> None:
        """Close the tracker when the study has ended; raises nothing."""


class Trackio:
    """One trackio run per arm and seed, in a group per study.

    Steps that are repeated after resuming from a checkpoint are not logged twice.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.runs: dict[tuple[Any, str], Any] = {}
        self.known: dict[tuple[Any, str], int] = {}

    def log_event(self, event: Event) -> None:
        for arm, values in event["arms"].items():
            key = event.get("seed"), arm
            if key not in self.runs:
                self.runs[key] = self._begun(*key)
                self.known[key] = getattr(self.runs[key], "_next_step", 0)  # not public in trackio
            if event["step"] < self.known[key]:
                continue
            metrics = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
            if event["event"] == "step":
                metrics["learning_rate"] = event["learning_rate"]
            self.runs[key].log(metrics, step=event["step"])

    def finish(self) -> None:
        for run in self.runs.values():
            _succeeded(run.finish)

    def _begun(self, seed: Any, arm: str) -> Any:
        """Start a run in its own context, because `trackio.init` finishes the previous run of the same context."""
        import trackio

        return contextvars.copy_context().run(
            trackio.init,
            project=PROJECT,
            name=f"{self.record.id}-{arm}-seed-{seed}",
            group=self.record.id,
            config={**self.record.study.model_dump(mode="json"), "arm": arm, "seed": seed},
            resume="allow",
            embed=False,
        )


TRACKERS: dict[str, Callable[[Record], Tracker]] = {"trackio": Trackio}
"""By the name shared by the command line, the package and the extra."""
