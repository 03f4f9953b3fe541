"""The events of a study as metrics of a tracker: every arm and seed is a run, so that its curves lie over the others."""

from __future__ import annotations

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
    """Steps and losses reach the tracker at the end of each seed, arm by arm: it has one open run at a time."""
    waiting: dict[str, list[tuple[int, dict[str, float]]]] = {}
    seed: Any = None
    try:
        for event in events:
            if event.get("seed") != seed:
                _send(trackio, record, seed, waiting)
                seed = event.get("seed")
            for arm, values in event.get("arms", {}).items() if event["event"] in ("step", "evaluated") else ():
                told = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
                if event["event"] == "step":
                    told["learning_rate"] = event["learning_rate"]
                waiting.setdefault(arm, []).append((event["step"], told))
            yield event
    finally:
        _send(trackio, record, seed, waiting)


def _send(trackio: Any, record: Record, seed: Any, waiting: dict[str, list[tuple[int, dict[str, float]]]]) -> None:
    settings = record.study.model_dump(mode="json") if waiting else {}
    for arm, told in waiting.items():
        run = trackio.init(
            project=PROJECT,
            name=f"{record.id}-{arm}-seed-{seed}",
            group=record.id,
            config={**settings, "arm": arm, "seed": seed},
            resume="allow",
            embed=False,
        )
        for step, values in told:
            run.log(values, step=step)
        trackio.finish()
    waiting.clear()
