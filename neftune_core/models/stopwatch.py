"""Time short computations while other programs, or other threads of this process, may be using the CPU.

A thread that waits for the CPU or for the interpreter measures the load of the machine rather than its speed. Its CPU
time is then far below the wall time. Such a measurement is corrected, and repeated later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

LEAST_SHARE = 0.5
"""CPU time as a share of the wall time, below which a computation evidently waited for the CPU."""
FEWEST = 3
"""Minimum number of timed repetitions."""
RETRY_SECONDS = 10.0
"""Age in seconds at which a measurement that waited for the CPU is repeated."""


@dataclass(frozen=True)
class Timing:
    """The time of one repetition of a computation.

    Attributes:
        seconds: The time in seconds.
        has_waited: Whether the computation waited for the CPU, so that `seconds` is only an approximation.
    """

    seconds: float
    has_waited: bool


def time_of(compute: Callable[[], object], seconds: float, *, on_cpu: bool) -> Timing:
    """Repeat a computation and return the time of its fastest repetition.

    A first repetition is not timed, because it may initialise libraries, which can take longer than the measurement.
    If the calling thread waited for the CPU or for the interpreter, and its mean CPU time per repetition is shorter
    than that, the CPU time is returned. Threads that PyTorch adds to a computation share the work equally, so the time
    of the calling thread is that of the computation.

    Args:
        compute: The computation.
        seconds: Minimum duration of the measurement.
        on_cpu: Whether the computation runs on the CPU; otherwise, waiting for it is not corrected.

    Returns:
        The time of one repetition, and whether the computation waited.
    """
    compute()
    times: list[float] = []
    before, end = time.thread_time(), time.perf_counter() + seconds
    while len(times) < FEWEST or time.perf_counter() < end:
        start = time.perf_counter()
        compute()
        times.append(time.perf_counter() - start)
    used = time.thread_time() - before
    has_waited = on_cpu and used < LEAST_SHARE * sum(times)
    return Timing(min(*times, used / len(times)) if has_waited and used > 0 else min(times), has_waited)


def without_waiting(wall_seconds: float, processor_seconds: float) -> float:
    """Return the time that a computation on the CPU takes if it does not wait.

    Args:
        wall_seconds: Its wall time.
        processor_seconds: Its CPU time, over all threads.

    Returns:
        The wall time; if less than half of it was CPU time, the CPU time.
    """
    return processor_seconds if processor_seconds < LEAST_SHARE * wall_seconds else wall_seconds


class Measured:
    """Measured times by key. Each is measured once, and again later if the measurement had to wait for the CPU."""

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[Timing, float]] = {}

    def seconds(self, key: Hashable, measure: Callable[[], Timing]) -> float:
        """Return the measured time.

        Args:
            key: Key of the measurement.
            measure: Measures the time; called if there is no valid measurement.

        Returns:
            The time in seconds: the shortest one measured so far.
        """
        found, since = self._found.get(key, (None, 0.0))
        if found is None or (found.has_waited and time.monotonic() - since >= RETRY_SECONDS):
            new = measure()
            seconds = new.seconds if found is None else min(found.seconds, new.seconds)
            found = Timing(seconds, new.has_waited)
            self._found[key] = found, time.monotonic()
        return found.seconds
