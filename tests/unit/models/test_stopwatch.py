"""The time of a short computation is measured with simulated clocks, on an idle and on a busy machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from neftune_core.models import stopwatch
from neftune_core.models.stopwatch import RETRY_SECONDS, Measured, Timing, without_waiting

WORK = 0.002
"""Seconds of the computation on an idle machine."""


@dataclass
class Machine:
    """A simulated machine, on which each repetition waits for the CPU before it computes."""

    waits: Iterator[float]
    is_counted: bool = True
    """Whether the clock of the thread's CPU time runs."""
    wall: float = 100.0
    thread: float = 7.0

    def compute(self) -> None:
        self.wall += WORK + next(self.waits, 0.0)
        self.thread += self.is_counted * WORK

    def time_of_work(self, *, on_cpu: bool = True) -> Timing:
        """Measure the computation with the clocks of this machine."""
        clocks = SimpleNamespace(perf_counter=lambda: self.wall, thread_time=lambda: self.thread)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stopwatch, "time", clocks)
            return stopwatch.time_of(self.compute, 0.05, on_cpu=on_cpu)


def test_an_idle_machine_is_measured_by_wall_time() -> None:
    assert Machine(iter(())).time_of_work() == Timing(pytest.approx(WORK), has_waited=False)


def test_what_only_the_first_repetition_does_is_not_counted() -> None:
    assert Machine(iter([0.5])).time_of_work() == Timing(pytest.approx(WORK), False)


def test_single_interruptions_do_not_count() -> None:
    assert Machine(iter([0.0, 0.004, 0.0, 0.0, 0.009])).time_of_work() == Timing(pytest.approx(WORK), False)


def test_a_starved_thread_is_measured_by_its_own_time() -> None:
    found = Machine(iter([3.0] * 100)).time_of_work()
    assert found.has_waited
    assert found.seconds == pytest.approx(WORK)


def test_a_thread_that_waits_for_the_interpreter_is_measured_by_its_own_time() -> None:
    """The other thread computes all the time, so the process uses as much CPU time as on an idle machine."""
    ends = threading.Event()

    def compute() -> None:
        while not ends.is_set():
            sum(range(1000))

    def many_short_operations() -> None:
        for _ in range(200):
            time.sleep(0)  # releases the interpreter

    alone = stopwatch.time_of(many_short_operations, 0.05, on_cpu=True).seconds
    other = threading.Thread(target=compute)
    other.start()
    try:
        found = stopwatch.time_of(many_short_operations, 0.05, on_cpu=True)
    finally:
        ends.set()
        other.join()
    assert found.has_waited
    assert found.seconds < 10 * alone  # the wall time is hundreds of times as long


def test_work_on_another_device_needs_no_processor_time() -> None:
    assert Machine(iter(()), is_counted=False).time_of_work(on_cpu=False) == Timing(pytest.approx(WORK), False)


def test_a_clock_that_stands_still_changes_nothing() -> None:
    assert Machine(iter(()), is_counted=False).time_of_work().seconds == pytest.approx(WORK)


def test_waiting_is_removed_only_if_it_is_most_of_the_time() -> None:
    assert without_waiting(10.0, 19.0) == 10.0
    assert without_waiting(10.0, 6.0) == 10.0
    assert without_waiting(10.0, 0.2) == 0.2


def test_a_measurement_that_waited_is_repeated_later_and_a_good_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(monotonic=lambda: now[0]))
    measured = Measured()
    results = iter([Timing(9.0, True), Timing(11.0, True), Timing(2.0, False), Timing(1.0, False)])
    measure: Callable[[], Timing] = lambda: next(results)  # noqa: E731
    assert measured.seconds("a", measure) == 9.0
    now[0] = RETRY_SECONDS / 2
    assert measured.seconds("a", measure) == 9.0
    now[0] = RETRY_SECONDS
    assert measured.seconds("a", measure) == 9.0
    now[0] = 2 * RETRY_SECONDS
    assert measured.seconds("a", measure) == 2.0
    now[0] = 99 * RETRY_SECONDS
    assert measured.seconds("a", measure) == 2.0
