"""Adding seeds to a finished study: existing numbers are bit-identical, and the verdict covers all seeds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from short_study import short_rows, short_study

from neftune_core.commands.sweep import SweepCommand, record_to_run
from neftune_core.commands.train import record_to_resume
from neftune_core.errors import DoesNotFit, RecordError
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.evaluation.verdict_words import Line
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, to_toml
from neftune_core.studies.judging import outcomes_of, verdict_of
from neftune_core.studies.records.log import append
from neftune_core.studies.records.progress import Status
from neftune_core.studies.records.record import LOG, Record, create
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.study import run_study
from neftune_core.sweeps import more_seeds
from neftune_core.sweeps.more_seeds import extend, find_same, find_smaller, next_seeds, seconds_for
from neftune_core.sweeps.queue import LabJobs
from neftune_core.sweeps.record import Sweep, create_sweep
from neftune_core.sweeps.settings import SweepSettings
from neftune_core.sweeps.sweep import run_sweep
from neftune_core.sweeps.table import sweep_table
from neftune_core.ui.parts import run_actions

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def study(tmp_path: Path) -> StudySettings:
    return short_study(short_rows(tmp_path), noise=(NoiseSettings(strength=5),))


def _of(study: StudySettings, seeds: int) -> StudySettings:
    return study.model_copy(update={"seeds": seeds})


def _run(record: Record) -> Record:
    assert list(run_study(record, Limits(), lambda: False))[-1]["event"] == "finished"
    return record


def _numbers(record: Record) -> list[Any]:
    """Return the measurements in the order of seeds, without times."""
    counted = [event for event in record.events() if event["event"] in ("step", "evaluated", "measured")]
    return sorted(({**event, "time": 0} for event in counted), key=lambda event: event["seed"])


def _arms(record: Record) -> dict[str, bytes]:
    files = sorted((record.folder / "arms").rglob("*.safetensors"))
    return {str(file.relative_to(record.folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("another_seed", [False, True])
def test_more_seeds_are_those_of_a_study_that_had_them_from_the_start(study: StudySettings, another_seed: bool) -> None:
    study = study.model_copy(update={"measuring": MeasuringSettings(another_seed=another_seed)})
    expected, record = _run(create(_of(study, 3), "")), _run(create(_of(study, 1), ""))
    first, kept = [one for one in _numbers(record) if one["seed"] == 0], _arms(record)
    extend(record, 3)
    assert record.study.seeds == 3
    assert record.ending() is None
    _run(record)
    assert [one for one in _numbers(record) if one["seed"] == 0] == first
    assert _numbers(record) == _numbers(expected)
    assert all(_arms(record)[name] == data for name, data in kept.items() if "seed-0" in name)
    assert _arms(record) == _arms(expected)
    assert list(outcomes_of(record).control) == [0, 1, 2]
    assert verdict_of(record).text() == verdict_of(expected).text()


def test_resume_with_more_seeds_takes_the_record_that_has_most_of_them(study: StudySettings) -> None:
    other = study.model_copy(update={"training": study.training.model_copy(update={"learning_rate": 1e-4})})
    create(other, "")
    create(study, "somebody")
    create(study, "")
    record = create(_of(study, 2), "")
    assert find_smaller(_of(study, 2), "") != record  # that is the very study, and no smaller one
    assert find_smaller(_of(study, 3), "") == record
    assert record_to_resume(_of(study, 3)) == record
    assert record.study.seeds == 3
    assert find_same(_of(study, 3), "") == record
    for fewer in (2, 3):
        with pytest.raises(RecordError, match=r"has that many seeds \(3\): request more"):
            extend(record, fewer)


def test_the_page_offers_as_many_seeds_as_a_claim_takes_and_then_twice_as_many() -> None:
    assert [next_seeds(seeds) for seeds in (1, 3, 6, 40, 64)] == [6, 6, 12, 64, 64]


@pytest.mark.parametrize(("needed", "offered"), [(9, 9), (400, 64), (None, 12)])
def test_the_page_offers_the_number_that_the_verdict_recommends(
    study: StudySettings, monkeypatch: pytest.MonkeyPatch, needed: int | None, offered: int
) -> None:
    lines = (Line("next.power", {"needed": needed}),) if needed else (Line("next.same"),)
    monkeypatch.setattr(more_seeds, "judge", lambda record: SimpleNamespace(is_void=False, summary=lines))
    assert more_seeds.seeds_offered(create(_of(study, 6), "ann")) == offered


def test_the_button_stands_under_finished_studies_alone(study: StudySettings) -> None:
    record = create(study, "ann")
    with gr.Blocks():
        actions = run_actions.build("train")
    finished = dict(zip(actions.components(), actions.fitting(record, Status("finished")), strict=True))[actions.more]
    assert finished["visible"]
    assert finished["value"] == "Run 6 seeds"
    for state in ("running", "stopped", "failed"):
        assert not actions.fitting(record, Status(state))[1]["visible"]
    full = create(_of(study, 64), "ann")
    assert not actions.fitting(full, Status("finished"))[1]["visible"]


def test_the_button_estimates_the_missing_seeds_from_the_pace_of_those_that_were_trained(study: StudySettings) -> None:
    record = create(_of(study, 2), "ann")
    for seed, step, seconds in ((0, 0, 0), (0, 9, 11), (1, 0, 11), (1, 9, 20), (1, 9, 99_999)):
        append(record.folder / LOG, {"time": 1e9 + seconds, "seed": seed, "event": "x", "step": step, "arms": {}})
    assert seconds_for(record, 6) == pytest.approx(4 * (11 + 9 + 600) / 2)  # a pause counts ten minutes at most
    with gr.Blocks():
        actions = run_actions.build("train")
    shown = dict(zip(actions.components(), actions.fitting(record, Status("finished")), strict=True))[actions.more]
    assert shown["value"] == "Run 6 seeds, about 21 min"


def test_a_finished_study_is_put_back_in_the_queue_for_its_owner(study: StudySettings) -> None:
    jobs = LabJobs(Limits())
    record = jobs.submit(study, "ann")
    assert jobs.wait(record, 120).state == "finished"
    with pytest.raises(RecordError):
        jobs.add_seeds(record.id, "ben")
    jobs.add_seeds(record.id, "ann")
    status = jobs.wait(record, 240)
    assert status.state == "finished"
    assert status.step == status.steps
    assert record.study.seeds == 6
    assert len(outcomes_of(record).control) == 6


def test_more_seeds_than_this_server_allows_are_refused_and_nothing_is_lost(study: StudySettings) -> None:
    record = _run(create(study, "ann"))
    before = record.settings_file.read_bytes(), record.events()
    with pytest.raises(DoesNotFit, match="this server allows at most 2"):
        LabJobs(Limits(steps=2)).add_seeds(record.id, "ann")
    assert before == (record.settings_file.read_bytes(), record.events())
    sweep = create_sweep(SweepSettings(axes={"noise.strength": (5,)}, study=study), "ann")
    list(run_sweep(sweep, Limits(), lambda: False))
    with pytest.raises(DoesNotFit, match="studies, but this server allows at most 1"):
        LabJobs(Limits(sweep_studies=1)).add_seeds(sweep.id, "ann")
    assert sweep.settings.study.seeds == 1


def test_a_sweep_gets_more_seeds_too(study: StudySettings, tmp_path: Path) -> None:
    settings = SweepSettings(axes={"noise.strength": (5,)}, study=study)
    sweep = create_sweep(settings, "")
    assert list(run_sweep(sweep, Limits(), lambda: False))[-1]["event"] == "finished"
    before = (sweep.folder / "cells" / "001-seed-0" / "events.jsonl").read_bytes()
    file = tmp_path / "sweep.toml"
    file.write_text(to_toml(settings.model_copy(update={"study": _of(study, 2)})), encoding="utf-8")
    found = record_to_run(SweepCommand(file=file, resume=True))
    assert found == Sweep(sweep.folder)
    assert list(run_sweep(found, Limits(), lambda: False))[-1]["event"] == "finished"
    assert (sweep.folder / "cells" / "001-seed-0" / "events.jsonl").read_bytes() == before
    assert [len(row.seeds) for row in sweep_table(found).rows] == [2, 2]
