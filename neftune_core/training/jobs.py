"""Jobs: one worker that runs studies from a queue, whatever becomes of the page that asked for them."""

from __future__ import annotations

import gc
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from neftune_core.errors import DoesNotFit, RecordError
from neftune_core.settings import Limits
from neftune_core.training.record import ENDINGS, Record, create, find
from neftune_core.training.settings import StudySettings
from neftune_core.training.study import run_study

INTERRUPTED = "It has not ended by itself: the lab was closed, or it runs in another process."

logger = logging.getLogger(__name__)

WORDS = {
    "waiting": "Waiting",
    "preparing": "Preparing",
    "running": "Training",
    "answering": "Answering",
    "stopping": "Stopping",
    "finished": "Finished",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}


@dataclass(frozen=True)
class Status:
    """Where a study stands. `place` counts from 1 in the queue; `seconds_left` is None while it is unknown."""

    state: str
    place: int = 0
    step: int = 0
    steps: int = 0
    tokens_per_second: float = 0.0
    seconds_left: float | None = None
    message: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in (*ENDINGS.values(), "interrupted")


@dataclass
class _Job:
    record: Record
    owner: str
    stop: threading.Event = field(default_factory=threading.Event)
    state: str = "waiting"
    step: int = 0
    steps: int = 0
    tokens: int = 0
    first_step_at: float = 0.0
    first_step: int = 0
    last_step_at: float = 0.0

    def follow(self, event: dict[str, Any]) -> None:
        """Keep what the status tells of an event."""
        name = event["event"]
        if name in ("started", "evaluated", "step"):
            self.state, self.steps = "running", event["steps"]
        if name == "step":
            now = time.monotonic()
            if not self.first_step_at:
                # the first step pays for warming up, and is left out of the speed
                self.first_step_at, self.first_step = now, event["step"]
            else:
                self.tokens += event["tokens"] * len(event["arms"])
            self.step, self.last_step_at = event["step"], now
        elif name == "saved" and not self.stop.is_set():
            self.state = "answering"

    def status(self, place: int) -> Status:
        elapsed = self.last_step_at - self.first_step_at
        timed = self.step - self.first_step
        left = elapsed / timed * (self.steps - self.step) if timed > 0 and elapsed > 0 else None
        return Status(
            state="stopping" if self.stop.is_set() and self.state != "waiting" else self.state,
            place=place,
            step=self.step,
            steps=self.steps,
            tokens_per_second=self.tokens / elapsed if elapsed > 0 else 0.0,
            seconds_left=left,
        )


class Jobs:
    """The queue and its worker, a thread that starts with the first job and lives as long as the process."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._change = threading.Condition()
        self._waiting: list[_Job] = []
        self._running: _Job | None = None
        self._last_owner: str | None = None
        self._worker: threading.Thread | None = None

    def submit(self, study: StudySettings, owner: str) -> Record:
        """Put a study in the queue; raises a `LabError` where it is over a limit."""
        study.check(self.limits)
        with self._change:
            self._check_room(owner)
        record = create(study, owner, self.limits)
        with self._change:
            self._queue(record, owner)
        return record

    def resume(self, record_id: str, owner: str) -> Record:
        """Put an unfinished study back in the queue, to go on from its last checkpoint."""
        record = find(record_id, owner)
        with self._change:
            if self._find(record.id) is not None:
                raise RecordError("This study is under way already.")
            if _from_events(record).state == "finished":
                raise RecordError("This study is finished: there is nothing to go on with.")
            self._check_room(owner)
            self._queue(record, owner)
        return record

    def _check_room(self, owner: str) -> None:
        mine = sum(job.owner == owner for job in self._waiting)
        if mine >= self.limits.waiting_jobs:
            raise DoesNotFit(f"You already have {mine} studies waiting, the most this server allows: wait for one.")

    def _queue(self, record: Record, owner: str) -> None:
        self._waiting.append(_Job(record, owner))
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._work, name="neftune-worker", daemon=True)
            self._worker.start()
        self._change.notify_all()

    def stop(self, record_id: str, owner: str) -> None:
        """Ask a waiting or running study to end; it keeps the arms of its last whole step."""
        with self._change:
            job = self._find(record_id)
            if job is None or job.owner != owner:
                raise RecordError("This study is not running, or it belongs to another visitor.")
            job.stop.set()
            if job in self._waiting:
                self._waiting.remove(job)
                job.record.append({"event": "stopped", "message": "Stopped while waiting."})
            self._change.notify_all()

    def status(self, record: Record) -> Status:
        """Where the study of a record stands, in this process or as its events tell."""
        with self._change:
            job = self._find(record.id)
            if job is not None:
                place = self._order().index(job) + 1 if job in self._waiting else 0
                return job.status(place)
        return _from_events(record)

    def current_of(self, owner: str) -> Record | None:
        """The visitor's study that is running or waiting, the running one first."""
        with self._change:
            jobs = [self._running, *self._waiting]
            return next((job.record for job in jobs if job is not None and job.owner == owner), None)

    def wait(self, record: Record, timeout_seconds: float) -> Status:
        """Block until the study is over, or the time is."""
        with self._change:
            self._change.wait_for(lambda: self._find(record.id) is None, timeout_seconds)
        return self.status(record)

    def _find(self, record_id: str) -> _Job | None:
        jobs = [self._running, *self._waiting]
        return next((job for job in jobs if job is not None and job.record.id == record_id), None)

    def _order(self) -> list[_Job]:
        """The waiting jobs as they will run: visitors in turn, each visitor's own in the order of asking."""
        rounds: dict[str | None, int] = {self._last_owner: 1}
        ranked = []
        for place, job in enumerate(self._waiting):
            ranked.append((rounds.get(job.owner, 0), place, job))
            rounds[job.owner] = rounds.get(job.owner, 0) + 1
        return [job for _, _, job in sorted(ranked, key=lambda entry: entry[:2])]

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._waiting))
                job = self._order()[0]
                self._waiting.remove(job)
                self._running, self._last_owner = job, job.owner
                job.state = "preparing"
            try:
                for event in run_study(job.record, self.limits, job.stop.is_set):
                    job.follow(event)
            except Exception:  # the record itself could not be written; the next job must still have its turn
                logger.exception("the record %s could not be written", job.record.id)
            finally:
                gc.collect()  # a stack of adapters and its hooks refer to each other
                with self._change:
                    self._running = None
                    self._change.notify_all()


def _from_events(record: Record) -> Status:
    events, _ = record.events()
    step: dict[str, Any] = next((event for event in reversed(events) if event.get("event") == "step"), {})
    ending = next((event for event in reversed(events) if event.get("event") in ENDINGS), None)
    return Status(
        state=ENDINGS[ending["event"]] if ending else "interrupted",
        step=int(step.get("step", 0)),
        steps=int(step.get("steps", 0)),
        message=str(ending.get("message", "")) if ending else INTERRUPTED,
    )
