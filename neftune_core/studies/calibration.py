"""Time the steps of a run, and store the measured pace for future estimates."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from neftune_core.engine.lockstep import Event, Lockstep
from neftune_core.models.catalogue import machine_seconds, training_key
from neftune_core.models.stopwatch import without_waiting
from neftune_core.models.time_calibration import TimeCalibration, store_calibration, stored_calibration
from neftune_core.studies.planning import workload_of

FEWEST_STEPS = 2
LAST_STEPS = 50


class StepTimer:
    """Measures the pace of one run's steps, except the first, which includes warm-up.

    On a CPU, time that the run spent waiting for the processor is not counted if it is more than half of the time: the
    other programs may be gone by the next study.
    """

    def __init__(self, run: Lockstep) -> None:
        self.run = run
        self.started = self._now()
        self.last: deque[tuple[float, float]] = deque(maxlen=LAST_STEPS)
        self.count, self.seconds, self.processor_seconds = -1, 0.0, 0.0

    @staticmethod
    def _now() -> tuple[float, float]:
        """Return the wall time and the processor time of this process, in seconds."""
        return time.perf_counter(), time.process_time()

    def _since(self, before: tuple[float, float]) -> tuple[float, float]:
        now = self._now()
        return now[0] - before[0], now[1] - before[1]

    def _counted(self, wall: float, processor: float) -> float:
        return without_waiting(wall, processor) if self.run.stack.loaded.device.type == "cpu" else wall

    def timed(self, events: Iterator[Event]) -> Iterator[Event]:
        """Yield the events unchanged and time the steps, excluding time spent in the consumer."""
        before = self._now()
        for event in events:
            if event["event"] == "step":
                self._follow(*self._since(before))
            yield event
            before = self._now()

    def _follow(self, wall: float, processor: float) -> None:
        self.count += 1
        self.seconds += wall
        self.processor_seconds += processor
        if self.count:
            self.last.append((wall, processor))

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
        wall, processor = (sum(column) / len(self.last) for column in zip(*self.last, strict=True))
        steps = self._counted(wall, processor) / machine_seconds(loaded, one_step, study.model)[0]
        rest = (stored_calibration(key) or TimeCalibration()).rest
        if finished:
            wall, processor = self._since(self.started)
            measured = max(0.0, self._counted(wall - self.seconds, processor - self.processor_seconds))
            rest = measured / (share * machine_seconds(loaded, work, study.model)[1])
        store_calibration(key, TimeCalibration(steps, rest))
