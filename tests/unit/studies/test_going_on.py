"""More epochs for a finished study: numbers, resumption, refusals, and what the verdict says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from short_study import short_rows, short_study
from steered import STOPPED, finished_run, numbers, of_three_arms, with_a_stop

from neftune_core.commands.records import RunsCommand, runs
from neftune_core.durable import write_whole
from neftune_core.engine.saving import ADAPTER
from neftune_core.engine.settings import TrainingSettings
from neftune_core.errors import DoesNotFit, InvalidSetting, RecordError
from neftune_core.evaluation.outcomes import Question
from neftune_core.export.archive import import_record, pack_record
from neftune_core.noise.settings import NoiseSettings
from neftune_core.python_api import run_study as run_study_of_python
from neftune_core.settings import Limits, from_toml, to_toml
from neftune_core.studies.comparison import saved_best
from neftune_core.studies.judging import seed_histories, verdict_of
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering.going_on import go_on, reason_against
from neftune_core.studies.study import run_study


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_a_study_that_goes_on_has_the_numbers_of_one_trained_at_once(tmp_path: Path, schedule: str) -> None:
    noise = (NoiseSettings(strength=5, schedule="linear"),)
    training = {"epochs": 2, "evaluations": 2, "schedule": schedule, "lora_dropout": 0.1, "learning_rate": 5e-3}
    first = finished_run(short_study(short_rows(tmp_path, 20), training, noise=noise, seeds=2))
    before = (numbers(first), first.answers(), verdict_of(first).text())
    longer = go_on(first, 1, "", Limits())
    *_, ending = run_study(longer, Limits(), lambda: False)
    assert ending["event"] == "finished", ending
    assert (numbers(first), first.answers(), verdict_of(first).text()) == before
    assert longer.study.training.restarts == (8,) and longer.study.training.steps == 12
    assert numbers(longer)[: 8 + 3] == [one for one in before[0] if one[0] == 0]
    whole = finished_run(longer.study)
    assert numbers(longer) == numbers(whole)
    assert longer.answers() == whole.answers()
    rates = [one[3] for one in numbers(longer) if one[0] == 0 and one[1] == "step"]
    assert rates[8] == rates[0] == 5e-3
    assert (rates[8:] == rates[:4]) == (schedule == "constant")
    told = verdict_of(longer).text()
    assert f"was continued after step 8, when the result of the record {first.id} could already be seen" in told
    assert "was continued after" not in verdict_of(whole).text() + before[2]
    assert max(seed_histories(longer, Question())[1].steps) == 12
    again = go_on(longer, 0.5, "", Limits())
    assert again.study.training.restarts == (8, 12) and again.study.training.steps == 14
    assert [one["record"] for one in again.about["continues"]] == [first.id, longer.id]


def test_a_study_that_went_on_is_resumed_like_any_other(tmp_path: Path) -> None:
    first = finished_run(of_three_arms(tmp_path, seeds=2))
    expected, record = go_on(first, 2, "", Limits()), go_on(first, 2, "", Limits())
    list(run_study(expected, Limits(), lambda: False))
    for event in (events := run_study(record, Limits(), lambda: False)):
        if event["event"] == "step" and (event["seed"], event["step"]) == (1, 15):
            break
    events.close()  # type: ignore[attr-defined]
    *_, ending = run_study(record, Limits(), lambda: False)
    assert ending["event"] == "finished"
    assert numbers(record) == numbers(expected)
    for seed in (0, 1):
        assert saved_best(record, seed) == saved_best(expected, seed)


def test_a_record_without_a_date_goes_on_without_one(tmp_path: Path) -> None:
    first = finished_run(short_study(short_rows(tmp_path, 20), {"epochs": 1}))
    about = {name: value for name, value in first.about.items() if name != "date"}  # as older versions wrote it
    write_whole(first.folder / "record.json", json.dumps(about))
    longer = go_on(first, 1, "", Limits())
    assert longer.about == about | {
        "created": longer.about["created"],
        "continues": [{"record": first.id, "step": 4}],
    }


def test_a_study_without_its_state_cannot_go_on_and_says_why(tmp_path: Path) -> None:
    record = finished_run(of_three_arms(tmp_path))
    assert reason_against(record) == ""
    with pytest.raises(InvalidSetting, match="less than one step"):
        go_on(record, 0, "", Limits())
    with pytest.raises(DoesNotFit, match="allows at most 13"):
        go_on(record, 1, "", Limits(steps=13))
    packed = pack_record(record, tmp_path / "record.zip")
    moved = import_record(packed, "", folder=tmp_path / "runs")
    with pytest.raises(RecordError, match="was not kept"):
        go_on(moved, 1, "", Limits())
    unfinished = create(of_three_arms(tmp_path), "")
    with pytest.raises(RecordError, match="resume this one first"):
        go_on(unfinished, 1, "", Limits())
    plain = of_three_arms(tmp_path)
    never = plain.model_copy(update={"training": plain.training.model_copy(update={"keep_state": "never"})})
    with pytest.raises(RecordError, match="was not kept"):
        start = finished_run(never)
        go_on(start, 1, "", Limits())
    early = finished_run(of_three_arms(tmp_path))
    early.append({"event": "ended_early", "seed": 0, "step": 6, "steps": 12})
    with pytest.raises(RecordError, match="Early stopping"):
        go_on(early, 1, "", Limits())


def test_a_stopped_arm_stays_stopped_where_the_study_goes_on(tmp_path: Path) -> None:
    first = create(of_three_arms(tmp_path), "")
    list(with_a_stop(first, 7))
    longer = go_on(first, 1, "", Limits())
    *_, ending = run_study(longer, Limits(), lambda: False)
    assert ending["event"] == "finished"
    later = [event for event in longer.events() if event["event"] == "step" and event["step"] > 12]
    assert len(later) == 4 and all(set(event["arms"]) == {"control", "uniform-alpha-5"} for event in later)
    files = [one.arm_folder(STOPPED, 0) / ADAPTER for one in (first, longer)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_going_on_from_the_command_line_and_from_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_study_of_python(of_three_arms(tmp_path))
    run = result.go_on(1)
    assert [event["event"] for event in run][-1] == "finished"
    assert run.result.record.about["continues"] == [{"record": result.record.id, "step": 12}]
    assert runs(RunsCommand(action="continue", record=result.record.id)) == 1
    assert "--epochs" in capsys.readouterr().err
    assert runs(RunsCommand(action="continue", record=result.record.id, epochs=0.5)) == 0
    assert f"the result of the record {result.record.id} could already be seen" in capsys.readouterr().out


def test_restarts_are_steps_in_increasing_order() -> None:
    for wrong in ((0,), (5, 5), (7, 3)):
        with pytest.raises(InvalidSetting, match="increasing order"):
            TrainingSettings(restarts=wrong)
    settings = StudySettings(training=TrainingSettings(restarts=(3, 9)))
    assert from_toml(StudySettings, to_toml(settings)) == settings
