"""OpenMP threads: how they wait for work, and how many a study uses.

Spinning threads are fastest on an idle machine, but many times slower as soon as another process needs a core: a
spinning thread occupies the core that the awaited thread needs. GNU's OpenMP runtime, used by the Linux builds of
torch, stops spinning when it manages more threads than there are cores. `YieldingWhenBusy` exploits this: it monitors
how long this process waits for cores, and keeps an additional idle thread pool as long as the process has to wait. This
changes only how threads wait: a computation keeps its number of threads, which determines the rounding of sums.

Other runtimes (macOS, Windows) also read `OMP_WAIT_POLICY`; with the lab's value, they always wait passively.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

POLICY, SPINS = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
WAITING = {POLICY: "passive", SPINS: "300000"}
"""Environment variables set by the lab. GNU's default spin count is 300,000, or 0 if threads outnumber cores."""

CHECK_SECONDS = 0.2
BUSY_SHARE = 0.1
"""Share of time spent waiting for a core, summed over threads, above which the machine is considered busy."""
CALM_CHECKS = 10
"""Consecutive checks that must find an idle machine before threads spin again."""

_lock = threading.Lock()
_limit: int | None = None


def prepare_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the environment variables that control how OpenMP threads wait.

    This has no effect if one of the variables is already set. It also has no effect after torch has been imported,
    because the runtime reads the variables only once.
    """
    if "torch" not in sys.modules and not any(name in environment for name in (POLICY, SPINS, "KMP_BLOCKTIME")):
        environment.update(WAITING)


def limit_threads(count: int) -> None:
    """Use `count` threads in this process from now on, regardless of studies and records."""
    global _limit
    import torch

    torch.set_num_threads(count)
    default_threads.cache_clear()
    _limit = count


@cache
def default_threads() -> int:
    """Return the number of threads of a new study: the limit of this process, else torch's default."""
    import torch

    return _limit or torch.get_num_threads()


@contextmanager
def fixed_threads(count: int | None = None) -> Iterator[None]:
    """Compute with a fixed number of threads inside the block.

    Args:
        count: Number of threads, such as a resumed study's; `default_threads()` if None. `limit_threads` takes
            precedence.
    """
    import torch

    usual, before = default_threads(), torch.get_num_threads()
    torch.set_num_threads(_limit or count or usual)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def adapts() -> bool:
    """Return whether `YieldingWhenBusy` has an effect: on Linux with the lab's `WAITING`."""
    return sys.platform == "linux" and all(os.environ.get(name) == value for name, value in WAITING.items())


def waiting_text() -> str:
    """Describe how threads wait on this machine, for `neftune doctor`."""
    if adapts():
        return "threads spin while the machine is idle, and yield as soon as another process needs a core"
    if sys.platform != "linux":
        return f"{POLICY}={os.environ.get(POLICY, '')}; waiting is not adapted to other processes on this system"
    given = ", ".join(f"{name}={os.environ[name]}" for name in WAITING if name in os.environ)
    return f"as set in the environment ({given})" if given else "the default of the OpenMP runtime"


class YieldingWhenBusy:
    """A context manager that stops OpenMP threads from spinning while other processes compete for the cores.

    Blocks may overlap and nest across threads; a single monitor thread serves all of them.
    """

    _users = 0
    _stop: threading.Event | None = None

    def __enter__(self) -> None:
        with _lock:
            YieldingWhenBusy._users += 1
            if YieldingWhenBusy._stop is None and adapts():
                YieldingWhenBusy._stop = threading.Event()
                given = (YieldingWhenBusy._stop,)
                threading.Thread(target=watch_run_queue, args=given, name="waiting", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        with _lock:
            YieldingWhenBusy._users -= 1
            if YieldingWhenBusy._users == 0 and YieldingWhenBusy._stop is not None:
                YieldingWhenBusy._stop.set()
                YieldingWhenBusy._stop = None


class IdlePool:
    """An extra thread pool that makes the OpenMP runtime stop spinning, because threads outnumber the cores."""

    def __init__(self) -> None:
        self._release: threading.Event | None = None
        self._holder: threading.Thread | None = None

    def keep(self) -> None:
        """Create the pool if it does not exist."""
        if self._holder is None:
            self._release, ready = threading.Event(), threading.Event()
            self._holder = threading.Thread(target=_hold, args=(ready, self._release), name="idle-pool", daemon=True)
            self._holder.start()
            ready.wait()

    def release(self) -> None:
        """Remove the pool, if it exists, by ending the thread that owns it."""
        if self._holder is not None and self._release is not None:
            self._release.set()
            self._holder.join()
            self._holder = None


def _hold(ready: threading.Event, release: threading.Event) -> None:
    """Start a pool with one thread more than there are cores, and keep it until `release` is set."""
    import torch

    before, more = torch.get_num_threads(), (os.cpu_count() or 1) + 1
    torch.set_num_threads(more)
    torch.zeros(2**15 * more).add_(1)  # torch gives each thread 2**15 elements
    torch.set_num_threads(before)
    ready.set()
    release.wait()


def watch_run_queue(stop: threading.Event) -> None:
    """Keep the idle pool while this process waits for cores, until `stop` is set."""
    pool, calm = IdlePool(), 0
    waited, at = run_queue_seconds(), time.monotonic()
    while not stop.wait(CHECK_SECONDS):
        now, then = run_queue_seconds(), time.monotonic()
        share, waited, at = (now - waited) / (then - at), now, then
        calm = 0 if share > BUSY_SHARE else calm + 1
        if calm == 0:
            pool.keep()
        elif calm >= CALM_CHECKS:
            pool.release()
    pool.release()


def run_queue_seconds(process: Path = Path("/proc/self/task"), machine: Path = Path("/proc/stat")) -> float:
    """Return the time that threads of this process have waited for a core, including steal time.

    Args:
        process: Folder with a `schedstat` file per thread; its second number is the wait in nanoseconds.
        machine: File with the steal time as the eighth number of its first line, in hundredths of a second.

    Returns:
        Seconds, summed over the threads.
    """
    total = 0.0
    for thread in process.iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            continue  # the thread has ended
    try:
        return total + int(machine.read_text().split(maxsplit=9)[8]) / 100
    except (OSError, ValueError, IndexError):
        return total


def _reset_after_fork() -> None:
    """Reset the state in a forked process, which has no monitor thread and may have inherited a held lock."""
    global _lock
    _lock = threading.Lock()
    YieldingWhenBusy._users, YieldingWhenBusy._stop = 0, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
