"""Rows and a study of a few steps that many tests share; the tiny model is created once."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import TrainingSettings
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.home import home
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.study import run_study
from tests.stress.faults.setup import numbers, tiny_model

ANN, BEN = "key-of-ann", "key-of-ben"  # keys of two visitors


@functools.cache
def tiny_source() -> str:
    """Return the folder of a tiny model with fast steps (cached)."""
    return str(tiny_model(home() / "tiny"))


def tiny_settings() -> ModelSettings:
    """Return the settings of the tiny model."""
    return ModelSettings(source=tiny_source())


def short_rows(folder: Path, count: int = 12) -> Path:
    """Write rows to a file in `folder`, and return its path."""
    path = folder / "rows.jsonl"
    lines = [{"instruction": f"Say the number {n}.", "output": f"It is {n}."} for n in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def short_study(rows: Path, training: dict[str, Any] | None = None, **given: Any) -> StudySettings:
    """Return a study that trains on these rows for one epoch; its answers and measured answers have two tokens.

    Args:
        rows: File with the rows.
        training: Training settings that replace the defaults of the short study.
        given: Further settings of the study.
    """
    usual = {"epochs": 1, "evaluations": 1, "evaluation_rows": 4}
    settings = {
        "model": tiny_settings(),
        "data": DataSettings(source=f"file:{rows}"),
        "training": TrainingSettings(**(usual | (training or {}))),
        "answers": AnswerSettings(new_tokens=2),
        "measuring": MeasuringSettings(new_tokens=2),
    }
    return StudySettings(**(settings | given))


def two_arms(rows: Path, *, seeds: int = 1, **training: Any) -> StudySettings:
    """Return a short study of two arms whose answers have at most four tokens.

    Args:
        rows: File with the rows.
        seeds: Number of seeds.
        training: Training settings that replace the defaults of the short study.
    """
    more = {"answers": AnswerSettings(new_tokens=4), "noise": (NoiseSettings(strength=5),)}
    return short_study(rows, training, seeds=seeds, **more)


def broken_off(record: Record, at: tuple[str, int | None]) -> None:
    """Run a study up to an event, then abandon it as if the process had been killed.

    Args:
        record: The record of the study.
        at: Name and step of the event; a step of None matches events without a step.

    Raises:
        AssertionError: If the study ends without this event.
    """
    events: Iterator[dict[str, Any]] = run_study(record, Limits(), lambda: False)
    for event in events:
        if (event["event"], event.get("step")) == at:
            events.close()
            return
    raise AssertionError(f"there was no event {at}")


def numbers_of_seed(record: Record, seed: int) -> list[dict[str, Any]]:
    """Return the steps and evaluations of one seed, without times."""
    return [event for event in numbers(record) if event["seed"] == seed and event["event"] in ("step", "evaluated")]


def until_event(record: Record, event: str, seconds: float = 60) -> None:
    """Wait until a study that runs in another thread has logged an event.

    Args:
        record: The record of the study.
        event: Name of the event.
        seconds: Maximum time to wait.

    Raises:
        AssertionError: If the event is not logged in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(found["event"] == event for found in record.events()):
            return
        time.sleep(0.02)
    raise AssertionError(f"no event {event} within {seconds} s")
