"""Run the studies of a sweep as Ray tasks, on this machine or a cluster.

The sweep's rows are sent once, and the record of each study with its task. Results are returned through a folder that
all machines can write to, anywhere that fsspec supports (shared disk, s3://, gs://, ...). A task is retried if its
machine is lost, but not if the study itself fails. Tasks are submitted as capacity becomes free.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neftune_core.errors import DoesNotFit, InvalidSetting, NotAvailable
from neftune_core.language import later
from neftune_core.sentences import cause, sentence
from neftune_core.settings import Limits, parse
from neftune_core.studies.records.record import ENDINGS, Record
from neftune_core.studies.study import run_study
from neftune_core.sweeps.sweep import SweepCell
from neftune_core.sweeps.transfer import fetch, pack, send, unpack

LOCAL = "local"
MOST_STARTS = 4
"""Maximum number of times that a task is started if its machines are lost."""
POLL_SECONDS = 0.3
TASKS_PER_SLOT = 2
"""Tasks submitted per slot of the cluster, so that no slot is idle between tasks."""
HEARTBEAT_TIMEOUT_SECONDS = 30
"""After a stop, a study without a heartbeat for this long is considered lost."""
CONNECT_SECONDS = 10
LOST = later("Stopped. The machine that ran this study no longer responds, so the work since the start is lost.")
ASKED = later("Stopped on request.")
REFUSED = (
    "A server responds at {address!r}, but no Ray cluster can be joined there. Check that this is the address of the "
    "head node, that both machines have the same version of Ray, and, if the cluster needs a token, that it is set "
    "here too (RAY_AUTH_MODE=token). {error}"
)
NEEDS = "Ray is not installed here: run `pip install 'ray>=2.40' 'fsspec>=2024.6'` on every machine of the cluster."

Event = dict[str, Any]


class Scoreboard:
    """Ray actor that collects the progress of tasks and distributes the stop signal."""

    def __init__(self) -> None:
        self.reported: dict[str, list[Event]] = {}
        self.heartbeats: dict[str, float] = {}
        self.stopped: float | None = None
        self.words = ""

    def heartbeat(self, name: str) -> str:
        """Record a heartbeat of a task; return the reason for stopping, or ""."""
        self.heartbeats[name] = time.monotonic()
        return self.words

    def report(self, name: str, event: Event) -> None:
        """Add an event of a study; consecutive steps are replaced by the last one.

        Args:
            name: Name of the study.
            event: An event of the study's log.
        """
        events = self.reported.setdefault(name, [])
        if events and event["event"] == events[-1]["event"] == "step":
            events.pop()
        events.append(event)

    def drain(self) -> dict[str, list[Event]]:
        """Return the events since the last call, by study."""
        drained, self.reported = self.reported, {}
        return drained

    def stop(self, words: str) -> set[str]:
        """Signal all tasks to stop with the reason `words`; return the names of those that have started."""
        self.stopped, self.words = time.monotonic(), words
        return set(self.heartbeats)

    def unresponsive(self, names: set[str], seconds: float) -> set[str]:
        """Return the studies whose tasks no longer send heartbeats.

        Args:
            names: Names of the studies to check.
            seconds: Maximum time since the last heartbeat, or since the stop signal if there was no heartbeat.

        Returns:
            Names of the unresponsive studies.
        """
        now = time.monotonic()
        return {name for name in names if now - self.heartbeats.get(name, self.stopped or now) > seconds}


@dataclass(frozen=True)
class OnRay:
    """Runs the cells of a sweep on a Ray cluster.

    Attributes:
        address: HOST:PORT of the cluster; "local" to start one on this machine.
        store: fsspec folder through which records are returned; empty for the sweep's folder, which all machines must
            then be able to write to.
    """

    address: str = LOCAL
    store: str = ""
    cpus: float = 1.0
    gpus: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(
        self, cells: Sequence[SweepCell], limits: Limits, should_stop: Callable[[], bool]
    ) -> Iterator[tuple[SweepCell, Event]]:
        """Run cells of a sweep as Ray tasks.

        Args:
            cells: Cells of one sweep, each with its record.
            limits: Limits of this server.
            should_stop: Polled regularly; return true to stop.

        Yields:
            Events of all cells as they arrive.

        Raises:
            NotAvailable: If Ray or the cluster is not available.
            InvalidSetting: If the address is malformed.
            DoesNotFit: If no machine has the requested CPUs or GPUs.
        """
        if not cells:
            return
        ray = self._connected()
        try:
            yield from _RayRun(ray, self, limits, should_stop, deque(cells)).events()
        finally:
            ray.shutdown()

    def _connected(self) -> Any:
        try:
            import ray
        except ImportError:
            raise NotAvailable(NEEDS) from None
        if "://" in self.address:
            raise InvalidSetting(
                "Give the cluster as HOST:PORT (usually port 6379), and run the command on one of its machines."
            )
        host, _, port = self.address.rpartition(":")
        reachable = False
        try:
            if host and port.isdigit():  # Ray itself would retry for minutes
                socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
                reachable = True
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, **self.options)
        except Exception as error:
            words = REFUSED if reachable else "There is no Ray cluster at {address!r}: {error}"
            raise NotAvailable(words.format(address=self.address, error=error)) from None
        for kind, asked in (("CPU", self.cpus), ("GPU", self.gpus)):
            most = max((node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"]), default=0)
            if asked > most:
                ray.shutdown()
                raise DoesNotFit(
                    f"No machine of the cluster has enough {kind}s ({asked:g} requested, at most {most:g} available): "
                    "request fewer."
                )
        return ray


@dataclass
class _RayRun:
    """One run of a sweep.

    Attributes:
        ray: The module `ray`, connected to the cluster.
        waiting: Cells to be submitted.
        pending: Submitted cells by the Ray reference of their task.
        scoreboard: Handle of the `Scoreboard` actor.
        rows: Ray reference to a zip file with the rows of the sweep.
    """

    ray: Any
    cluster: OnRay
    limits: Limits
    should_stop: Callable[[], bool]
    waiting: deque[SweepCell]
    pending: dict[Any, SweepCell] = field(default_factory=dict)
    scoreboard: Any = field(init=False)
    rows: Any = field(init=False)

    def __post_init__(self) -> None:
        self.scoreboard = self._scoreboard()
        first = self.waiting[0].sweep
        self.rows = self.ray.put(pack(first.folder / "data", first.folder))

    def events(self) -> Iterator[tuple[SweepCell, Event]]:
        stopped = False
        yield from self._submitted()
        while self.pending:
            ended, _ = self.ray.wait(list(self.pending), timeout=POLL_SECONDS)
            by_name = {one.cell.name: one for one in self.pending.values()}
            for name, events in self.ray.get(self.scoreboard.drain.remote()).items():
                if name in by_name:  # events may arrive after the ending
                    yield from ((by_name[name], event) for event in events)
            for task in ended:
                yield from self._ended(task)
            if self.should_stop() and not stopped:
                stopped = True
                self._stop()
            yield from self._abandoned() if stopped else self._submitted()

    def _stop(self) -> None:
        """Signal the started tasks to stop, and cancel the others."""
        words = str(getattr(self.should_stop, "words", ASKED))
        started = self.ray.get(self.scoreboard.stop.remote(words))
        for task, one in self.pending.items():
            if one.cell.name not in started:
                self.ray.cancel(task)

    def _abandoned(self) -> Iterator[tuple[SweepCell, Event]]:
        """After a stop, end the cells whose machine was lost or never became available."""
        names = {one.cell.name for one in self.pending.values()}
        unresponsive = self.ray.get(self.scoreboard.unresponsive.remote(names, HEARTBEAT_TIMEOUT_SECONDS))
        for task, one in list(self.pending.items()):
            if one.cell.name in unresponsive:
                self.ray.cancel(task, force=True)
                yield self.pending.pop(task), {"event": "stopped", "message": LOST}

    def _scoreboard(self) -> Any:
        """Create the actor on the machine that runs the sweep, because the sweep cannot outlive that machine anyway."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        return self.ray.remote(Scoreboard).options(num_cpus=0, scheduling_strategy=here).remote()

    def _submitted(self) -> Iterator[tuple[SweepCell, Event]]:
        """Submit waiting cells up to the cluster's capacity; yield the final event of those that cannot start."""
        most = TASKS_PER_SLOT * self._capacity() if self.waiting else 0
        while self.waiting and len(self.pending) < most:
            one = self.waiting.popleft()
            name, without = one.cell.name, () if one.sweep.settings.keep_adapters else ("arms",)
            try:
                one.begin()
                packed = pack(one.record.folder, one.sweep.folder)
            except Exception as error:
                yield one, {"event": "failed", "message": sentence(error)}
                continue
            needs = {"num_cpus": self.cluster.cpus, "num_gpus": self.cluster.gpus, "max_retries": MOST_STARTS - 1}
            task = self.ray.remote(_on_worker).options(**needs, name=name)
            given = (packed, self.rows, self.limits.model_dump(), self._target(one), without, self.scoreboard)
            self.pending[task.remote(name, *given)] = one

    def _capacity(self) -> int:
        """Return the number of studies that the current machines of the cluster can run at once, at least 1."""
        asked = {kind: share for kind, share in (("CPU", self.cluster.cpus), ("GPU", self.cluster.gpus)) if share}
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        fitting = (
            min(int(node.get(kind, 0) / share) for kind, share in (asked or {"CPU": 1}).items()) for node in nodes
        )
        return max(1, sum(fitting))

    def _target(self, one: SweepCell) -> str:
        folder = self.cluster.store.rstrip("/") or str(one.sweep.folder / ".incoming")
        return f"{folder}/{one.sweep.id}-{one.cell.name}.zip"

    def _ended(self, task: Any) -> Iterator[tuple[SweepCell, Event]]:
        """Fetch the record of a completed task; yield its final event."""
        one = self.pending.pop(task)
        try:
            ending = self.ray.get(task)
            if not ending.pop("unbegun", False):
                fetch(self._target(one), one)
        except self.ray.exceptions.TaskCancelledError:
            return
        except self.ray.exceptions.RayTaskError as error:  # raised by the study or the store
            ending = {"event": "failed", "message": sentence(getattr(error, "cause", error))}
        except self.ray.exceptions.RayError as error:
            words = later("The study was started {times} times, and its machine was lost each time: {error}.")
            ending = {"event": "failed", "message": words.format(times=MOST_STARTS, error=cause(error))}
        except Exception as error:
            ending = {"event": "failed", "message": sentence(error)}
        yield one, ending


