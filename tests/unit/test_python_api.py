"""Studies from Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import neftune_core
from neftune_core import DataSettings, StudySettings, compare, open_study, run_study, start_study
from neftune_core.errors import DataError, InvalidSetting, LabError, RecordError
from neftune_core.python_api import StudyResult


def study(**more: Any) -> StudySettings:
    return StudySettings(
        data={"source": "starter:world-format", "rows": 24},
        training={"steps": 4, "batch_size": 4, "learning_rate": 3e-3, "evaluations": 2},
        measuring={"prompts": 0},
        answers={"prompts": ("Where does the owl live?",), "new_tokens": 8},
        noise=[{"strength": 5}],
        **more,
    )


@pytest.fixture(scope="module")
def seen() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="module")
def result(seen: list[dict[str, Any]]) -> StudyResult:
    return run_study(study(seeds=2), progress=seen.append)


def test_progress_sees_the_events_of_the_record(result: StudyResult, seen: list[dict[str, Any]]) -> None:
    stored = result.record.events()
    assert [(event["event"], event.get("step")) for event in seen] == [
        (one["event"], one.get("step")) for one in stored
    ]
    assert seen[-1]["event"] == "finished"


def test_losses_are_those_of_the_evaluations(result: StudyResult) -> None:
    assert set(result.losses) == {"base", "control", "uniform-alpha-5"}
    assert [(point.seed, point.step) for point in result.losses["control"]] == [
        (seed, step) for seed in (0, 1) for step in (0, 2, 4)
    ]
    last = next(event for event in reversed(result.record.events()) if event["event"] == "evaluated")
    assert result.losses["control"][-1].held_out_loss == last["arms"]["control"]["held_out_loss"]


def test_the_verdict_prints_as_on_the_command_line(result: StudyResult) -> None:
    assert str(result.verdict) == result.verdict.text()
    assert "uniform-alpha-5" in result.verdict.arms


def test_losses_as_a_data_frame(result: StudyResult) -> None:
    frame = result.to_pandas()
    assert list(frame.columns) == ["arm", "seed", "step", "train_loss", "held_out_loss"]
    chosen = frame[(frame.arm == "control") & (frame.seed == 1) & (frame.step == 4)]
    assert chosen.held_out_loss.item() == result.losses["control"][-1].held_out_loss


def test_stored_and_new_answers_stand_side_by_side(result: StudyResult) -> None:
    assert [line["prompt"] for line in result.answers] == ["Where does the owl live?"] * 2
    asked = result.ask(["Who is <b>here</b>?"], arms=["control"], new_tokens=4)
    assert list(asked[0]["arms"]) == ["base", "control"]
    assert list(asked.to_pandas().columns) == ["prompt", "base", "control"]
    assert "&lt;b&gt;" in asked._repr_html_()
    assert str(asked).startswith("> Who is <b>here</b>?\n  [base] ")


def test_studies_on_one_base_answer_together(result: StudyResult) -> None:
    asked = compare([result, result], ["Where does the owl live?"], arms=["control"], new_tokens=2)
    assert len(asked[0]["arms"]) >= 2


def test_a_notebook_shows_verdict_curves_and_answers(result: StudyResult) -> None:
    shown = result._repr_html_()
    assert shown.index("headline") < shown.index("<svg") < shown.index("<table")
    assert shown.count("<polyline") == 2  # the control and one arm
    assert "<script" not in shown
    assert ">alpha 5</text>" in shown and "uniform-alpha-5" not in shown


def test_an_adapter_loads_in_peft(result: StudyResult, tmp_path: Path) -> None:
    folder = result.adapter("uniform-alpha-5", tmp_path / "adapter")
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= {path.name for path in folder.iterdir()}
    with pytest.raises(InvalidSetting, match="already exists"):
        result.adapter("uniform-alpha-5", tmp_path / "adapter")
    with pytest.raises(RecordError, match="no trained arm 'alpha-7'"):
        result.adapter("alpha-7", tmp_path / "other")


def test_a_record_is_opened_by_its_id_and_by_its_folder(result: StudyResult) -> None:
    assert open_study(result.record.id).folder == open_study(result.folder).folder == result.folder
    with pytest.raises(RecordError):
        open_study("20200101-000000-000000")


def test_a_study_is_stopped_by_leaving_the_loop_and_resumed() -> None:
    run = start_study(study(title="left"))
    for event in run:
        if event["event"] == "step":
            break
    assert run.result.record.ending() is None
    done = run_study(study(title="left"), resume=True)
    assert done.folder == run.result.folder
    assert done.losses["control"][-1].step == 4


def test_a_study_that_fails_before_its_first_step_raises_and_leaves_no_record(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": ""}\n')
    data = DataSettings(source=f"file:{tmp_path / 'rows.jsonl'}")
    run = start_study(study().model_copy(update={"data": data}))
    with pytest.raises(LabError):
        list(run)
    assert not run.result.folder.exists()


def test_invalid_settings_are_refused_before_a_record_is_made() -> None:
    with pytest.raises((InvalidSetting, ValueError), match="strength"):
        StudySettings(noise=[{"strength": -1}])
    with pytest.raises(DataError):
        compare([], ["Where?"])


def test_importing_the_package_loads_nothing_slow() -> None:
    code = (
        "import sys, neftune_core; from neftune_core import StudySettings; "
        "print([name for name in ('torch', 'transformers', 'gradio', 'plotly', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_study_waits_for_busy_neighbours_unless_torch_was_there_first() -> None:
    code = "import os, sys; {first}from neftune_core import run_study; print(os.environ.get('OMP_WAIT_POLICY'))"
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    for first, policy in {"": "passive\n", "import torch; ": "None\n"}.items():
        ran = subprocess.run(
            [sys.executable, "-c", code.format(first=first)], env=bare, capture_output=True, text=True, check=True
        )
        assert ran.stdout == policy


def test_every_public_name_exists() -> None:
    assert [name for name in neftune_core.__all__ if not hasattr(neftune_core, name)] == []
