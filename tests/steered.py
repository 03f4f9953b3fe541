"""A study of three arms and twelve steps, and runs in which an arm is stopped; shared by several tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from short_study import short_rows, short_study

from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering.requests import stop_arm
from neftune_core.studies.study import run_study


def finished_run(study: StudySettings, owner: str = "") -> Record:
    record = create(study, owner)
    *_, ending = run_study(record, Limits(), lambda: False)
    assert ending["event"] == "finished", ending
    return record


STOPPED = "laplace-std-1"


def of_three_arms(folder: Path, **given: Any) -> StudySettings:
    noise = (NoiseSettings(strength=5), NoiseSettings(strength=1, unit="std", kind="laplace"))
    training = {"epochs": 3, "evaluations": 4, "checkpoint_steps": 4, "learning_rate": 5e-3}
    return short_study(short_rows(folder, 20), training, noise=noise, **given)


def with_a_stop(record: Record, step: int) -> Iterator[dict[str, Any]]:
    """Run a study, stop an arm after a step, and yield the events."""
    for event in run_study(record, Limits(), lambda: False):
        if event["event"] == "step" and event["step"] == step and event["seed"] == 0:
            stop_arm(record, STOPPED)
        yield event


def numbers(record: Record) -> list[tuple[Any, ...]]:
    """Return the steps and evaluations of a record, ordered by seed and step."""
    kept = [one for one in record.events() if one["event"] in ("step", "evaluated")]
    kept.sort(key=lambda one: (one["seed"], one["step"], one["event"] == "evaluated"))
    return [(one["seed"], one["event"], one["step"], one.get("learning_rate"), one["arms"]) for one in kept]
