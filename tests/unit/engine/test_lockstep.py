"""The lockstep loop: paired arms, a true control, and the losses of single runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import losses_of, random_rows
from transformers import get_scheduler

from neftune_core.engine.clean_loss import batches_by_length, row_measures
from neftune_core.engine.lockstep import Lockstep, steps_after
from neftune_core.engine.row_measures import RowMeasures
from neftune_core.engine.settings import TrainingSettings, check_length, count_steps, rate_at
from neftune_core.engine.stack import AdapterStack
from neftune_core.errors import Cancelled, DoesNotFit
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies import checkpoint
from neftune_core.studies.settings import StudySettings
from tests.weights import weights_hash

NOISE = (NoiseSettings(strength=5), NoiseSettings(strength=0.3, unit="std", kind="laplace"))


def _lockstep(loaded: LoadedModel, arms: Any = None, **training: Any) -> Lockstep:
    settings = {"epochs": 2, "learning_rate": 5e-3, "evaluations": 2, "batch_size": 4} | training
    study = StudySettings(noise=NOISE, training=TrainingSettings(**settings))
    rows = random_rows(24)
    prepared = SimpleNamespace(train=rows[:18], held_out=rows[18:])
    stack = AdapterStack(loaded, len(arms or study.arms), rank=4, alpha=8)
    return Lockstep(study, stack, prepared, arms=arms)


def _run(loaded: LoadedModel, arms: Any = None, **training: Any) -> tuple[Lockstep, list[dict]]:
    run = _lockstep(loaded, arms, **training)
    return run, list(run.run(lambda: False))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_three_arms_in_lockstep_have_the_losses_of_their_single_runs(tiny: LoadedModel, dropout: float) -> None:
    run, together = _run(tiny, lora_dropout=dropout)
    for name, noise in run.study.arms.items():
        _, alone = _run(tiny, arms={name: noise}, lora_dropout=dropout)
        assert losses_of(together, name) == pytest.approx(losses_of(alone, name), abs=1e-5)


def test_the_control_is_bit_identical_to_a_run_without_the_noise_code(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = {"control": NoiseSettings(strength=0)}
    _, with_code = _run(tiny, arms=control)

    def absent(*args: object, **kwargs: object) -> None:
        raise AssertionError("the noise code was reached")

    monkeypatch.setattr("neftune_core.engine.passes.BatchNoise", absent)
    monkeypatch.setattr(torch.nn.Module, "register_forward_hook", lambda module, hook: None)
    _, without = _run(tiny, arms=control)
    assert with_code == without


def test_the_same_study_twice_has_the_same_events_and_does_not_modify_the_base(tiny: LoadedModel) -> None:
    before = weights_hash(tiny.model)
    generator = torch.get_rng_state()
    _, first = _run(tiny)
    _, second = _run(tiny)
    assert first == second
    assert weights_hash(tiny.model) == before
    assert torch.equal(torch.get_rng_state(), generator)


def test_arms_start_alike_and_noise_makes_them_differ(tiny: LoadedModel) -> None:
    _, events = _run(tiny)
    start = events[0]
    assert start["step"] == 0
    values = [numbers["held_out_loss"] for numbers in start["arms"].values()]
    assert max(values) - min(values) < 1e-6  # the same numbers at a different place in the batch
    last = [event for event in events if event["event"] == "evaluated"][-1]["arms"]
    assert len({numbers["train_loss"] for numbers in last.values()}) == 3
    assert last["control"]["train_loss"] < start["arms"]["control"]["train_loss"]


def test_an_arm_that_diverges_is_marked_and_the_others_continue_unchanged(tiny: LoadedModel) -> None:
    study = StudySettings(noise=NOISE, training=TrainingSettings(epochs=2, evaluations=1))
    rows = random_rows(24)
    prepared = SimpleNamespace(train=rows[:18], held_out=rows[18:])

    def run(poison: bool) -> list[dict]:
        lockstep = Lockstep(study, AdapterStack(tiny, 3, rank=4, alpha=8), prepared)
        events = []
        for event in lockstep.run(lambda: False):
            events.append(event)
            if poison and event["event"] == "step" and event["step"] == 3:
                with torch.no_grad():
                    lockstep.stack.parameters()[0][2] = float("nan")
        return events

    poisoned, clean = run(poison=True), run(poison=False)
    marked = [event for event in poisoned if event["event"] == "diverged"]
    assert [(event["step"], list(event["arms"])) for event in marked] == [(4, ["uniform-alpha-5"])]
    for arm in ("control", "laplace-std-0.3"):
        assert losses_of(poisoned, arm) == pytest.approx(losses_of(clean, arm), abs=1e-5)


def test_a_stop_keeps_the_last_whole_step(tiny: LoadedModel) -> None:
    study = StudySettings(noise=NOISE, training=TrainingSettings(epochs=2))
    stack = AdapterStack(tiny, 3, rank=4, alpha=8)
    lockstep = Lockstep(study, stack, SimpleNamespace(train=random_rows(18), held_out=[]))
    asked = False
    events = lockstep.run(lambda: asked)
    for event in events:
        if event["step"] == 3:
            break
    before = [parameter.detach().clone() for parameter in stack.parameters()]
    asked = True
    with pytest.raises(Cancelled):
        next(events)
    for parameter, kept in zip(stack.parameters(), before, strict=True):
        assert torch.equal(parameter, kept)


def test_the_plan_covers_each_row_once_an_epoch_and_depends_on_the_seed() -> None:
    lengths = [7] * 10
    training = TrainingSettings(epochs=2, batch_size=4)
    steps = list(steps_after(0, 6, lengths, 4, seed=1))
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert count_steps(10, training) == 6
    for epoch in (0, 1):
        assert sorted(row for step in steps if step.epoch == epoch for row in step.rows) == list(range(10))
    assert steps == list(steps_after(0, 6, lengths, 4, seed=1))
    assert steps != list(steps_after(0, 6, lengths, 4, seed=2))
    for done in range(7):
        assert list(steps_after(done, 6, lengths, 4, seed=1)) == steps[done:]
    assert count_steps(10, TrainingSettings(epochs=1.5, batch_size=4)) == 4
    assert list(steps_after(0, 4, lengths, 4, seed=1)) == steps[:4]
    assert count_steps(10, TrainingSettings(epochs=2, batch_size=4, steps=5)) == 5
    assert count_steps(10, TrainingSettings(epochs=2, batch_size=4, steps=5, time_budget_seconds=9)) == 0


def test_a_run_longer_than_allowed_is_refused_at_once() -> None:
    check_length(10, TrainingSettings(epochs=2, batch_size=4), Limits(steps=6))
    check_length(10, TrainingSettings(epochs=2, batch_size=4), Limits(steps=12), seeds=2)
    with pytest.raises(DoesNotFit, match="64,000 steps"):
        check_length(10, TrainingSettings(steps=1000), Limits(steps=63_999), seeds=64)
    with pytest.raises(DoesNotFit, match="20,000,000 steps"):
        check_length(20_000, TrainingSettings(epochs=1000, batch_size=1), Limits())
    with pytest.raises(DoesNotFit, match="time budget of this study is 61 seconds"):
        check_length(10, TrainingSettings(time_budget_seconds=61), Limits(study_minutes=1))


def test_the_learning_rate_warms_up_and_decays() -> None:
    training = TrainingSettings(learning_rate=1.0, warmup=0.2, schedule="linear")
    rates = [rate_at(step, 10, training) for step in range(1, 11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(1 / 8)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_learning_rate_decays_as_transformers_has_it(schedule: str) -> None:
    name = {"constant": "constant_with_warmup"}.get(schedule, schedule)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    reference = get_scheduler(name, optimizer, num_warmup_steps=4, num_training_steps=20)
    training, expected = TrainingSettings(learning_rate=0.5, warmup=0.2, schedule=schedule), []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    found = [rate_at(step, 20, training) for step in range(1, 21)]
    assert found[4:] == pytest.approx(expected[4:], rel=1e-12)
    assert found[:4] == pytest.approx(expected[1:5], rel=1e-12)  # warm-up begins above 0: no step is without effect


@pytest.mark.parametrize(
    ("asked", "trained", "sampled"), [(0, 20, 8), (0, 120, 20), (0, 500, 32), (4, 500, 4), (64, 20, 64)]
)
def test_samples_are_a_sixth_of_the_rows_unless_asked_for(asked: int, trained: int, sampled: int) -> None:
    assert TrainingSettings(evaluation_rows=asked).sample_rows(trained) == sampled


def test_losses_are_measured_on_the_first_rows_of_each_part(tiny: LoadedModel) -> None:
    run, events = _run(tiny)
    measured = [event["rows"] for event in events if event["event"] == "evaluated"]
    assert len(measured) == 3  # before, and twice
    for rows in measured:
        assert len(rows["train"]["tokens"]) == 8 == run.sample_rows  # of 18
        assert len(rows["held_out"]["tokens"]) == 6  # all that there are


def test_what_the_last_evaluation_measured_is_not_measured_again(
    tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = _run(tiny)
    anew = row_measures(run.stack, run.prepared.held_out[:3], [2, 1], batch_size=2)
    asked: list[list[int]] = []

    def counted(stack: Any, sample: Any, slots: list[int], **more: Any) -> RowMeasures:
        asked.append(slots)
        return row_measures(stack, sample, slots, **more)

    monkeypatch.setattr("neftune_core.engine.lockstep.row_measures", counted)
    known = run.rows_now("held_out", [2, 1], 3, lambda: False)
    assert asked == []
    np.testing.assert_allclose(known.losses, anew.losses, atol=1e-4)  # float32, in different batches
    assert (known.hits == anew.hits).all()
    assert (known.tokens == anew.tokens).all()
    checkpoint.save(run, tmp_path)
    resumed = _lockstep(tiny)
    checkpoint.restore(resumed, tmp_path)
    again = resumed.rows_now("held_out", [2, 1], 3, lambda: False)
    assert asked == [run.alive]
    assert (again.losses == known.losses).all()  # in the same batches: to the last bit
    resumed.done += 1
    resumed.rows_now("held_out", [1], 3, lambda: False)
    assert len(asked) == 2  # these would be other weights


def test_measured_batches_hold_rows_of_similar_length() -> None:
    lengths = [5, 100, 7, 110, 400, 6, 105, 101]
    assert batches_by_length(lengths, 3) == [[0, 5, 2], [1, 7, 6], [3], [4]]
    assert batches_by_length(lengths, 1) == [[0], [5], [2], [1], [7], [6], [3], [4]]
    assert batches_by_length([], 4) == []
