"""The time of a short computation is measured with simulated clocks, on an idle and on a busy machine."""

from __future__ import annotations

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
    """A simulated machine, on which each repetition waits for the CPU before it computes on `threads` threads."""

    waits: Iterator[float]
    threads: int = 1
    wall: float = 100.0
    processor: float = 7.0

    def compute(self) -> None:
        self.wall += WORK + next(self.waits, 0.0)
        self.processor += self.threads * WORK

    def time_of_work(self, threads: int) -> Timing:
        """Measure the computation with the clocks of this machine."""
        clocks = SimpleNamespace(perf_counter=lambda: self.wall, process_time=lambda: self.processor)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stopwatch, "time", clocks)
            return stopwatch.time_of(self.compute, 0.05, threads=threads)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_an_idle_machine_is_measured_by_wall_time(threads: int) -> None:
    machine = Machine(iter(()), threads)
    assert machine.time_of_work(threads) == Timing(pytest.approx(WORK), has_waited=False)


def test_single_interruptions_do_not_count() -> None:
    machine = Machine(iter([0.004, 0.0, 0.0, 0.009]))
    assert machine.time_of_work(threads=1) == Timing(pytest.approx(WORK), False)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_starved_process_is_measured_within_a_factor_of_two(threads: int) -> None:
    machine = Machine(iter([3.0] * 100), threads)
    found = machine.time_of_work(threads)
    assert found.has_waited
    assert WORK <= found.seconds * (1 + 1e-9) <= 2.001 * WORK  # rounding of the clocks' sums


def test_work_on_another_device_needs_no_processor_time() -> None:
    machine = Machine(iter(()), threads=0)
    assert machine.time_of_work(threads=0) == Timing(pytest.approx(WORK), False)


def test_a_clock_that_stands_still_changes_nothing() -> None:
    machine = Machine(iter(()), threads=0)
    assert machine.time_of_work(threads=1).seconds == pytest.approx(WORK)


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
