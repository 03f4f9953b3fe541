"""The events of a study as metrics of a tracker: every arm and seed is a run, whose curves lie over the others'."""

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
    """Raise `InvalidSetting` or `NotAvailable` where there is no such tracker."""
    if name not in TRACKERS:
        raise InvalidSetting(f"There is no tracker called {name!r} here: choose {' or '.join(TRACKERS)}.")
    if importlib.util.find_spec(name) is None:
        raise NotAvailable(f"{name} is not installed here: pip install {name}.")


def tracked(record: Record, events: Iterator[Event], name: str) -> Iterator[Event]:
    """The same events, told to the tracker called `name` as they pass. One that fails is left out, and the study goes
    on."""
    tracker = TRACKERS[name](record)
    works = True
    try:
        for event in events:
            if works and event["event"] in ("step", "evaluated"):
                works = _worked(tracker.tell, event)
            yield event
    finally:
        tracker.finish()


def _worked(act: Callable[..., Any], *given: Any) -> bool:
    try:
        act(*given)
    except Exception as error:
        logger.warning("the tracker is left out, as it failed: %s", error)
        return False
    return True


class Tracker(Protocol):
    """Where the numbers of one study are shown while it runs."""

    def tell(self, event: Event) -> None:
        """Take a `step` or `evaluated` of the study."""

    def finish(self) -> None:
        """The study has ended; raises nothing."""


class Trackio:
    """Every arm and seed as a run of trackio, in a group of the study's own.

    A study that goes on from a checkpoint makes steps again that a run has already: they are not told twice.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.runs: dict[tuple[Any, str], Any] = {}
        self.known: dict[tuple[Any, str], int] = {}

    def tell(self, event: Event) -> None:
        for arm, values in event["arms"].items():
            place = event.get("seed"), arm
            if place not in self.runs:
                self.runs[place] = self._begun(*place)
                self.known[place] = getattr(self.runs[place], "_next_step", 0)  # of which trackio makes no public name
            if event["step"] < self.known[place]:
                continue
            told = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
            if event["event"] == "step":
                told["learning_rate"] = event["learning_rate"]
            self.runs[place].log(told, step=event["step"])

    def finish(self) -> None:
        for run in self.runs.values():
            _worked(run.finish)

    def _begun(self, seed: Any, arm: str) -> Any:
        """A run of the tracker, in a context of its own: it ends the one before it in the same context."""
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
"""By the name that the command line, the package and the extra share."""
