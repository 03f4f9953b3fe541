"""The events of a study as metrics of a tracker: every arm and seed is a run, whose curves lie over the others'."""

from __future__ import annotations

import contextvars
import importlib.util
import logging
from collections.abc import Callable, Iterator
from typing import Any

from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.training.record import Record

logger = logging.getLogger(__name__)

PROJECT = "neftune-lab"
TRACKERS = ("trackio",)
NEEDS = "trackio is not installed here: pip install 'neftune-lab[trackio]'."

Event = dict[str, Any]


def require_tracker(name: str) -> None:
    """Raise `InvalidSetting` or `NotAvailable` where there is no such tracker."""
    if name not in TRACKERS:
        raise InvalidSetting(f"There is no tracker called {name!r} here: choose {' or '.join(TRACKERS)}.")
    if importlib.util.find_spec(name) is None:
        raise NotAvailable(NEEDS)


def tracked(record: Record, events: Iterator[Event]) -> Iterator[Event]:
    """The same events, told to trackio as they pass. A tracker that fails is left out, and the study goes on."""
    import trackio

    runs: dict[tuple[Any, str], Any] = {}
    works = True
    for event in events:
        if works and event["event"] in ("step", "evaluated"):
            works = _worked(_tell, trackio, record, runs, event)
        yield event
    for run in runs.values():
        _worked(run.finish)


def _worked(act: Callable[..., Any], *given: Any) -> bool:
    try:
        act(*given)
    except Exception as error:
        logger.warning("the tracker is left out, as it failed: %s", error)
        return False
    return True


def _tell(trackio: Any, record: Record, runs: dict[tuple[Any, str], Any], event: Event) -> None:
    """Tell the numbers of every arm, each to a run of its own."""
    for arm, values in event["arms"].items():
        place = event.get("seed"), arm
        if place not in runs:
            runs[place] = _begun(trackio, record, *place)
        told = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        if event["event"] == "step":
            told["learning_rate"] = event["learning_rate"]
        runs[place].log(told, step=event["step"])


def _begun(trackio: Any, record: Record, seed: Any, arm: str) -> Any:
    """A run of the tracker, in a context of its own: it ends the one before it in the same context."""
    return contextvars.copy_context().run(
        trackio.init,
        project=PROJECT,
        name=f"{record.id}-{arm}-seed-{seed}",
        group=record.id,
        config={**record.study.model_dump(mode="json"), "arm": arm, "seed": seed},
        resume="allow",
        embed=False,
    )
