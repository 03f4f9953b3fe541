"""The events of a study as metrics of a tracker: every arm and seed is a run, whose curves lie over the others'."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from typing import Any

from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.training.record import Record

PROJECT = "neftune-lab"
TRACKERS = ("trackio",)
NEEDS = "trackio is not installed here: pip install 'neftune-lab[trackio]'."

Event = dict[str, Any]


def tracked(record: Record, events: Iterator[Event], tracker: str) -> Iterator[Event]:
    """The same events, told to `tracker` as they pass; raises `InvalidSetting` or `NotAvailable` before the first."""
    if tracker not in TRACKERS:
        raise InvalidSetting(f"There is no tracker called {tracker!r} here: choose {' or '.join(TRACKERS)}.")
    try:
        import trackio
    except ImportError:
        raise NotAvailable(NEEDS) from None
    return _told(record, events, trackio)


def _told(record: Record, events: Iterator[Event], trackio: Any) -> Iterator[Event]:
    runs: dict[tuple[Any, str], Any] = {}
    try:
        for event in events:
            for arm, values in event.get("arms", {}).items() if event["event"] in ("step", "evaluated") else ():
                place = event.get("seed"), arm
                if place not in runs:
                    runs[place] = _begun(trackio, record, *place)
                told = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
                if event["event"] == "step":
                    told["learning_rate"] = event["learning_rate"]
                runs[place].log(told, step=event["step"])
            yield event
    finally:
        for run in runs.values():
            run.finish()


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