def _on_worker(
    name: str, packed: bytes, rows: bytes, limits: dict[str, Any], target: str, without: Sequence[str], scoreboard: Any
) -> Event:
    """Run one study on a worker from the zip files of its record and rows, and write its record to the URL `target`.

    Return the final event, and report progress to the actor `scoreboard`.

    Raises:
        RuntimeError: If the study ends without a final event.
    """
    import ray

    if ray.get(scoreboard.heartbeat.remote(name)):
        return {"event": "stopped", "message": later("The study was stopped before it began."), "unbegun": True}
    with (
        tempfile.TemporaryDirectory(prefix="neftune-cell-") as folder,
        _stop_signal(scoreboard, name) as should_stop,
    ):
        root = Path(folder)
        for part in (packed, rows):
            unpack(part, root)
        record = Record(root / "cells" / name)
        ending: Event = {}
        for event in run_study(record, parse(Limits, limits), should_stop):
            if event["event"] in ("started", "step"):
                scoreboard.report.remote(name, event)
            ending = event
        if ending["event"] not in ENDINGS:
            raise RuntimeError("the study ended without a final event")
        send(record.folder, root, target, without)
    return ending


@dataclass
class _StopSignal:
    """A stop signal that a task polls.

    Attributes:
        words: Reason for the stop; "" until a stop is requested.
    """

    words: str = ""

    def __call__(self) -> bool:
        return bool(self.words)


@contextlib.contextmanager
def _stop_signal(scoreboard: Any, name: str) -> Iterator[_StopSignal]:
    """Poll the actor for the stop signal in a thread, also as a heartbeat. If the actor is lost, signal a stop."""
    import ray

    signal, over = _StopSignal(), threading.Event()

    def ask() -> None:
        while not over.wait(POLL_SECONDS):
            try:
                signal.words = ray.get(scoreboard.heartbeat.remote(name))
            except ray.exceptions.RayError:
                signal.words = ASKED
                return

    polling = threading.Thread(target=ask, name="poll-scoreboard", daemon=True)
    polling.start()
    try:
        yield signal
    finally:
        over.set()
        polling.join()
