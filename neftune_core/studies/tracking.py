"""Log the metrics of a study to one of accelerate's trackers.

Each arm and seed is logged as a separate run, so that plots can overlay the arms. Trackers that allow only one open run
get one run per seed, with the metrics of all arms.
"""

from __future__ import annotations

import contextvars
import importlib.util
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.home import home
from neftune_core.language import later, say
from neftune_core.sentences import cause
from neftune_core.studies.records.record import Record

logger = logging.getLogger(__name__)

PROJECT = "neftune-lab"

Event = dict[str, Any]
Options = Callable[[str, str, dict[str, Any]], dict[str, Any]]

TRACKERS: dict[str, Options] = {
    "trackio": lambda name, group, config: {
        "name": name, "group": group, "config": config, "resume": "allow", "embed": False
    },
    "tensorboard": lambda name, group, config: {"logging_dir": str(home() / "tensorboard")},
    "wandb": lambda name, group, config: {
        "id": name, "name": name, "group": group, "config": config, "resume": "allow", "reinit": "create_new"
    },
    "mlflow": lambda name, group, config: {"run_name": name},
    "swanlab": lambda name, group, config: {"experiment_name": name, "config": config},
}  # fmt: skip
"""Functions that return the arguments of accelerate's trackers from a run's name, its record's id and its settings."""

ONE_OPEN_RUN = ("mlflow", "swanlab")
"""Trackers that allow only one open run per process."""

tracked_to: contextvars.ContextVar[str] = contextvars.ContextVar("tracked_to", default="")
"""Tracker for studies queued in this context, in the format of `track_events`; "" for none."""

KEPT_FAILURES = 100
_failures: OrderedDict[str, str] = OrderedDict()


def installed_trackers() -> list[str]:
    """Return the names of the installed trackers."""
    return [name for name in TRACKERS if importlib.util.find_spec(name) is not None]


def tracking_failure(record: Record) -> str:
    """Return a message about the tracker that failed for a record; "" if none failed."""
    return _failures.get(record.id, "")


@contextmanager
def tracked(name: str, place: str = "") -> Iterator[None]:
    """Log all studies queued inside the `with` block to a tracker.

    Args:
        name: A key of `TRACKERS`; "" for none.
        place: Space or server URL, for trackio only; "" for this machine.

    Yields:
        Nothing.

    Raises:
        LabError: If the tracker is unknown or not installed, or if `place` is not valid for it.
    """
    text = (f"{name}:{place.strip()}" if place.strip() else name) if name else ""
    if text:
        require_tracker(text)
    token = tracked_to.set(text)
    try:
        yield
    finally:
        tracked_to.reset(token)


SPACE = re.compile(r"[\w.\-]+/[\w.\-]+", re.ASCII)


def require_tracker(text: str) -> None:
    """Check that a tracker can be used.

    Raises:
        InvalidSetting: If the tracker or its destination is unknown.
        NotAvailable: If the tracker is not installed.
    """
    name, _, _ = text.partition(":")
    if name not in TRACKERS:
        words = later(
            "There is no tracker called {name!r} here (`--track`, or NEFTUNE_TRACK): choose one of {choices}."
        )
        raise InvalidSetting(say(words, name=name[:60], choices=", ".join(TRACKERS)))
    destination(text)
    if importlib.util.find_spec(name) is None:
        raise NotAvailable(say("{name} is not installed here: run `pip install {name}`.", name=name))


def destination(text: str) -> dict[str, str]:
    """Return the arguments for `trackio:OWNER/SPACE` or `trackio:URL`; empty without a destination.

    Raises:
        InvalidSetting: If the text has any other destination.
    """
    name, _, place = text.partition(":")
    if not place:
        return {}
    if name == "trackio" and place.startswith(("http://", "https://")):
        return {"server_url": place}
    if name == "trackio" and SPACE.fullmatch(place):
        return {"space_id": place}
    words = later(
        "The tracker {text!r} is not valid: enter the name of a tracker, trackio:OWNER/SPACE, or trackio:URL."
    )
    raise InvalidSetting(say(words, text=text[:80]))


