"""How long a sweep would take here: by the speed of an earlier study of the model, or else by the machine's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from neftune_core.data.preparing import Prepared, prepare
from neftune_core.data.settings import DataSettings
from neftune_core.language import say
from neftune_core.models.catalogue import duration
from neftune_core.models.device import describe_machine
from neftune_core.models.loading import LoadedModel, load
from neftune_core.settings import Limits, parse
from neftune_core.training.lockstep import check_length, count_steps
from neftune_core.training.planning import memory_and_time
from neftune_core.training.record import Record
from neftune_core.training.settings import StudySettings
from neftune_core.training.sweep_settings import Cell, SweepSettings, cells

RECORDS_READ = 20
"""How many of the newest records are looked at; older ones were made by another state of the machine."""


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds of all cells together, and a sentence that says where the number comes from."""

    seconds: float
    sentence: str


@dataclass(frozen=True)
class Speed:
    """Tokens of all arms together that a finished study took a second, its measuring and its answers included."""

    tokens_per_second: float
    record_id: str


def speed_of(record: Record) -> Speed | None:
    """How fast a finished study was, unless it was broken off in between; None where its log does not tell."""
    events = record.events()
    first = next((event for event in events if event["event"] == "started"), None)
    if first is None or not events or events[-1]["event"] != "finished":
        return None
    tokens = sum(event.get("tokens", 0) * len(event["arms"]) for event in events if event["event"] == "step")
    try:
        seconds = float(events[-1]["time"]) - float(first["time"])
    except (KeyError, TypeError, ValueError):
        return None
    return Speed(tokens / seconds, record.id) if tokens and seconds > 0 else None


def earlier_speed(study: StudySettings, records: Iterable[Record]) -> Speed | None:
    """The speed of the newest finished study of the same model on a machine like this one."""
    here = describe_machine()
    for place, record in enumerate(records):
        if place >= RECORDS_READ:
            break
        machine, model = record.said_of("machine"), record.said_of("model")
        same = model.get("source") == study.model.source and all(
            machine.get(part) == here.get(part) for part in ("processor", "cores", "gpus", "device")
        )
        for one in _studies(record) if same else ():
            found = speed_of(one)
            if found is not None:
                return Speed(found.tokens_per_second, record.id)
    return None


def _studies(record: Record) -> list[Record]:
    """The record itself, or the cells of a sweep."""
    if not record.is_sweep:
        return [record]
    return [Record(path) for path in sorted((record.folder / "cells").glob("*"))]


def sweep_time(
    cells: Sequence[Cell], prepared: Sequence[Prepared], loaded: LoadedModel, earlier: Speed | None
) -> TimeEstimate:
    """How long `cells` take on rows `prepared` for each of them."""
    pairs = list(zip(cells, prepared, strict=True))
    if earlier is None:
        seconds = sum(memory_and_time(cell.study, loaded, rows).seconds for cell, rows in pairs)
        return TimeEstimate(
            seconds,
            say(
                "About {duration} of training by this machine's arithmetic, which may be off by a factor of three; "
                "measuring and answers come on top.",
                duration=duration(seconds),
            ),
        )
    seconds = sum(_tokens(cell.study, rows) for cell, rows in pairs) / earlier.tokens_per_second
    words = say(
        "About {duration}, if it goes as fast as the study of {day} did here.",
        duration=duration(seconds),
        day=_day(earlier.record_id),
    )
    return TimeEstimate(seconds, words)


def plan(settings: SweepSettings, limits: Limits, records: Iterable[Record]) -> TimeEstimate:
    """How long the whole sweep takes here; `records` are looked at for an earlier study of the model.

    Raises what `load` and `prepare` raise, and `DoesNotFit` where a study is longer than this server allows.
    """
    loaded = load(settings.study.model)

    @cache
    def prepared(data: str) -> Prepared:
        found = parse(DataSettings, json.loads(data))
        return prepare(found.within(loaded.context), loaded.tokenizer, limits)

    every = cells(settings)
    rows = [prepared(cell.study.data.model_dump_json()) for cell in every]
    for cell, found in zip(every, rows, strict=True):
        check_length(len(found.train), cell.study.training, limits)
    return sweep_time(every, rows, loaded, earlier_speed(settings.study, records))


def _tokens(study: StudySettings, prepared: Prepared) -> float:
    """Tokens of all arms and steps together."""
    mean = sum(row.length for row in prepared.train) / max(1, len(prepared.train))
    return count_steps(len(prepared.train), study.training) * study.training.batch_size * mean * len(study.arms)


def _day(record_id: str) -> str:
    return f"{record_id[:4]}-{record_id[4:6]}-{record_id[6:8]}" if record_id[:8].isdigit() else record_id
