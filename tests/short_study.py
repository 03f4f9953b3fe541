"""Rows and a study of a few steps, which many tests share; its tiny model is made once."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import TrainingSettings
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.home import home
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.study import run_study
from tests.stress.faults.setup import numbers, tiny_model

ANN, BEN = "key-of-ann", "key-of-ben"  # two visitors


@functools.cache
def tiny_source() -> str:
    """Return the folder of a tiny model, so that steps are fast."""
    return str(tiny_model(home() / "tiny"))


def tiny_settings() -> ModelSettings:
    """Return the settings of the tiny model."""
    return ModelSettings(source=tiny_source())


def short_rows(folder: Path, count: int = 12) -> Path:
    """Write rows into `folder`, and return their file."""
    path = folder / "rows.jsonl"
    lines = [{"instruction": f"Say the number {n}.", "output": f"It is {n}."} for n in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def short_study(rows: Path, training: dict[str, Any] | None = None, **given: Any) -> StudySettings:
    """Return a study of one epoch of these rows.

    Args:
        rows: File of the rows.
        training: Training settings that differ from the usual ones.
        given: Further settings of the study.
    """
    usual = {"epochs": 1, "evaluations": 1, "evaluation_rows": 4}
    settings = {
        "model": tiny_settings(),
        "data": DataSettings(source=f"file:{rows}"),
        "training": TrainingSettings(**(usual | (training or {}))),
        "answers": AnswerSettings(new_tokens=2),
    }
    return StudySettings(**(settings | given))


def two_arms(rows: Path, *, seeds: int = 1, **training: Any) -> StudySettings:
    """Return a short study of two arms that answers with four tokens.

    Args:
        rows: File of the rows.
        seeds: Number of seeds.
        training: Training settings that differ from the usual ones.
    """
    more = {"answers": AnswerSettings(new_tokens=4), "noise": (NoiseSettings(strength=5),)}
    return short_study(rows, training, seeds=seeds, **more)


def broken_off(record: Record, at: tuple[str, int | None]) -> None:
    """Run a study until an event of this name and step, and then abandon it as if the process had been killed."""
    events: Iterator[dict[str, Any]] = run_study(record, Limits(), lambda: False)
    for event in events:
        if (event["event"], event.get("step")) == at:
            events.close()
            return
    raise AssertionError(f"there was no event {at}")


def numbers_of_seed(record: Record, seed: int) -> list[dict[str, Any]]:
    """Return the log of one seed from its first measurement on, without times."""
    return [event for event in numbers(record) if event["seed"] == seed and event["event"] in ("step", "evaluated")]


def until_event(record: Record, event: str, seconds: float = 60) -> None:
    """Wait until a study that another thread runs has logged this event."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(found["event"] == event for found in record.events()):
            return
        time.sleep(0.02)
    raise AssertionError(f"no event {event} within {seconds} s")
