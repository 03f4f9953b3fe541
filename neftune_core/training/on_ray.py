"""The studies of a sweep as tasks of Ray, on this machine or a cluster.

What a study needs goes out as a zip file of its record and the sweep's rows; what it made comes back through a folder
that all machines can write, any that fsspec knows (a shared disk, s3://, gs://, ...). A task whose machine is lost is
run again on another one; a study that fails by itself is not.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import socket
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neftune_core.errors import DoesNotFit, InvalidSetting, NotAvailable, RecordError
from neftune_core.language import later
from neftune_core.sentences import sentence
from neftune_core.settings import Limits, parse
from neftune_core.training.record import ENDINGS, Record
from neftune_core.training.study import run_study
from neftune_core.training.sweep import SweepCell

LOCAL = "local"
TRIES = 4
"""How often a task is begun whose machine is lost."""
POLL_SECONDS = 0.3
CONNECT_SECONDS = 10
NOT_BACK = (
    "Its record did not come back: name with --store a folder that every machine of the cluster can write and this one "
    "can read."
)
NEEDS = "Ray is not installed here: pip install 'neftune-lab[ray]', on every machine of the cluster."

Event = dict[str, Any]


class Board:
    """Where tasks tell how far they are, and hear that it is time to stop; an actor next to the sweep."""

    def __init__(self) -> None:
        self.told: dict[str, list[Event]] = {}
        self.begun: set[str] = set()
        self.stops = False

    def begin(self, name: str) -> bool:
        """A task begins; gives whether it should not."""
        self.begun.add(name)
        return self.stops

    def tell(self, name: str, event: Event) -> bool:
        """Take what a study tells; of its steps the last one counts. Gives whether to stop."""
        events = self.told.setdefault(name, [])
        if events and event["event"] == events[-1]["event"] == "step":
            events.pop()
        events.append(event)
        return self.stops

    def take(self) -> dict[str, list[Event]]:
        """All that was told since the last time."""
        taken, self.told = self.told, {}
        return taken

    def stop(self) -> set[str]:
        """Let all tasks stop; gives those that have begun."""
        self.stops = True
        return self.begun

    def is_stopped(self) -> bool:
        """Whether all tasks are to stop."""
        return self.stops


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
            yield from _Round(ray, self, limits, should_stop).events(cells)
        finally:
            ray.shutdown()

    def _connected(self) -> Any:
        try:
            import ray
        except ImportError:
            raise NotAvailable(NEEDS) from None
        if "://" in self.address:
            raise InvalidSetting("Name a cluster by HOST:PORT (6379 as a rule), from one of its own machines.")
        address = None if self.address == LOCAL else self.address
        host, _, port = self.address.rpartition(":")
        try:
            if host and port.isdigit():  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **self.options)
        except Exception as error:
            raise NotAvailable(f"There is no Ray cluster at {self.address!r}: {error}") from None
        for kind, asked in (("CPU", self.cpus), ("GPU", self.gpus)):
            most = max((node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"]), default=0)
            if asked > most:
                ray.shutdown()
                raise DoesNotFit(
                    f"No machine of the cluster has {asked:g} {kind}s (the most is {most:g}): ask for less."
                )
        return ray


@dataclass
class _Round:
    """One go at the cells: what is under way, by what Ray calls it."""

    ray: Any
    place: OnRay
    limits: Limits
    should_stop: Callable[[], bool]
    pending: dict[Any, SweepCell] = field(default_factory=dict)

    def events(self, cells: Sequence[SweepCell]) -> Iterator[tuple[SweepCell, Event]]:
        board = self._board()
        yield from self._submitted(cells, board)
        by_name = {one.cell.name: one for one in cells}
        stopped = False
        while self.pending:
            ended, _ = self.ray.wait(list(self.pending), timeout=POLL_SECONDS)
            under_way = {one.cell.name for one in self.pending.values()}
            for name, events in self.ray.get(board.take.remote()).items():
                if name in under_way:  # what is told may come after the ending
                    yield from ((by_name[name], event) for event in events)
            for task in ended:
                yield from self._ended(task)
            if self.should_stop() and not stopped:
                stopped = True
                begun = self.ray.get(board.stop.remote())
                for task, one in list(self.pending.items()):
                    if one.cell.name not in begun:
                        self.ray.cancel(task)

    def _board(self) -> Any:
        """The board, on the machine that runs the sweep: if that is lost, all is."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        return self.ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()

    def _submitted(self, cells: Sequence[SweepCell], board: Any) -> Iterator[tuple[SweepCell, Event]]:
        """Every cell as a task; of those that cannot begin, their ending."""
        task = self.ray.remote(on_worker)
        for one in cells:
            try:
                one.begin()
                packed, target = pack(one), self._target(one)
            except Exception as error:
                yield one, {"event": "failed", "message": sentence(error)}
                continue
            needs = {"num_cpus": self.place.cpus, "num_gpus": self.place.gpus, "max_retries": TRIES - 1}
            keeps = one.sweep.settings.keep_adapters
            given = (one.cell.name, packed, target, self.limits.model_dump(), keeps, board)
            self.pending[task.options(**needs, name=one.cell.name).remote(*given)] = one

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
    return words.format(times=TRIES, error=type(error).__name__)


