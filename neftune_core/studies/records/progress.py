"""Compute the progress of a study from its events: state, steps, speed and losses."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from neftune_core.bounded_io import count_of
from neftune_core.language import later
from neftune_core.studies.records.log import Event
from neftune_core.studies.records.owners import file_stamp
from neftune_core.studies.records.record import ENDINGS, LOG, Record

INTERRUPTED = later(
    "The study was interrupted because the lab was closed or its process ended: resume the study to continue from the "
    "last checkpoint."
)

WORDS = {
    "waiting": later("Waiting"),
    "preparing": later("Preparing"),
    "running": later("Training"),
    "answering": later("Answering"),
    "stopping": later("Stopping"),
    "finished": later("Finished"),
    "stopped": later("Stopped"),
    "failed": later("Failed"),
    "interrupted": later("Interrupted"),
}
OVER = (*ENDINGS, "interrupted")


@dataclass(frozen=True)
class Status:
    """The status of a study.

    Attributes:
        state: A key of `WORDS`.
        place: Position in the queue, from 1; 0 if the study is not waiting.
        step: Number of completed steps over all seeds.
        steps: Total number of steps over all seeds.
        seed_number: Number of the current seed, from 1; 0 before the first.
        seconds_left: Estimated time left, in seconds; None if unknown.
        message: Message of the event that ended the study, or other information for the user; "" if there is none.
        losses: Training losses of the most recent step by arm, in nats per token, without diverged arms.
    """

    state: str
    place: int = 0
    step: int = 0
    steps: int = 0
    seed_number: int = 0
    seeds: int = 1
    tokens_per_second: float = 0.0
    seconds_left: float | None = None
    message: str = ""
    losses: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether the study has ended or was interrupted."""
        return self.state in OVER

    @property
    def can_resume(self) -> bool:
        """Whether the study ended early and can be resumed."""
        return self.is_over and self.state != "finished"


@dataclass
class StudyProgress:
    """Progress computed from the events passed to `follow`.

    Attributes:
        state: A key of `WORDS`.
        seeds: Number of seeds of the study.
        seed_number: Number of the current seed, from 1; 0 before the first.
        step_of_seed: Number of completed steps of the current seed.
        steps_of_seed: Total number of steps of the current seed; 0 if unknown.
        message: Message of the event that ended the study; "" if there is none.
        losses: Training losses of the most recent step by arm, in nats per token, without diverged arms.
    """

    state: str = "preparing"
    seeds: int = 1
    seed_number: int = 0
    step_of_seed: int = 0
    steps_of_seed: int = 0
    message: str = ""
    losses: dict[str, float] = field(default_factory=dict)
    _numbers: dict[Any, int] = field(default_factory=dict)
    _clock: _Clock = field(default_factory=lambda: _Clock())

    @property
    def step(self) -> int:
        """Steps done, including those of earlier seeds."""
        return max(0, self.seed_number - 1) * self.steps_of_seed + self.step_of_seed

    @property
    def steps(self) -> int:
        """Total number of steps over all seeds; never less than `step`."""
        return max(self.step, self.seeds * self.steps_of_seed)

    def follow(self, event: Event) -> None:
        """Process one event."""
        name, seed = event["event"], event.get("seed")
        if name in ENDINGS:
            self.state, self.message = name, str(event.get("message") or "")
            return
        if name in ("started", "planned", "step", "evaluated", "cell"):
            self.seed_number = self._numbers.setdefault(seed, len(self._numbers) + 1)
            self.seeds = max(self.seeds, self.seed_number, count_of(event, "seeds"))
            self.steps_of_seed = count_of(event, "steps") or self.steps_of_seed
            self.state = "running"
            self.step_of_seed = count_of(event, "step") if name != "started" else 0
            if name == "started":
                self.losses = {}
        elif name == "saved":
            self.state = "answering"
        if name == "step":
            self._clock.follow(count_of(event, "tokens") * len(event["arms"]))
            losses = {arm: found.get("loss") for arm, found in event["arms"].items()}
            self.losses = {arm: loss for arm, loss in losses.items() if loss is not None and math.isfinite(loss)}

    def status(self, *, stopping: bool = False) -> Status:
        """Return the status; `stopping` replaces the state with "stopping"."""
        clock, speed = self._clock, self._clock.per_second(self._clock.steps)
        return Status(
            state="stopping" if stopping else self.state,
            step=self.step,
            steps=self.steps,
            seed_number=self.seed_number,
            seeds=self.seeds,
            tokens_per_second=clock.per_second(clock.tokens),
            seconds_left=(self.steps - self.step) / speed if speed else None,
            message=self.message,
            losses=dict(self.losses),
        )


class _Clock:
    """Measures the speed of the steps, except the first, which includes warm-up.

    It counts events instead of using their step numbers, which jump back when a run resumes, and forward when a sweep
    skips the rest of a failed study.
    """

    def __init__(self) -> None:
        self.steps = self.tokens = 0
        self.first_time = self.last_time = 0.0

    def follow(self, tokens: int) -> None:
        now = time.monotonic()
        if not self.first_time:
            self.first_time = now
        else:
            self.steps, self.tokens = self.steps + 1, self.tokens + tokens
        self.last_time = now

    def per_second(self, count: int) -> float:
        seconds = self.last_time - self.first_time
        return count / seconds if seconds > 0 else 0.0


def as_clock(seconds: float) -> str:
    """Format seconds as `3:05` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def of_events(events: Iterable[Event]) -> StudyProgress:
    """Compute the progress after these events."""
    progress = StudyProgress()
    for event in events:
        progress.follow(event)
    return progress


def before_run(record: Record) -> StudyProgress:
    """Return the progress of a queued study; it includes the steps of an earlier run."""
    found = of_events(record.events())
    found.state, found.message, found._clock = "waiting", "", _Clock()
    return found


@lru_cache(maxsize=2_000)
def _logged_progress(record: Record, stamp: tuple[int, int, int]) -> StudyProgress:
    return of_events(record.events())


def of_record(record: Record) -> Status:
    """Return the status of a study that is not in the queue of this process."""
    try:
        found = _logged_progress(record, file_stamp(record.folder / LOG))
    except OSError:
        found = StudyProgress()
    status = replace(found.status(), tokens_per_second=0.0, seconds_left=None)  # the speed is that of reading the log
    if found.state in ENDINGS:
        return status
    if record.is_running():
        return replace(status, message=later("The study is running in another process on this machine."))
    return replace(status, state="interrupted", message=INTERRUPTED)
