"""OpenMP threads: how they wait for one another, and how many of them a study uses.

Threads that spin while they wait are fastest on an idle machine, and many times slower as soon as another process
wants a core: the spinning thread holds the core that the awaited one needs. GNU's OpenMP runtime, which the Linux
builds of torch bring, stops spinning by itself once it manages more threads than there are cores. `YieldingWhenBusy`
makes use of that: it watches how long this process waits for a core, and while it does, keeps one idle thread pool
more. Only the waiting changes, never the number of threads of a computation, on which the rounding of sums depends.

Other runtimes (macOS, Windows) read the same variable `OMP_WAIT_POLICY`, and wait passively throughout.
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
"""The variables that the lab sets: 300,000 turns, GNU's own default, and none once threads outnumber the cores."""

CHECK_SECONDS = 0.2
BUSY_SHARE = 0.1
"""Of the time, summed over the threads: above it this process waits for a core that somebody else has."""
CALM_CHECKS = 10
"""How many checks in a row must find an idle machine before threads spin again."""

_lock = threading.Lock()
_limit: int | None = None


def prepare_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set how OpenMP's threads wait; to be called before torch is imported, since the runtime reads it once.

    Does nothing if the environment already says how threads wait, or if torch is already there.
    """
    if "torch" not in sys.modules and not any(name in environment for name in (POLICY, SPINS, "KMP_BLOCKTIME")):
        environment.update(WAITING)


def limit_threads(count: int) -> None:
    """Use `count` threads in this process from now on, whatever a study or a record asks for."""
    global _limit
    import torch

    torch.set_num_threads(count)
    usual_threads.cache_clear()
    _limit = count


@cache
def usual_threads() -> int:
    """Return the number of threads of a new study: the limit of this process, else what torch was started with."""
    import torch

    return _limit or torch.get_num_threads()


@contextmanager
def fixed_threads(count: int | None = None) -> Iterator[None]:
    """Compute with `count` threads inside the block, or with `usual_threads()` if None.

    Resuming a study uses the number in its record. A process whose threads are limited stays within its limit.
    """
    import torch

    usual, before = usual_threads(), torch.get_num_threads()
    torch.set_num_threads(_limit or count or usual)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def adapts() -> bool:
    """Return whether `YieldingWhenBusy` has an effect here: on Linux, with the lab's own `WAITING`."""
    return sys.platform == "linux" and all(os.environ.get(name) == value for name, value in WAITING.items())


def waiting_words() -> str:
    """Return how threads wait on this machine, in one sentence for `neftune doctor`."""
    if adapts():
        return "threads spin while the machine is idle, and give way as soon as another process wants a core"
    if sys.platform != "linux":
        return f"{POLICY}={os.environ.get(POLICY, '')}; waiting is not adapted to other processes on this system"
    given = ", ".join(f"{name}={os.environ[name]}" for name in WAITING if name in os.environ)
    return f"as the environment says ({given})" if given else "as the OpenMP runtime has it"


class YieldingWhenBusy:
    """Within the block, OpenMP's threads stop spinning whenever other processes compete for the cores.

    Blocks may overlap, also in several threads; one watching thread serves all of them.
    """

    _users = 0
    _stop: threading.Event | None = None

    def __enter__(self) -> None:
        with _lock:
            YieldingWhenBusy._users += 1
            if YieldingWhenBusy._stop is None and adapts():
                YieldingWhenBusy._stop = threading.Event()
                watch = threading.Thread(target=_watch, args=(YieldingWhenBusy._stop,), name="waiting", daemon=True)
                watch.start()

    def __exit__(self, *_: object) -> None:
        with _lock:
            YieldingWhenBusy._users -= 1
            if YieldingWhenBusy._users == 0 and YieldingWhenBusy._stop is not None:
                YieldingWhenBusy._stop.set()
                YieldingWhenBusy._stop = None


class IdlePool:
    """One thread pool more than there are cores for, so that the OpenMP runtime no longer lets any thread spin."""

    def __init__(self) -> None:
        self._release: threading.Event | None = None
        self._holder: threading.Thread | None = None

    def keep(self) -> None:
        """Make the pool, if it is not there."""
        if self._holder is None:
            self._release, ready = threading.Event(), threading.Event()
            self._holder = threading.Thread(target=_hold, args=(ready, self._release), name="idle-pool", daemon=True)
            self._holder.start()
            ready.wait()

    def release(self) -> None:
        """Remove the pool, if it is there; it goes with its thread."""
        if self._holder is not None and self._release is not None:
            self._release.set()
            self._holder.join()
            self._holder = None

    @property
    def is_kept(self) -> bool:
        """Whether the pool is there."""
        return self._holder is not None


def _hold(ready: threading.Event, release: threading.Event) -> None:
    """Start a pool with one thread more than there are cores, and keep it until `release` is set."""
    import torch

    before, more = torch.get_num_threads(), (os.cpu_count() or 1) + 1
    torch.set_num_threads(more)
    torch.zeros(2**15 * more).add_(1)  # torch gives each thread a piece of 2**15 numbers
    torch.set_num_threads(before)
    ready.set()
    release.wait()


def _watch(stop: threading.Event) -> None:
    """Keep the idle pool while this process waits for cores; ends when `stop` is set."""
    pool, calm = IdlePool(), 0
    waited, at = _seconds_waited(), time.monotonic()
    while not stop.wait(CHECK_SECONDS):
        now, then = _seconds_waited(), time.monotonic()
        share, waited, at = (now - waited) / (then - at), now, then
        calm = 0 if share > BUSY_SHARE else calm + 1
        if calm == 0:
            pool.keep()
        elif calm >= CALM_CHECKS:
            pool.release()
    pool.release()


def _seconds_waited(process: Path = Path("/proc/self/task"), machine: Path = Path("/proc/stat")) -> float:
    """Return the seconds that this process's threads were ready and had no core, those that a host took included.

    Args:
        process: Folder with a `schedstat` per thread, whose second number is the wait in nanoseconds.
        machine: File whose first line has the time taken by the host of a virtual machine as its eighth number,
            in hundredths of a second.
    """
    total = 0.0
    for thread in process.iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            continue  # a thread that has ended meanwhile
    try:
        return total + int(machine.read_text().split(maxsplit=9)[8]) / 100
    except (OSError, ValueError, IndexError):
        return total


def _forget_watch() -> None:
    """In a forked process there is no watching thread, and the lock may have been held by one."""
    global _lock
    _lock = threading.Lock()
    YieldingWhenBusy._users, YieldingWhenBusy._stop = 0, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_watch)
