"""The studies of a sweep as tasks of Ray, on this machine or a cluster.

The sweep's rows go out once, and with each study its record; what it made comes back through a folder that all
machines can write, any that fsspec knows (a shared disk, s3://, gs://, ...). A task whose machine is lost is run again
on another one; a study that fails by itself is not. Tasks are handed over as places become free.
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
from neftune_core.sweeps.transfer import fetch, pack, pack_rows, send, unpack

LOCAL = "local"
TRIES = 4
"""How often a task is begun whose machine is lost."""
POLL_SECONDS = 0.3
AHEAD = 2
"""How many tasks are handed over for each place of the cluster, so that none is empty between two of them."""
SILENT_SECONDS = 30
"""How long a sweep that was stopped waits for a study since it was last heard of."""
CONNECT_SECONDS = 10
LOST = later("Stopped. Its machine is no longer heard of: what was done there since it began is lost.")
ASKED = later("Stopped as asked.")
REFUSED = (
    "Something answers at {address!r}, and no Ray cluster can be joined there. Is it the head's address, has Ray the "
    "same version there and here, and, if the cluster asks for a token, is it here too (RAY_AUTH_MODE=token)? {error}"
)
NEEDS = "Ray is not installed here: pip install 'ray>=2.40' 'fsspec>=2024.6', on every machine of the cluster."

Event = dict[str, Any]


class Board:
    """Where tasks tell how far they are, and hear that it is time to stop; an actor next to the sweep."""

    def __init__(self) -> None:
        self.told: dict[str, list[Event]] = {}
        self.heard: dict[str, float] = {}
        self.stopped: float | None = None
        self.words = ""

    def asks(self, name: str) -> str:
        """A task is there, as it begins and then every now and then; gives why all are to stop, once they are."""
        self.heard[name] = time.monotonic()
        return self.words

    def tell(self, name: str, event: Event) -> None:
        """Take what a study tells; of its steps the last one counts."""
        events = self.told.setdefault(name, [])
        if events and event["event"] == events[-1]["event"] == "step":
            events.pop()
        events.append(event)

    def take(self) -> dict[str, list[Event]]:
        """All that was told since the last time."""
        taken, self.told = self.told, {}
        return taken

    def stop(self, words: str) -> set[str]:
        """Let all tasks stop, and say `words`; gives those that have begun."""
        self.stopped, self.words = time.monotonic(), words
        return set(self.heard)

    def silent(self, names: set[str], seconds: float) -> set[str]:
        """Those of `names` that have not been heard of for `seconds`; one that never was, since the stop."""
        now = time.monotonic()
        return {name for name in names if now - self.heard.get(name, self.stopped or now) > seconds}


@dataclass(frozen=True)
class OnRay:
    """Runs the cells of a sweep on the cluster at `address` ("local": one of this machine's own).

    store: the folder through which records come back, as fsspec writes it; the sweep's own where it is empty, which all
    machines must then see. cpus, gpus: what each study is given.
    """

    address: str = LOCAL
    store: str = ""
    cpus: float = 1.0
    gpus: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(
        self, cells: Sequence[SweepCell], limits: Limits, should_stop: Callable[[], bool]
    ) -> Iterator[tuple[SweepCell, Event]]:
        """The events of all cells as they come; raises `NotAvailable` where there is no such cluster."""
        if not cells:
            return
        ray = self._connected()
        try:
            yield from _Round(ray, self, limits, should_stop, deque(cells)).events()
        finally:
            ray.shutdown()

    def _connected(self) -> Any:
        try:
            import ray
        except ImportError:
            raise NotAvailable(NEEDS) from None
        if "://" in self.address:
            raise InvalidSetting("Name a cluster by HOST:PORT (6379 as a rule), from one of its own machines.")
        host, _, port = self.address.rpartition(":")
        answers = False
        try:
            if host and port.isdigit():  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
                answers = True
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, **self.options)
        except Exception as error:
            words = REFUSED if answers else "There is no Ray cluster at {address!r}: {error}"
            raise NotAvailable(words.format(address=self.address, error=error)) from None
        for kind, asked in (("CPU", self.cpus), ("GPU", self.gpus)):
            most = max((node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"]), default=0)
            if asked > most:
                ray.shutdown()
                raise DoesNotFit(
                    f"No machine of the cluster has {asked:g} {kind}s (the most is {most:g}): ask for less."
                )
        return ray


@dataclass(frozen=True)
class Errand:
    """What a task is asked for: which study, where its record goes, and what of it."""

    name: str
    target: str
    limits: dict[str, Any]
    keeps_adapters: bool


@dataclass
class _Round:
    """One go at the cells of a sweep: those that wait, and those handed over by what Ray calls them."""

    ray: Any
    place: OnRay
    limits: Limits
    should_stop: Callable[[], bool]
    waiting: deque[SweepCell]
    pending: dict[Any, SweepCell] = field(default_factory=dict)
    board: Any = field(init=False)
    rows: Any = field(init=False)

    def __post_init__(self) -> None:
        self.board = self._board()
        self.rows = self.ray.put(pack_rows(self.waiting[0].sweep))

    def events(self) -> Iterator[tuple[SweepCell, Event]]:
        stopped = False
        yield from self._handed_over()
        while self.pending:
            ended, _ = self.ray.wait(list(self.pending), timeout=POLL_SECONDS)
            by_name = {one.cell.name: one for one in self.pending.values()}
            for name, events in self.ray.get(self.board.take.remote()).items():
                if name in by_name:  # what is told may come after the ending
                    yield from ((by_name[name], event) for event in events)
            for task in ended:
                yield from self._ended(task)
            if self.should_stop() and not stopped:
                stopped = True
                self._stop()
            yield from self._given_up() if stopped else self._handed_over()

    def _stop(self) -> None:
        """Tell those that have begun, and call the others back."""
        words = str(getattr(self.should_stop, "words", ASKED))
        begun = self.ray.get(self.board.stop.remote(words))
        for task, one in self.pending.items():
            if one.cell.name not in begun:
                self.ray.cancel(task)

    def _given_up(self) -> Iterator[tuple[SweepCell, Event]]:
        """After a stop: the ending of those whose machine is gone, or has not come."""
        names = {one.cell.name for one in self.pending.values()}
        silent = self.ray.get(self.board.silent.remote(names, SILENT_SECONDS))
        for task, one in list(self.pending.items()):
            if one.cell.name in silent:
                self.ray.cancel(task, force=True)
                yield self.pending.pop(task), {"event": "stopped", "message": LOST}

    def _board(self) -> Any:
        """The board, on the machine that runs the sweep: if that is lost, all is."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        return self.ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()

    def _handed_over(self) -> Iterator[tuple[SweepCell, Event]]:
        """As many waiting cells as tasks as the cluster is to hold; of those that cannot begin, their ending."""
        most = AHEAD * self._places() if self.waiting else 0
        while self.waiting and len(self.pending) < most:
            one = self.waiting.popleft()
            try:
                one.begin()
                packed, target = pack(one), self._target(one)
            except Exception as error:
                yield one, {"event": "failed", "message": sentence(error)}
                continue
            errand = Errand(one.cell.name, target, self.limits.model_dump(), one.sweep.settings.keep_adapters)
            needs = {"num_cpus": self.place.cpus, "num_gpus": self.place.gpus, "max_retries": TRIES - 1}
            task = self.ray.remote(on_worker).options(**needs, name=errand.name)
            self.pending[task.remote(errand, packed, self.rows, self.board)] = one

    def _places(self) -> int:
        """How many studies the cluster as it is now can run at once, at least one."""
        asked = {kind: share for kind, share in (("CPU", self.place.cpus), ("GPU", self.place.gpus)) if share}
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        fitting = (
            min(int(node.get(kind, 0) / share) for kind, share in (asked or {"CPU": 1}).items()) for node in nodes
        )
        return max(1, sum(fitting))

    def _target(self, one: SweepCell) -> str:
        folder = self.place.store.rstrip("/") or str(one.sweep.folder / ".incoming")
        return f"{folder}/{one.sweep.id}-{one.cell.name}.zip"

    def _ended(self, task: Any) -> Iterator[tuple[SweepCell, Event]]:
        """Bring the record home; the ending of a task that was lost, or never begun, says so."""
        one = self.pending.pop(task)
        try:
            ending = self.ray.get(task)
            if not ending.pop("unbegun", False):
                fetch(self._target(one), one)
        except self.ray.exceptions.TaskCancelledError:
            return
        except self.ray.exceptions.RayTaskError as error:  # what the study itself raised, or the store
            ending = {"event": "failed", "message": sentence(getattr(error, "cause", error))}
        except self.ray.exceptions.RayError as error:
            ending = {"event": "failed", "message": _lost(error)}
        except Exception as error:
            ending = {"event": "failed", "message": sentence(error)}
        yield one, ending


def _lost(error: Exception) -> str:
    words = later("Its machine was lost {times} times: {error}.")
    return words.format(times=TRIES, error=cause(error))


def on_worker(errand: Errand, packed: bytes, rows: bytes, board: Any) -> Event:
    """On whichever machine: run one study, write its record to its target, and give its ending."""
    import ray

    if ray.get(board.asks.remote(errand.name)):
        return {"event": "stopped", "message": later("Stopped before it began."), "unbegun": True}
    with tempfile.TemporaryDirectory(prefix="neftune-cell-") as folder, _asking(board, errand.name) as should_stop:
        root = Path(folder)
        for part in (packed, rows):
            unpack(part, root)
        record = Record(root / "cells" / errand.name)
        ending: Event = {}
        for event in run_study(record, parse(Limits, errand.limits), should_stop):
            if event["event"] in ("started", "step"):
                board.tell.remote(errand.name, event)
            ending = event
        if ending["event"] not in ENDINGS:
            raise RuntimeError("the study ended without an ending")
        send(record.folder, root, errand.target, without=() if errand.keeps_adapters else ("arms",))
    return ending


@dataclass
class _Told:
    """Whether the board said to stop, and why."""

    words: str = ""

    def __call__(self) -> bool:
        return bool(self.words)


@contextlib.contextmanager
def _asking(board: Any, name: str) -> Iterator[_Told]:
    """Whether the board says to stop, asked now and then beside the work, which shows it that the task is alive.

    A board that is gone says so too.
    """
    import ray

    told, over = _Told(), threading.Event()

    def ask() -> None:
        while not over.wait(POLL_SECONDS):
            try:
                told.words = ray.get(board.asks.remote(name))
            except ray.exceptions.RayError:
                told.words = ASKED
                return

    asking = threading.Thread(target=ask, name="ask-board", daemon=True)
    asking.start()
    try:
        yield told
    finally:
        over.set()
        asking.join()
