"""The best evaluation kept, and the early stop: the same numbers, the right weights, and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from short_study import broken_off, short_rows, short_study
from steered import finished_run

from neftune_core.engine.saving import ADAPTER
from neftune_core.engine.settings import TrainingSettings
from neftune_core.errors import RecordError
from neftune_core.evaluation.outcomes import Question
from neftune_core.export.archive import import_record, pack_record
from neftune_core.export.card import card
from neftune_core.export.models import write_model
from neftune_core.home import folder_bytes
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.comparison import has_arm, saved_arms, saved_best, selected_arms
from neftune_core.studies.judging import outcomes_of
from neftune_core.studies.records.owners import _bytes_of
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.records.removal import remove
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering.best_arms import best_step, improvements, stored_steps
from neftune_core.studies.study import run_study
from neftune_core.studies.trained.loading import load_trained

NOISE = (NoiseSettings(strength=5),)
LARGE_RATES = [0.2, 0.3, 0.1, 0.5]
"""Learning rates with which the held-out losses of sixteen steps may fall and rise again; this depends on rounding, and
so on the processor. `record` removes the first ones until the first one left does."""
PATIENCE = 2


def _study(folder: Path, **training: Any) -> StudySettings:
    usual = {"epochs": 4, "evaluations": 16, "learning_rate": LARGE_RATES[0], "schedule": "constant"}
    usual["checkpoint_steps"] = 5
    return short_study(short_rows(folder, 20), usual | training, noise=NOISE)


def _losses(record: Record) -> list[dict[str, Any]]:
    return [event["arms"] for event in record.events() if event["event"] in ("step", "evaluated")]


def _held_out(record: Record, arm: str) -> dict[int, float]:
    evaluated = [event for event in record.events() if event["event"] == "evaluated" and event["step"]]
    return {event["step"]: event["arms"][arm]["held_out_loss"] for event in evaluated}


def test_the_best_evaluation_is_the_first_of_the_lowest_after_some_training() -> None:
    losses = {0: 1.0, 5: 3.0, 10: 2.0, 15: 2.0, 20: float("nan")}
    events = [
        {"event": "evaluated", "seed": seed, "step": step, "arms": {"a": {"held_out_loss": loss + seed}}}
        for seed in (0, 1)
        for step, loss in losses.items()
    ]
    assert improvements(events, 1) == {"a": {5: 4.0, 10: 3.0}}
    assert best_step(events, "a", 1) == 10
    assert best_step(events, "b", 1) == 0


def _early_end(record: Record) -> int:
    """Return the step at which a study with `early_stop=PATIENCE` would have ended; 0 if it would not have."""
    losses = [_held_out(record, arm) for arm in saved_arms(record)]
    latest = 0
    for step in losses[0]:
        if any(own[step] < min([own[one] for one in losses[0] if one < step], default=9e9) for own in losses):
            latest = step
        if step - latest >= PATIENCE:
            return step
    return 0


@pytest.fixture(scope="module", autouse=True)
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Return a finished study whose control was best before the end, and which an early stop would have shortened."""
    while LARGE_RATES:
        made = finished_run(_study(tmp_path_factory.mktemp("rows")), "ann")
        losses = _held_out(made, "control")
        if min(losses, key=losses.__getitem__) < max(losses) and 0 < _early_end(made) < max(losses):
            return made
        remove(made)
        del LARGE_RATES[0]
    raise AssertionError("no study gets worse towards its end")


def test_the_weights_of_the_best_evaluation_have_its_loss(record: Record) -> None:
    kept = saved_best(record, 0)
    arms = load_trained(record, 0, Limits())
    sample = arms.prepared.held_out[: record.study.training.sample_rows(len(arms.prepared.train))]
    from neftune_core.engine.clean_loss import row_measures

    for arm in saved_arms(record):
        losses = _held_out(record, arm)
        best = min(losses, key=losses.__getitem__)
        assert best_step(record.events(), f"{arm}@best", 0) == best
        assert kept.get(f"{arm}@best", max(losses)) == best
        slot = next(slot for slot, name in arms.names.items() if name == arm)
        arms.stack.load(slot, record.arm_folder(f"{arm}@best", 0))
        found = row_measures(arms.stack, sample, [slot], batch_size=arms.batch_size)
        assert found.of(0).loss == losses[best]
    assert "control@best" in kept


def test_keeping_the_best_changes_no_number(record: Record, tmp_path: Path) -> None:
    plain = finished_run(_study(tmp_path, keep_best=False))
    assert saved_best(plain, 0) == {}
    assert _losses(plain) == _losses(record)
    ends = [load_file(one.arm_folder("control", 0) / ADAPTER) for one in (plain, record)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])


