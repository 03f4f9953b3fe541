"""A sweep: its grid, failures and kills, and errors for invalid input."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from command_line import neftune_here
from short_study import ANN, BEN, short_rows, short_study

from neftune_core.engine.settings import TrainingSettings
from neftune_core.errors import DoesNotFit, InvalidSetting
from neftune_core.evaluation import validity
from neftune_core.home import folder_bytes
from neftune_core.models.loading import evict_all
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, from_toml, parse, to_toml
from neftune_core.studies.records.record import Record, find, owned_records
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.study import Deadline
from neftune_core.sweeps.estimate import plan
from neftune_core.sweeps.more_seeds import find_same
from neftune_core.sweeps.queue import LabJobs
from neftune_core.sweeps.record import Sweep, create_sweep
from neftune_core.sweeps.settings import EXAMPLE_SWEEP, SweepSettings, cells, size_text
from neftune_core.sweeps.sweep import RunCells, SweepCell, run_in_turn, run_sweep
from neftune_core.sweeps.table import sweep_table, table_values
from neftune_core.ui.server.lab import Lab
from tests.stress.faults.setup import numbers
from tests.tools.recorded import keep, markdown


@pytest.fixture
def study(tmp_path: Path) -> StudySettings:
    """Return a study with two seeds of a tiny model on twelve rows."""
    return short_study(short_rows(tmp_path), {"checkpoint_steps": 1}, seeds=2)


def _sweep(study: StudySettings, **given: Any) -> SweepSettings:
    return SweepSettings(**{"axes": {"noise.strength": (0, 5)}, "study": study} | given)


def _run(sweep: Sweep, limits: Limits | None = None) -> dict[str, Any]:
    return list(run_sweep(sweep, limits or Limits(), lambda: False))[-1]


def _numbers(sweep: Sweep) -> dict[str, list[dict[str, Any]]]:
    """Return the logs of the cells without times."""
    return {cell.name: numbers(sweep.record_of(cell)) for cell in cells(sweep.settings)}


def test_noise_settings_share_a_study_and_training_settings_do_not(study: StudySettings) -> None:
    axes = {"noise.strength": (0, 1, 2), "noise.kind": ("uniform", "gaussian"), "training.lora_rank": (4, 8)}
    found = cells(_sweep(study, axes=axes))
    assert [cell.name for cell in found] == ["001-seed-0", "002-seed-0", "001-seed-1", "002-seed-1"]
    assert [cell.study.training.lora_rank for cell in found] == [4, 8, 4, 8]
    names = ["control", "uniform-alpha-1", "gaussian-alpha-1", "uniform-alpha-2", "gaussian-alpha-2"]
    assert all(list(cell.study.arms) == names for cell in found)
    assert size_text(_sweep(study, axes=axes)).startswith("10 arms (controls included), 2 seeds: 20 training runs")


def test_more_noises_than_arms_go_to_another_study_with_a_control_of_its_own(study: StudySettings) -> None:
    found = cells(_sweep(study, axes={"noise.strength": tuple(range(21))}, most_arms=16))
    assert [len(cell.study.arms) for cell in found] == [11, 11, 11, 11]
    assert all("control" in cell.study.arms for cell in found)


def test_points_stand_beside_the_grid(study: StudySettings) -> None:
    points = ({"noise.strength": 3, "noise.unit": "std"}, {"training.epochs": 2})
    found = cells(_sweep(study, axes={"noise.strength": (5,)}, points=points))
    assert [list(cell.study.arms)[1:] for cell in found[:2]] == [
        ["uniform-alpha-5", "uniform-std-3"],
        ["uniform-alpha-5"],
    ]
    assert found[1].varied == {"training.epochs": 2}


def test_a_sweep_survives_its_own_file() -> None:
    assert from_toml(SweepSettings, to_toml(EXAMPLE_SWEEP, comments=True)) == EXAMPLE_SWEEP
    dotted = from_toml(SweepSettings, "[axes]\nnoise.strength = [1, 2]\n[[points]]\ntraining.epochs = 2\n")
    assert dotted.axes == {"noise.strength": (1, 2)}
    assert from_toml(SweepSettings, to_toml(dotted)) == dotted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs at least one setting to vary"),
        ("axes = 3", "axes cannot be 3"),
        ("[axes]\nnoise.strength = []", "has no values"),
        ("[axes]\nnoise.strength = [0]", "the control"),
        ('[axes]\nnoise.strength = ["a"]', "combination noise.strength a is invalid"),
        ("[axes]\nnoise.strong = [1]", "cannot vary 'noise.strong'"),
        ("[axes]\ntraining.time_budget_seconds = [1]", "time budget"),
        ("[axes]\nnoise.strength = [1]\n[study.training]\ntime_budget_seconds = 3", "time budget"),
        ('[axes]\nnoise.kind = ["token-dropout"]', "share"),
        ("[axes]\ntraining.epochs = [1, -1]", "combination training.epochs -1"),
        (
            "[axes]\nnoise.strength = [1]\n[[study.noise]]\nstrength = 1\n[[study.noise]]\nstrength = 2",
            "starts from a single noise arm",
        ),
        ('[axes]\nnoise.sites = ["nowhere"]', "write sites as"),
    ],
)
def test_axes_that_cannot_be_get_one_sentence(text: str, words: str) -> None:
    with pytest.raises(InvalidSetting, match=words) as error:
        from_toml(SweepSettings, text).check(Limits())
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_limits_are_checked_before_anything_is_listed(study: StudySettings) -> None:
    huge = {f"training.{name}": tuple(range(1, 900)) for name in ("epochs", "batch_size", "lora_rank")}
    with pytest.raises(DoesNotFit, match="at most 10,000"):
        _sweep(study, axes=huge).check(Limits())
    many = _sweep(study, axes={"training.epochs": (1, 2, 3)})
    with pytest.raises(DoesNotFit, match="needs 6 studies, but this server allows at most 5"):
        many.check(Limits(sweep_studies=5))
    with pytest.raises(DoesNotFit, match="at most 2 arms"):
        _sweep(study, axes={"noise.strength": (1, 2)}).check(Limits(arms=2))


def test_a_sweep_runs_to_its_end_and_keeps_a_record_of_each_cell(study: StudySettings) -> None:
    sweep = create_sweep(_sweep(study, keep_adapters=False), ANN)
    events = list(run_sweep(sweep, Limits(), lambda: False))
    assert events[-1]["event"] == "finished"
    steps = [event["step"] for event in events if event["event"] in ("step", "cell")]
    assert steps == sorted(steps)
    assert steps[-1] == events[0]["steps"]
    for cell in cells(sweep.settings):
        record = sweep.record_of(cell)
        assert record.ending() is not None
        assert record.study == cell.study
        assert record.belongs_to(ANN)
        assert not record.belongs_to(BEN)
        assert not (record.folder / "arms").exists()
    assert len(list(sweep.folder.rglob("rows.jsonl"))) == 1  # the cells name the sweep's copy
    assert find(sweep.id, ANN).is_sweep
    assert sweep.about["model"]["source"] == study.model.source


def test_a_cell_that_fails_leaves_the_others_and_is_tried_again(study: StudySettings) -> None:
    axes = {"noise.strength": (5,), "training.learning_rate": (1e-3, 2e-3)}
    sweep = create_sweep(_sweep(study.model_copy(update={"seeds": 1}), axes=axes), ANN)

    def failing(todo: Sequence[SweepCell], *rest: Any) -> Iterator[tuple[SweepCell, dict[str, Any]]]:
        first, second = todo
        yield first, {"event": "failed", "message": "The first learning rate cannot be."}
        yield from run_in_turn([second], *rest)

    ending = list(run_sweep(sweep, Limits(), lambda: False, failing))[-1]
    assert ending["event"] == "failed"
    assert "1 of 2 studies failed, the first with: The first learning rate cannot be." in ending["message"]
    assert [event["state"] for event in sweep.cell_endings().values()] == ["failed", "finished"]
    second = _numbers(sweep)["002-seed-0"]
    assert _run(sweep)["event"] == "finished"
    assert [event["state"] for event in sweep.cell_endings().values()] == ["finished", "finished"]
    assert _numbers(sweep)["002-seed-0"] == second


def test_a_cell_that_fails_again_is_reported_again_and_one_that_was_not_reached_is_not(study: StudySettings) -> None:
    sweep = create_sweep(_sweep(study.model_copy(update={"seeds": 1})), ANN)

    def failing(message: str) -> RunCells:
        return lambda todo, *_: iter([(todo[0], {"event": "failed", "message": message})])

    for message in ("The first reason.", "The second reason."):
        ending = list(run_sweep(sweep, Limits(), lambda: False, failing(message)))[-1]
        assert message in ending["message"]
    ending = list(run_sweep(sweep, Limits(), lambda: False, lambda *_: iter([])))[-1]
    assert ending["event"] == "stopped"
    assert sweep.cell_endings() == {}


def test_a_stop_while_the_model_is_read_is_not_a_failure(study: StudySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    evict_all()
    sweep = create_sweep(_sweep(study), ANN)
    ending = list(run_sweep(sweep, Limits(), lambda: True))[-1]
    assert ending["event"] == "stopped"
    assert ending["message"] == "Stopped on request, with 0 of 2 studies done."
    monkeypatch.setattr(Deadline, "is_late", True)
    ending = list(run_sweep(sweep, Limits(), lambda: False))[-1]
    assert ending["event"] == "stopped"
    assert "the longest that this server allows, with 0 of 2" in ending["message"]


def test_a_stop_while_the_rows_are_read_is_not_a_failure(study: StudySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = create_sweep(_sweep(study), ANN)
    asked: list[bool] = []

    def reading(*_: Any, progress: Callable[[int, int], None]) -> None:
        asked.append(True)
        progress(500, 1000)
        raise AssertionError("the stop was not noticed")

    monkeypatch.setattr("neftune_core.sweeps.sweep.prepare", reading)
    ending = list(run_sweep(sweep, Limits(), lambda: bool(asked)))[-1]
    assert ending["event"] == "stopped", ending
    assert ending["message"] == "Stopped on request, with 0 of 2 studies done."


def test_a_cell_that_the_time_limit_ended_reports_it(study: StudySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = create_sweep(_sweep(study.model_copy(update={"seeds": 1})), ANN)
    late: list[bool] = []
    monkeypatch.setattr(Deadline, "is_late", property(lambda self: bool(late)))
    for event in run_sweep(sweep, Limits(), lambda: False):
        if event["event"] == "step":
            late.append(True)
    (state,) = sweep.cell_endings().values()
    assert state["state"] == "stopped"
    assert "the longest that this server allows" in state["message"]
    assert "the longest that this server allows" in event["message"]


@pytest.mark.parametrize("place", [1, 2, 4])
def test_an_interrupted_sweep_ends_like_an_uninterrupted_one(study: StudySettings, place: int) -> None:
    settings = _sweep(study)
    whole = create_sweep(settings, ANN)
    assert _run(whole)["event"] == "finished"
    broken = create_sweep(settings, ANN)
    events = run_sweep(broken, Limits(), lambda: False)
    for _ in range(place + 1):
        next(events)
    events.close()  # type: ignore[attr-defined]
    assert broken.ending() is None
    assert _run(broken)["event"] == "finished"
    assert _numbers(broken) == _numbers(whole)


def test_a_sweep_is_one_job_that_stops_and_continues(study: StudySettings) -> None:
    jobs = LabJobs(Limits())
    until = time.monotonic() + 60
    long = study.model_copy(update={"training": parse(TrainingSettings, {"epochs": 300, "evaluations": 1})})
    record = jobs.submit(_sweep(long), ANN)
    while jobs.status(record).state == "waiting" and time.monotonic() < until:
        time.sleep(0.01)
    waiting = jobs.submit(_sweep(study), ANN)
    assert jobs.status(waiting).place == 1
    jobs.stop(record.id, ANN)
    status = jobs.wait(record, 60)
    assert (status.state, status.can_resume) == ("stopped", True)
    assert jobs.wait(waiting, 60).state == "finished"
    jobs.discard(record.id, ANN)
    assert not record.folder.exists()
    assert [found.id for found in owned_records(ANN) if found.id == waiting.id] == [waiting.id]


def test_the_same_sweep_is_found_again_and_another_is_not(study: StudySettings) -> None:
    sweep = create_sweep(_sweep(study), "")
    assert find_same(_sweep(study), "") == Record(sweep.folder)
    assert find_same(_sweep(study, axes={"noise.strength": (0, 6)}), "") is None
    assert find_same(_sweep(study.model_copy(update={"noise": (NoiseSettings(kind="gaussian"),)})), "") is None


def test_a_sweep_ends_with_a_table_of_every_setting_and_seed(
    study: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validity, "REASONS", {})  # ten steps teach a random model no more than frequencies
    axes = {"noise.strength": (0, 5), "training.learning_rate": (1e-3, 4e-3)}
    longer = study.model_copy(update={"seeds": 3, "training": study.training.model_copy(update={"steps": 10})})
    sweep = create_sweep(_sweep(longer, axes=axes), ANN)
    assert sweep_table(sweep).rows == ()
    assert _run(sweep)["event"] == "finished"
    table = sweep_table(sweep)
    names = [(row.cell, row.arm) for row in table.rows]
    assert names == [
        (words, arm)
        for words in ("learning rate 0.001", "learning rate 0.004")
        for arm in ("control", "uniform-alpha-5")
    ]
    assert all(sorted(row.seeds) == [0, 1, 2] for row in table.rows)
    assert (table.studies, table.done) == (6, 6)
    for control, arm in (table.rows[:2], table.rows[2:]):
        found = arm.effects["held_out_loss"]["last"]
        differences = [
            arm.seeds[seed].last["held_out_loss"] - control.seeds[seed].last["held_out_loss"] for seed in (0, 1, 2)
        ]
        assert found.differences == pytest.approx(differences, abs=1e-12)  # the same subtraction
        assert found.interval is not None
        assert found.interval.level >= 0.95  # Holm's step over two arms
    values = json.loads(json.dumps(table_values(table, sweep.settings), allow_nan=False))
    assert [len(row["seeds"]) for row in values["settings"]] == [3, 3, 3, 3]
    assert table.shown[0].arm == "base"
    assert values["base"]["held_out_loss"] == table.rows[0].seeds[0].base["held_out_loss"]
    assert table.verdict is not None
    assert "learning rate 0.004: uniform-alpha-5" in table.verdict.arms


def test_the_time_of_a_sweep_follows_the_last_study(
    study: StudySettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = _sweep(study)
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    first = plan(settings, Limits())
    assert "estimated from the speed of this machine" in first.sentence
    sweep = create_sweep(settings, ANN)
    assert _run(sweep)["event"] == "finished"
    again = plan(settings, Limits())
    assert "at the speed of the last study of this model" in again.sentence
    double = plan(_sweep(study.model_copy(update={"seeds": 4})), Limits())
    assert double.seconds == pytest.approx(2 * again.seconds)


def test_the_command_prints_a_table_and_resume_finds_it_finished(study: StudySettings, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(to_toml(_sweep(study.model_copy(update={"seeds": 1}))), encoding="utf-8")
    command = ["sweep", file, "--resume"]
    first = neftune_here(*command, "--json", home=tmp_path / "home")
    assert first.returncode == 0, first.stderr
    values = json.loads(first.stdout)
    assert values["state"] == "finished"
    assert [row["arm"] for row in values["settings"]] == ["control", "uniform-alpha-5"]
    second = neftune_here(*command, home=tmp_path / "home")
    assert second.returncode == 0, second.stderr
    assert "uniform-alpha-5" in second.stdout
    assert len(list((tmp_path / "home" / "runs").iterdir())) == 1


def test_a_wrong_sweep_file_gets_one_sentence_and_a_failing_status(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text("[axes]\nnoise.strong = [1]\n", encoding="utf-8")
    done = neftune_here("sweep", file)
    assert done.returncode == 1
    assert done.stderr.strip() == "A sweep cannot vary 'noise.strong', only noise.*, training.* and data.rows."


def test_a_recorded_sweep_shows_the_same_table_without_its_adapters(study: StudySettings, tmp_path: Path) -> None:
    sweep = create_sweep(_sweep(study), ANN)
    assert _run(sweep)["event"] == "finished"
    kept = keep(sweep, "kept", tmp_path)
    assert not list(kept.folder.rglob("*.safetensors"))
    assert table_values(sweep_table(kept), kept.settings) == table_values(sweep_table(sweep), sweep.settings)
    lines = markdown(sweep_table(kept)).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| base", "| control", "| uniform-alpha-5"]


def test_every_recorded_sweep_is_finished_whole_and_small() -> None:
    for sweep in Lab().recorded_sweeps:
        table = sweep_table(sweep)
        assert (sweep.ending() or {}).get("event") == "finished", sweep.id
        assert (table.done, table.verdict is None) == (table.studies, False), sweep.id
        assert sweep.about["owner"] == "", sweep.id
        assert folder_bytes(sweep.folder) < 5_000_000, sweep.id
