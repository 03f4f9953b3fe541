"""A sweep from its settings to its end: cell after cell, each a study with a record of its own below the sweep's.

A cell that fails leaves the others; what is finished is never run again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neftune_core.data.preparing import prepare
from neftune_core.errors import LabError, sentence
from neftune_core.models.loading import load
from neftune_core.settings import Limits, to_toml
from neftune_core.training.lockstep import Event, Stop, count_steps
from neftune_core.training.log import as_text
from neftune_core.training.own_rows import FILE, FILE_PARTS
from neftune_core.training.record import ENDINGS, STUDY_FILE, Record, owner_hash, write_about, write_whole
from neftune_core.training.settings import StudySettings
from neftune_core.training.study import run_study
from neftune_core.training.sweep_record import Sweep
from neftune_core.training.sweep_settings import Cell, SweepSettings, cells

RunCell = Callable[[StudySettings, Path, Limits, Stop], Iterator[Event]]
"""What runs one cell in its folder, from where it stands; the last event is its ending."""


def run_cell(study: StudySettings, folder: Path, limits: Limits, should_stop: Stop) -> Iterator[Event]:
    """Run the study of one cell in `folder`, from where it stands there; it needs nothing else of the sweep.

    Whoever runs it elsewhere brings `folder` back: it is a record like any other, owned by nobody unless it says so.
    """
    record = Record(folder)
    if not record.settings_file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        if "owner" not in record.about:
            write_about(record, owner_hash(""))
        write_whole(record.settings_file, to_toml(study, comments=True))
    if (record.ending() or {}).get("event") == "finished":
        return
    yield from run_study(record, limits, should_stop)


def run_sweep(sweep: Sweep, limits: Limits, should_stop: Stop, run: RunCell = run_cell) -> Iterator[Event]:
    """Run what is not finished of `sweep`; the steps that are yielded count those of all cells.

    The last event is `finished`, `stopped` (as asked, or at the time limit) or `failed` (with the first sentence of a
    cell that did). Raises `RecordError` where the sweep itself cannot be used, or is written by another process.
    """
    sweep.require_usable()
    with sweep.claimed():
        kept = [event for event in sweep.events() if event["event"] not in ENDINGS]
        write_whole(sweep.folder / "events.jsonl", as_text(kept))
        try:
            yield from _Run(sweep, limits, should_stop, run).events()
        except Exception as error:
            ending = {"seed": sweep.study.seed, "event": "failed", "message": sentence(error)}
            sweep.append(ending)
            yield ending


def run_record(record: Record, limits: Limits, should_stop: Stop) -> Iterator[Event]:
    """Run a study or a sweep, whichever `record` is."""
    if record.is_sweep:
        return run_sweep(Sweep(record.folder), limits, should_stop)
    return run_study(record, limits, should_stop)


@dataclass
class _Run:
    """One go through the cells of a sweep. `done` counts the steps of the cells that are over."""

    sweep: Sweep
    limits: Limits
    should_stop: Stop
    run: RunCell
    done: int = 0
    end: float = field(init=False)
    settings: SweepSettings = field(init=False)
    steps: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.end = time.monotonic() + 60 * self.limits.study_minutes
        self.settings = self.sweep.settings

    def events(self) -> Iterator[Event]:
        every = cells(self.settings)
        self.settings.check(self.limits)
        self.steps = planned_steps(every, self.limits, self.is_time)
        yield self._written({"event": "started", "studies": len(every), "steps": self.total})
        for cell in every:
            if self.is_time():
                break
            yield from self._cell(cell)
        yield self._written(self._ending(every))

    @property
    def total(self) -> int:
        return sum(self.steps.values())

    def is_time(self) -> bool:
        """Whether to end, as asked or at the time limit."""
        return self.should_stop() or time.monotonic() > self.end

    def _cell(self, cell: Cell) -> Iterator[Event]:
        record = self.sweep.record_of(cell)
        ending: Event = record.ending() or {}
        if ending.get("event") != "finished":
            try:
                _begin(self.sweep, record, cell)
                for event in self.run(cell.study, record.folder, self.limits, self.is_time):
                    if event["event"] == "step":
                        yield self._step(event)
                    elif event["event"] == "started":
                        self._introduce(event)
                    ending = event
            except Exception as error:  # its record cannot be used: the other cells can
                ending = {"event": "failed", "message": sentence(error)}
            if not self.settings.keep_adapters and ending["event"] == "finished":
                shutil.rmtree(record.folder / "arms", ignore_errors=True)
        self.done += self.steps[cell.name] if ending["event"] in ("finished", "failed") else 0
        if self.sweep.states().get(cell.name, {}).get("state") != ending["event"]:
            yield self._written(self._over(cell, ending))

    def _over(self, cell: Cell, ending: Event) -> Event:
        told = {"message": ending["message"]} if ending.get("message") else {}
        counted = {"step": self.done, "steps": self.total}
        return {"event": "cell", "cell": cell.name, "state": ending["event"], **counted, **told}

    def _step(self, event: Event) -> Event:
        """A step of a cell as one of the sweep: shown, and kept in the log of the cell alone."""
        step = self.done + event["step"]
        shown: Event = {"event": "step", "seed": self.settings.study.seed, "step": step, "steps": self.total}
        return shown | {name: event[name] for name in ("tokens", "arms") if name in event}

    def _introduce(self, event: Event) -> None:
        """Model, data and machine of the first cell are those of the sweep."""
        if "model" not in self.sweep.about:
            about = {part: event[part] for part in ("model", "data", "samples", "machine") if part in event}
            self.sweep.update_about(**about)

    def _written(self, event: Event) -> Event:
        event = {"seed": self.settings.study.seed, **event}
        self.sweep.append(event)
        return event

    def _ending(self, every: Sequence[Cell]) -> Event:
        states = self.sweep.states()
        found = [states.get(cell.name, {}) for cell in every]
        over = sum(state.get("state") in ("finished", "failed") for state in found)
        failed = [state for state in found if state.get("state") == "failed"]
        if over < len(every):
            return {"event": "stopped", "message": self._why(over, len(every))}
        if not failed:
            return {"event": "finished"}
        return {
            "event": "failed",
            "message": f"{len(failed)} of {len(every)} studies failed, the first with: {failed[0].get('message', '')} "
            "The others are in the table; resume tries these again.",
        }

    def _why(self, over: int, every: int) -> str:
        if self.should_stop():
            return f"Stopped as asked, with {over} of {every} studies done."
        return (
            f"Stopped after {self.limits.study_minutes:,} minutes, the longest that this server allows, with {over} of "
            f"{every} studies done."
        )


def _begin(sweep: Sweep, record: Record, cell: Cell) -> None:
    """The cell's own record, of the same owner; the sweep's rows are not copied but named from there."""
    if record.settings_file.is_file():
        return
    record.folder.mkdir(parents=True, exist_ok=True)
    write_about(record, str(sweep.about.get("owner", "")))
    files = {part: getattr(cell.study.data, part) for part in FILE_PARTS}
    near = {
        part: FILE + os.path.relpath(source.removeprefix(FILE), record.folder).replace(os.sep, "/")
        for part, source in files.items()
        if source.startswith(FILE)
    }
    study = cell.study.model_copy(update={"data": cell.study.data.model_copy(update=near)})
    write_whole(record.folder / STUDY_FILE, to_toml(study, comments=True))


def planned_steps(every: Sequence[Cell], limits: Limits, should_stop: Stop = lambda: False) -> dict[str, int]:
    """The steps of each cell by its name; 0 where its rows cannot be used, which its own run will tell.

    The rows are read once for all cells that share them. Raises what `load` raises.
    """
    rows: dict[str, int] = {}
    planned = {}
    for cell in every:
        key = cell.study.data.model_dump_json()
        if key not in rows:
            rows[key] = _training_rows(cell.study, limits, should_stop)
        planned[cell.name] = count_steps(rows[key], cell.study.training) if rows[key] else 0
    return planned


def _training_rows(study: StudySettings, limits: Limits, should_stop: Stop) -> int:
    loaded = load(study.model, cancelled=should_stop)
    try:
        return len(prepare(study.data.within(loaded.context), loaded.tokenizer, limits).train)
    except LabError:
        return 0