def on_worker(name: str, packed: bytes, target: str, limits: dict[str, Any], keeps_adapters: bool, board: Any) -> Event:
    """On whichever machine: run one study, write its record to `target`, and give its ending."""
    import fsspec
    import ray

    if ray.get(board.begin.remote(name)):
        return {"event": "stopped", "message": later("Stopped before it began."), "unbegun": True}
    with tempfile.TemporaryDirectory(prefix="neftune-cell-") as folder:
        unpack(packed, Path(folder))
        record = Record(Path(folder) / "cells" / name)
        ending: Event = {}
        with _asking(board) as should_stop:
            for event in run_study(record, parse(Limits, limits), should_stop):
                if event["event"] in ("started", "step"):
                    board.tell.remote(name, event)
                ending = event
        if ending["event"] not in ENDINGS:
            raise RuntimeError("the study ended without an ending")
        with fsspec.open(target, "wb", auto_mkdir=True) as file:
            file.write(zipped(record.folder, Path(folder), without=() if keeps_adapters else ("arms",)))
    return ending


@contextlib.contextmanager
def _asking(board: Any) -> Iterator[Callable[[], bool]]:
    """Whether the board says to stop, asked now and then beside the work; a board that is gone says so too."""
    import ray

    stops, over = threading.Event(), threading.Event()

    def ask() -> None:
        while not over.wait(POLL_SECONDS):
            try:
                said = bool(ray.get(board.is_stopped.remote()))
            except ray.exceptions.RayError:
                said = True
            if said:
                stops.set()
                return

    asking = threading.Thread(target=ask, name="ask-board", daemon=True)
    asking.start()
    try:
        yield stops.is_set
    finally:
        over.set()
        asking.join()


def pack(one: SweepCell) -> bytes:
    """What a cell needs elsewhere: its record as it stands, and the sweep's own rows."""
    return zipped(one.record.folder, one.sweep.folder, also=one.sweep.folder / "data")


def zipped(folder: Path, root: Path, *, also: Path | None = None, without: Sequence[str] = ()) -> bytes:
    """The files of `folder` (and of `also`) by their names under `root`; folders called as in `without` stay."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for place in filter(None, (folder, also)):
            for path in sorted(place.rglob("*")):
                if path.is_file() and path.relative_to(place).parts[0] not in without:
                    archive.write(path, path.relative_to(root).as_posix())
    return held.getvalue()


def unpack(packed: bytes, folder: Path, only: str = "") -> None:
    """Write what `zipped` gave under `folder`, those files alone whose names begin with `only`; none leaves it."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(only)])


def fetch(target: str, one: SweepCell) -> None:
    """Put the record of a cell, as the worker wrote it, in place of the one here, and remove it there.

    Raises `RecordError` where it has not come.
    """
    import fsspec

    files, path = fsspec.url_to_fs(target)
    if not files.exists(path):
        raise RecordError(NOT_BACK)
    home = one.record.folder
    with tempfile.TemporaryDirectory(prefix=".came-", dir=home.parent) as aside:
        unpack(files.cat_file(path), Path(aside), only=f"cells/{one.cell.name}/")
        shutil.rmtree(home, ignore_errors=True)  # what the run has dropped shall not stay here
        (Path(aside) / "cells" / one.cell.name).rename(home)
    files.rm_file(path)