def track_events(record: Record, events: Iterator[Event], name: str) -> Iterator[Event]:
    """Yield events unchanged, and log them to a tracker.

    If the tracker fails, it is no longer used and the study continues.

    Args:
        record: Record of the study.
        events: Events of the study.
        name: A key of `TRACKERS`; for trackio optionally with a destination, as in `trackio:OWNER/SPACE`.

    Yields:
        The same events.

    Raises:
        InvalidSetting: If the destination is not valid.
    """
    runs = _Runs(record, name)
    _failures.pop(record.id, None)
    works = True
    try:
        for event in events:
            if works and event["event"] in ("step", "evaluated"):
                failure = _failure_of(runs.log, event)
                works = failure is None
                if failure is not None:
                    _store_failure(record, runs.tracker, event["step"], failure)
            yield event
    finally:
        for run in runs.open.values():
            _failure_of(run.finish)


def logged(run: Callable[..., Iterator[Event]], tracker: str) -> Callable[..., Iterator[Event]]:
    """Return a function that runs records like `run`, and logs studies to `tracker` and to the tracker in `tracked_to`.

    Sweeps are not logged.

    Args:
        run: Runs the record passed as its first argument.
        tracker: As for `track_events`; "" for none.

    Returns:
        The function, with the arguments and events of `run`.
    """

    def running(record: Record, *given: Any) -> Iterator[Event]:
        """Run a record and log its events.

        Args:
            record: Record of the study or sweep.
            *given: Further arguments of `run`.

        Returns:
            Iterator of events.
        """
        events = run(record, *given)
        for name in dict.fromkeys((tracker, tracked_to.get())):
            if name and not record.is_sweep:
                events = track_events(record, events, name)
        return events

    return running


def _failure_of(act: Callable[..., Any], *given: Any) -> Exception | None:
    """Call a function of a tracker, and return the exception that it raised, if any."""
    try:
        act(*given)
    except Exception as error:
        logger.warning("the tracker failed and was skipped: %s", error)
        return error
    return None


def _store_failure(record: Record, tracker: str, step: int, error: Exception) -> None:
    words = later(
        "The tracker {tracker} failed at step {step} ({reason}) and receives no more values. The study is not affected."
    )
    _failures[record.id] = say(words, tracker=tracker, step=step, reason=cause(error))
    while len(_failures) > KEPT_FAILURES:
        _failures.popitem(last=False)


class _Runs:
    """The runs of one study in a tracker; steps that a resumed study repeats are not logged twice.

    Args:
        record: Record of the study.
        tracker: Name of the tracker, optionally with a destination, such as `trackio:OWNER/SPACE`.

    Raises:
        InvalidSetting: If the destination is not valid.
    """

    def __init__(self, record: Record, tracker: str) -> None:
        self.record, self.tracker, self.place = record, tracker.partition(":")[0], destination(tracker)
        self.open: dict[tuple[Any, str], Any] = {}
        self.next_step: dict[tuple[Any, str], int] = {}

    def log(self, event: Event) -> None:
        """Log the numbers of a `step` or `evaluated` event."""
        rate = {"learning_rate": event["learning_rate"]} if event["event"] == "step" else {}
        by_arm = {arm: _numbers(values) | rate for arm, values in event["arms"].items()}
        if self.tracker in ONE_OPEN_RUN:
            by_arm = {"": {f"{arm}/{name}": value for arm, found in by_arm.items() for name, value in found.items()}}
        for arm, numbers in by_arm.items():
            run = event.get("seed"), arm
            if run not in self.open:
                self._start(*run, event["step"])
            if event["step"] >= self.next_step[run]:
                self.open[run].log(numbers, step=event["step"])

    def _start(self, seed: Any, arm: str, step: int) -> None:
        """Start a run in its own context, because `trackio.init` finishes the previous run in the same context."""
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # required by accelerate's trackers
        name = "-".join(filter(None, (self.record.id, arm, f"seed-{seed}")))
        config = {**self.record.study.model_dump(mode="json"), "arm": arm, "seed": seed}
        options = TRACKERS[self.tracker](name, self.record.id, config) | self.place
        project = PROJECT
        if self.tracker == "tensorboard":
            project, options = f"{PROJECT}/{name}", {**options, "purge_step": step}
        run = LOGGER_TYPE_TO_CLASS[self.tracker](project, **options)
        if self.tracker in ONE_OPEN_RUN:
            while self.open:
                self.open.popitem()[1].finish()
        contextvars.copy_context().run(run.start)
        self.open[seed, arm] = run
        self.next_step[seed, arm] = getattr(run.tracker, "_next_step", 0)  # set by trackio if the run is resumed


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