def test_the_best_counts_as_the_owners_disk_space(record: Record) -> None:
    best = record.arm_folder("control@best", 0)
    assert best != record.arm_folder("control", 0)
    assert _bytes_of("ann", record.folder.parent) == folder_bytes(record.folder)
    assert folder_bytes(record.folder) > folder_bytes(record.folder / "arms") > 2 * folder_bytes(best)


def test_the_best_is_selected_exported_and_travels(record: Record, tmp_path: Path) -> None:
    chosen = selected_arms([record], arms=["control", "control@best"])
    assert [one.arm for one in chosen] == ["control", "control@best"]
    assert "control@best" not in [one.arm for one in selected_arms([record])]
    write_model(record, "control@best", 0, "adapter", tmp_path / "best")
    own = record.arm_folder("control@best", 0) / ADAPTER
    assert (tmp_path / "best" / ADAPTER).read_bytes() == own.read_bytes()
    best = best_step(record.events(), "control", 0)
    text = (tmp_path / "best" / "README.md").read_text(encoding="utf-8")
    assert f"control, step {best} |" in text and "best evaluation" in text
    assert "after the last step rather than the best one" in card(record, "control", 0, "adapter")
    with pytest.raises(RecordError, match="no trained arm"):
        write_model(record, "chaos@best", 0, "adapter", tmp_path / "none")
    packed = pack_record(record, tmp_path / "record.zip")
    moved = import_record(packed, "", folder=tmp_path / "runs")
    assert saved_best(moved, 0) == saved_best(record, 0)


def test_if_the_end_is_best_nothing_is_stored_twice(tmp_path: Path) -> None:
    record = finished_run(_study(tmp_path, learning_rate=1e-4, evaluations=2))
    losses = _held_out(record, "control")
    assert min(losses, key=losses.__getitem__) == max(losses)
    assert saved_best(record, 0) == {} and has_arm(record, "control@best", 0)
    assert record.arm_folder("control@best", 0) == record.arm_folder("control", 0)


def test_a_record_without_kept_weights_says_that_it_has_none(tmp_path: Path) -> None:
    record = finished_run(_study(tmp_path, keep_best=False))
    assert not has_arm(record, "control@best", 0)
    with pytest.raises(RecordError, match="no trained arm 'control@best'"):
        selected_arms([record], arms=["control@best"])


@pytest.mark.parametrize("step", [3, 7, 9])
def test_a_killed_run_ends_with_the_same_best_weights(record: Record, tmp_path: Path, step: int) -> None:
    again = create(_study(tmp_path), "")
    broken_off(again, ("evaluated", step))
    *_, ending = run_study(again, Limits(), lambda: False)
    assert ending["event"] == "finished"
    assert saved_best(again, 0) == saved_best(record, 0)
    for arm in (*saved_arms(record), *saved_best(record, 0)):
        files = [one.arm_folder(arm, 0) / ADAPTER for one in (again, record)]
        assert files[0].read_bytes() == files[1].read_bytes()
    for arm in saved_arms(record):
        assert len(stored_steps(again.arm_folder(arm, 0))) <= 1


def test_early_stop_ends_all_arms_at_the_same_step_by_its_rule(record: Record, tmp_path: Path) -> None:
    expected, last_step = _early_end(record), max(_held_out(record, "control"))
    stopped = finished_run(_study(tmp_path, early_stop=PATIENCE))
    early = [event for event in stopped.events() if event["event"] == "ended_early"]
    assert [(one["step"], one["steps"]) for one in early] == [(expected, last_step)]
    last = {arm: max(_held_out(stopped, arm)) for arm in saved_arms(stopped)}
    assert set(last.values()) == {expected}
    assert _losses(stopped) == _losses(record)[: len(_losses(stopped))]
    assert outcomes_of(stopped, Question("train_loss")).early == {"0": (expected, last_step)}
    assert TrainingSettings().early_stop == 0


def test_an_early_end_survives_an_interruption_after_it(tmp_path: Path) -> None:
    whole = finished_run(_study(tmp_path, early_stop=PATIENCE))
    again = create(_study(tmp_path, early_stop=PATIENCE), "")
    end = next(event["step"] for event in whole.events() if event["event"] == "ended_early")
    stopping = [False]
    for event in run_study(again, Limits(), lambda: stopping[0]):
        stopping[0] = stopping[0] or event["event"] == "saved"
    assert (again.ending() or {})["event"] == "stopped"
    *_, ending = run_study(again, Limits(), lambda: False)
    assert ending["event"] == "finished"
    assert [event["step"] for event in again.events() if event["event"] == "ended_early"] == [end]
    assert _losses(again) == _losses(whole)
    assert again.answers() == whole.answers()
