"""Run a sweep cell by cell; each cell is a study with its own record in the sweep's folder.

A failed cell does not affect the others. Finished cells are never run again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

from neftune_core.data.preparing import prepare
from neftune_core.data.settings import DataSettings
from neftune_core.durable import write_whole
from neftune_core.engine.lockstep import Event, Stop
from neftune_core.engine.settings import count_steps
from neftune_core.errors import Cancelled, LabError
from neftune_core.language import plural
from neftune_core.models.loading import load
from neftune_core.sentences import sentence
from neftune_core.settings import Limits, to_toml
from neftune_core.studies.checkpoint import STATES
from neftune_core.studies.records.log import as_jsonl
from neftune_core.studies.records.record import ENDINGS, LOG, Record, write_about
from neftune_core.studies.records.user_rows import FILE, row_files, with_sources
from neftune_core.studies.study import Deadline, run_study
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.settings import Cell, SweepSettings, cells

Cells = Sequence["SweepCell"]
RunCells = Callable[[Cells, Limits, Stop], Iterator[tuple["SweepCell", Event]]]
"""Function that runs or resumes cells, and yields their events in any order; the last event of a cell ends it."""

SHARED = ("model", "data", "samples", "sample_sizes", "machine")
"""Descriptions in the first event of a cell that the sweep stores as its own."""


@dataclass(frozen=True)
class SweepCell:
    """One cell of a sweep, with its record.

    Attributes:
        sweep: The record of the sweep.
        cell: Name and settings of the cell.
    """

    sweep: Sweep
    cell: Cell

    @property
    def record(self) -> Record:
        """Record of the cell, which may not exist yet."""
        return self.sweep.record_of(self.cell)

    def begin(self) -> Record:
        """Return the cell's record; create it if missing, with the sweep's owner and relative paths of its rows."""
        record, study = self.record, self.cell.study
        if not record.settings_file.is_file():
            record.folder.mkdir(parents=True, exist_ok=True)
            write_about(record, str(self.sweep.about.get("owner", "")), self.sweep.day)
            relative = {name: os.path.relpath(path, record.folder) for name, path in row_files(study).items()}
            sources = {name: FILE + path.replace(os.sep, "/") for name, path in relative.items()}
            write_whole(record.settings_file, to_toml(with_sources(study, sources), comments=True))
        return record


def run_in_turn(cells: Cells, limits: Limits, should_stop: Stop) -> Iterator[tuple[SweepCell, Event]]:
    """Run cells one after another in this process.

    Args:
        cells: Cells of one sweep, in running order.
        limits: Limits of this server.
        should_stop: Polled during each pass; return true to stop.

    Yields:
        Cells with their events.
    """
    for one in cells:
        if should_stop():
            return
        try:
            for event in run_study(one.begin(), limits, should_stop):
                yield one, event
        except Exception as error:  # an unusable record must not affect the other cells
            yield one, {"event": "failed", "message": sentence(error)}


def run_sweep(sweep: Sweep, limits: Limits, should_stop: Stop, run: RunCells = run_in_turn) -> Iterator[Event]:
    """Run the unfinished cells of a sweep.

    The last event is `finished`, `stopped` (on request, or at the time limit) or `failed` (with the first message of a
    failed cell).

    Args:
        sweep: Record of the sweep.
        limits: Limits of this server.
        should_stop: Polled during each pass; return true to stop.
        run: Function that runs the cells.

    Yields:
        Events, with steps counted over all cells.

    Raises:
        RecordError: If the record is unusable, or another process is writing to it.
    """
    sweep.require_usable()
    with sweep.claimed():
        events = (event for event in sweep.events() if event["event"] not in ENDINGS)
        kept = [event for event in events if event["event"] != "cell" or event.get("state") == "finished"]
        write_whole(sweep.folder / LOG, as_jsonl(kept))
        try:
            yield from _Run(sweep, limits, should_stop, run).events()
        except Exception as error:
            ending = {"seed": sweep.study.seed, "event": "failed", "message": sentence(error)}
            sweep.append(ending)
            yield ending


def run_record(record: Record, limits: Limits, should_stop: Stop) -> Iterator[Event]:
    """Run a study or a sweep.

    Args:
        record: Record of the study or sweep.
        limits: Limits of this server.
        should_stop: Polled during each pass; return true to stop.

    Returns:
        Iterator of events.

    Raises:
        RecordError: While iterating, if the record is unusable, or another process is writing to it.
    """
    if record.is_sweep:
        return run_sweep(Sweep(record.folder), limits, should_stop)
    return run_study(record, limits, should_stop)


@dataclass
class _Run:
    """One run of a sweep.

    Attributes:
        run: Function that runs the cells.
        done: Number of steps of all completed cells.
        under_way: Number of completed steps of each running cell, by name.
        deadline: Becomes true on request or at the time limit.
        steps: Planned number of steps of each cell, by name; 0 if its rows cannot be used.
    """

    sweep: Sweep
    limits: Limits
    should_stop: Stop
    run: RunCells
    done: int = 0
    under_way: dict[str, int] = field(default_factory=dict)
    deadline: Deadline = field(init=False)
    settings: SweepSettings = field(init=False)
    steps: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = Deadline(self.limits, self.should_stop)
        self.settings = self.sweep.settings

    def events(self) -> Iterator[Event]:
        every = cells(self.settings)
        self.settings.check(self.limits)
        with suppress(Cancelled):
            self.steps = _planned_steps(every, self.limits, self.deadline)
            yield self._logged({"event": "started", "studies": len(every), "steps": self.total})
            missing = []
            for one in (SweepCell(self.sweep, cell) for cell in every):
                ending: Event = one.record.ending() or {}
                if ending.get("event") == "finished":
                    yield from self._cell_ended(one, ending)
                else:
                    missing.append(one)
            for one, event in self.run(missing, self.limits, self.deadline):
                yield from self._sweep_events(one, event)
        yield self._logged(self._ending(every))

    @property
    def total(self) -> int:
        return sum(self.steps.values())

    def _sweep_events(self, one: SweepCell, event: Event) -> Iterator[Event]:
        """Convert an event of a cell to events of the sweep."""
        if event["event"] == "step":
            yield self._step(one, event)
        elif event["event"] == "started":
            if "model" not in self.sweep.about:  # the sweep stores those of its first cell
                about = {part: event[part] for part in SHARED if part in event}
                self.sweep.update_about(**about)
        elif event["event"] in ENDINGS:
            if not self.settings.keep_adapters and event["event"] == "finished":
                for part in ("arms", STATES):
                    shutil.rmtree(one.record.folder / part, ignore_errors=True)
            yield from self._cell_ended(one, event)

    def _cell_ended(self, one: SweepCell, ending: Event) -> Iterator[Event]:
        """Log and yield the `cell` event of a cell that has ended, unless it is already in the log."""
        name, state = one.cell.name, ending["event"]
        self.under_way.pop(name, None)
        self.done += self.steps[name] if state in ("finished", "failed") else 0
        if self.sweep.cell_endings().get(name, {}).get("state") == state:
            return
        message = {"message": ending["message"]} if ending.get("message") else {}
        steps = {"step": self.done, "steps": self.total}
        yield self._logged({"event": "cell", "cell": name, "state": state, **steps, **message})

    def _step(self, one: SweepCell, event: Event) -> Event:
        """Convert a cell's step to a step of the sweep, which is not logged."""
        self.under_way[one.cell.name] = event["step"]
        step = self.done + sum(self.under_way.values())
        shown: Event = {"event": "step", "seed": self.settings.study.seed, "step": step, "steps": self.total}
        return shown | {name: event[name] for name in ("tokens", "arms") if name in event}

    def _logged(self, event: Event) -> Event:
        event = {"seed": self.settings.study.seed, **event}
        self.sweep.append(event)
        return event

    def _ending(self, every: Sequence[Cell]) -> Event:
        endings, count = self.sweep.cell_endings(), len(every)
        found = [endings.get(cell.name, {}) for cell in every]
        over = sum(state.get("state") in ("finished", "failed") for state in found)
        failed = [state.get("message", "") for state in found if state.get("state") == "failed"]
        notes = [state["message"] for state in found if state.get("message")]
        if over < count:
            return {"event": "stopped", "message": self._reason_to_stop(over, count)}
        if failed:
            words = plural(
                count,
                "The only study failed: {message} Resume the sweep to retry it.",
                "{failed} of {every} studies failed, the first with: {message} The results of the other studies are "
                "in the table; resume the sweep to retry the failed ones.",
            )
            return {"event": "failed", "message": words.format(failed=len(failed), every=count, message=failed[0])}
        if notes:
            words = plural(count, "In the only study: {message}", "In {some} of {every} studies: {message}")
            return {"event": "finished", "message": words.format(some=len(notes), every=count, message=notes[0])}
        return {"event": "finished"}

    def _reason_to_stop(self, over: int, every: int) -> str:
        if self.should_stop():
            words = plural(
                every,
                "Stopped on request, with {over} of {every} study done.",
                "Stopped on request, with {over} of {every} studies done.",
            )
            return words.format(over=over, every=every)
        words = plural(
            every,
            "Stopped after {minutes:,} minutes, the longest that this server allows, with {over} of {every} study "
            "done.",
            "Stopped after {minutes:,} minutes, the longest that this server allows, with {over} of {every} studies "
            "done.",
        )
        return words.format(minutes=self.limits.study_minutes, over=over, every=every)


def _planned_steps(every: Sequence[Cell], limits: Limits, deadline: Deadline) -> dict[str, int]:
    """Return the number of steps of each cell; 0 if its rows cannot be used, for a reason that its run will report."""
    loaded = load(every[0].study.model, cancelled=deadline)

    @cache
    def training_rows(data: DataSettings) -> int:
        try:
            return len(prepare(data.within(loaded.context), loaded.tokenizer, limits, progress=deadline.check).train)
        except LabError:
            return 0

    counts = [(cell, training_rows(cell.study.data)) for cell in every]
    return {cell.name: count_steps(count, cell.study.training) if count else 0 for cell, count in counts}
