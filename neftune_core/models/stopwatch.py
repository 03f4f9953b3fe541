"""Time short computations on a machine whose CPU other programs may be using.

A process that waits for the CPU measures the load of the machine rather than its speed. Its CPU time is
then far below the wall time. Such a measurement is corrected, and repeated later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

LEAST_SHARE = 0.5
"""CPU time per thread, as a share of the wall time, below which a computation evidently waited for the CPU."""
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


def time_of(compute: Callable[[], object], seconds: float, *, threads: int) -> Timing:
    """Repeat a computation and return the time of its fastest repetition.

    If the computation waited for the CPU, and the mean CPU time of a repetition is shorter than that, the CPU time is
    returned. With several threads, the CPU time may exceed the wall time on an idle machine, at most `threads` times.

    Args:
        compute: The computation.
        seconds: Minimum duration of the measurement.
        threads: Number of threads of the computation; 0 if it does not run on the CPU.

    Returns:
        The time of one repetition, and whether the computation waited.
    """
    times: list[float] = []
    before, end = time.process_time(), time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        compute()
        times.append(time.perf_counter() - start)
    used = time.process_time() - before
    has_waited = used < LEAST_SHARE * threads * sum(times)
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
