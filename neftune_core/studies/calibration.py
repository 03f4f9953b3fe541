"""Time the steps of a run, and store the measured pace for future estimates."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from neftune_core.engine.lockstep import Event, Lockstep
from neftune_core.models.catalogue import (
    TimeCalibration,
    machine_seconds,
    store_calibration,
    stored_calibration,
    training_key,
)
from neftune_core.studies.planning import workload_of

FEWEST_STEPS = 2
LAST_STEPS = 50


class StepTimer:
    """Measures the pace of one run's steps, except the first, which includes warm-up."""

    def __init__(self, run: Lockstep) -> None:
        self.run = run
        self.started = time.perf_counter()
        self.last: deque[float] = deque(maxlen=LAST_STEPS)
        self.count, self.seconds = -1, 0.0

    def timed(self, events: Iterator[Event]) -> Iterator[Event]:
        """Yield the events unchanged and time the steps, excluding time spent in the consumer."""
        before = time.perf_counter()
        for event in events:
            if event["event"] == "step":
                self._follow(time.perf_counter() - before)
            yield event
            before = time.perf_counter()

    def _follow(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds
        if self.count:
            self.last.append(seconds)

    def keep(self, *, finished: bool) -> None:
        """Store the pace of the last steps and, for a finished run, the time spent outside steps."""
        if len(self.last) < FEWEST_STEPS:
            return
        study, loaded = self.run.study, self.run.stack.loaded
        training = study.training.model_copy(update={"time_budget_seconds": 0.0, "steps": self.run.total})
        planned = study.model_copy(update={"training": training})
        work = workload_of(planned, self.run.prepared, loaded)
        key, share = training_key(study.model, work), len(self.run.names) / work.trained
        one_step = replace(work, arms=len(self.run.names), steps=training.accumulation)
        steps = sum(self.last) / len(self.last) / machine_seconds(loaded, one_step, study.model)[0]
        rest = (stored_calibration(key) or TimeCalibration()).rest
        if finished:
            measured = max(0.0, time.perf_counter() - self.started - self.seconds)
            rest = measured / (share * machine_seconds(loaded, work, study.model)[1])
        store_calibration(key, TimeCalibration(steps, rest))
