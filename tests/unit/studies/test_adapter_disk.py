"""The disk that adapters, their best states and their checkpoints take is planned before the first step."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from short_study import short_rows, short_study, tiny_source

from neftune_core.engine.saving import ADAPTER
from neftune_core.errors import DoesNotFit
from neftune_core.home import folder_bytes
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.planning import disk_bytes, require_disk
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.study import run_study

HEADER = 20_000
"""Most bytes of names and shapes in a saved adapter of the tiny model."""


def of_adapters(folder: Path, **training: object) -> StudySettings:
    usual = {"steps": 4, "evaluations": 4}
    return short_study(short_rows(folder, 20), usual | training, noise=(NoiseSettings(strength=5),))


def run(record: Record, limits: Limits) -> str:
    *_, ending = run_study(record, limits, lambda: False)
    return f"{ending['event']} {ending.get('message', '')}"


def test_adapters_best_states_and_states_to_go_on_from_are_counted(tmp_path: Path) -> None:
    study, loaded = of_adapters(tmp_path), load(ModelSettings(source=tiny_source()))
    record = create(study, "", folder=tmp_path / "runs")
    assert run(record, Limits()).startswith("finished")
    largest = max(path.stat().st_size for path in record.folder.rglob(ADAPTER))
    plain, best, both = (
        disk_bytes(of_adapters(tmp_path, keep_state=state, keep_best=kept), loaded)
        for state, kept in (("never", False), ("never", True), ("adapters", True))
    )
    an_adapter = (best - plain) // (2 * len(study.arms))  # those of the best evaluation, and one more while it trains
    assert an_adapter < largest < an_adapter + HEADER
    assert both - best == 3 * an_adapter * len(study.arms)
    assert folder_bytes(record.folder) < disk_bytes(study, loaded) + 500_000  # with settings, log and answers


def test_a_mounted_bucket_that_reports_no_size_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, loaded = of_adapters(tmp_path), load(ModelSettings(source=tiny_source()))
    usage, empty = shutil.disk_usage(tmp_path), tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(total=0, free=0))
    require_disk(study, loaded, empty, Limits())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=0))
    with pytest.raises(DoesNotFit, match="is available: train with fewer arms"):
        require_disk(study, loaded, empty, Limits())


def test_a_study_of_adapters_that_the_disk_cannot_hold_is_refused_before_its_first_step(tmp_path: Path) -> None:
    study = of_adapters(tmp_path, lora_rank=64)
    needed = disk_bytes(study, load(ModelSettings(source=tiny_source())))
    record = create(study, "", folder=tmp_path / "runs")
    said = run(record, Limits(disk_gigabytes=0.9 * needed / 1e9))
    assert "of checkpoints and adapters" in said and "train with fewer arms or seeds" in said
    assert not any(event["event"] == "step" for event in record.events())
    assert run(create(study, "", folder=tmp_path / "other"), Limits(disk_gigabytes=2 * needed / 1e9)).startswith(
        "finished"
    )
