"""Training settings in the loop: arms with other methods, time budgets, and the numbers of a step."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import losses_of, random_rows

from neftune_core.data.chat import EncodedExample
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.optimizer import ArmOptimizer
from neftune_core.engine.settings import MethodSettings, TrainingSettings, evaluation_batch
from neftune_core.engine.stack import AdapterStack
from neftune_core.errors import InvalidSetting
from neftune_core.models.accelerator import accelerator
from neftune_core.models.loading import LoadedModel
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import from_toml, to_toml
from neftune_core.studies import checkpoint
from neftune_core.studies.settings import PRESETS, StudySettings


def lockstep(
    loaded: LoadedModel, study: StudySettings, arms: Any = None, rows: list[EncodedExample] | None = None, **more: Any
) -> Lockstep:
    stack = AdapterStack(loaded, len(arms or study.arms), rank=4, alpha=8)
    prepared = SimpleNamespace(train=rows or random_rows(12), held_out=random_rows(4, seed=1))
    return Lockstep(study, stack, prepared, arms=arms, **more)


def training(**values: Any) -> TrainingSettings:
    return TrainingSettings(**({"steps": 4, "learning_rate": 5e-3, "evaluations": 1, "lora_dropout": 0.3} | values))


def losses(run: Lockstep, arm: str) -> list[float]:
    return losses_of(run.run(lambda: False), arm)


def test_an_arm_with_another_method_is_the_control_of_a_study_with_that_method(tiny: LoadedModel) -> None:
    values = [{"lora_dropout": 0.5}, {"weight_decay": 5.0}, {"lora_dropout": 0.0, "weight_decay": 2.0}]
    study = StudySettings(noise=(), methods=tuple(MethodSettings(**value) for value in values), training=training())
    names = ["control", "lora-dropout-0.5", "weight-decay-5", "lora-dropout-0-weight-decay-2"]
    assert list(study.arms) == names
    events = [event for event in lockstep(tiny, study).run(lambda: False) if event["event"] == "step"]
    last = [event["arms"] for event in events][-1]
    assert len({last[name]["loss"] for name in names}) == len(names)
    for name, value in zip(names, [{}, *values], strict=True):
        alone = StudySettings(training=training(**value))
        expected = losses(lockstep(tiny, alone, {"control": study.arms["control"]}), "control")
        # float32: batched products of a different size
        assert [event["arms"][name]["loss"] for event in events] == pytest.approx(expected, abs=1e-5), name


def test_decay_and_dropout_of_an_arm_are_bit_identical_to_those_of_the_whole_study(tiny: LoadedModel) -> None:
    own = StudySettings(
        noise=(),
        methods=(MethodSettings(lora_dropout=0.3, weight_decay=0.5),),
        training=training(lora_dropout=0),
    )
    name = "lora-dropout-0.3-weight-decay-0.5"
    of_all = StudySettings(training=training(weight_decay=0.5))
    arm = {name: own.arms[name]}
    assert losses(lockstep(tiny, own, arm), name) == losses(lockstep(tiny, of_all, arm), name)


def test_weight_decay_by_slot_is_that_of_adamw(tiny: LoadedModel) -> None:
    stack = AdapterStack(tiny, 2, rank=4, alpha=8)
    stack.start(0)
    optimizer = ArmOptimizer(stack, 1e-2)
    parameters = stack.parameters()
    copies = {
        decay: [parameter.detach()[slot].clone() for parameter in parameters] for slot, decay in ((1, 0.0), (2, 0.4))
    }
    optimizers = {decay: torch.optim.AdamW(copy, lr=1e-2, weight_decay=decay) for decay, copy in copies.items()}
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        gradients = [torch.randn(parameter.shape, generator=generator) for parameter in parameters]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        decays = {1: 0.0, 2: 0.4}
        optimizer.step({1: 1.0, 2: 1.0}, optimizer.norms(), learning_rate=1e-2, clip_norm=0, decay=decays)
        for slot, decay in ((1, 0.0), (2, 0.4)):
            for copy, gradient in zip(copies[decay], gradients, strict=True):
                copy.grad = gradient[slot].clone()
            optimizers[decay].step()
    for slot, decay in ((1, 0.0), (2, 0.4)):
        for parameter, copy in zip(parameters, copies[decay], strict=True):
            torch.testing.assert_close(parameter.detach()[slot], copy, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"noise": (), "methods": ()}, "at least one arm with noise or with another method"),
        ({"methods": ({},)}, "without a value"),
        ({"methods": ({"lora_dropout": 0.3},)}, "lora-dropout-0.3 is the same as the control"),
        ({"methods": ({"weight_decay": 1}, {"weight_decay": 1})}, "wo arms with other methods are the same"),
        ({"methods": ({"lora_dropout": 1.5},)}, "it must be 0.95 or less"),
    ],
)
def test_a_method_that_makes_no_difference_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words):
        StudySettings(training=training(), **values)


def test_a_study_with_other_methods_comes_back_from_its_toml() -> None:
    study = StudySettings(methods=(MethodSettings(lora_dropout=0.1), MethodSettings(weight_decay=0.1)))
    assert from_toml(StudySettings, to_toml(study, comments=True)) == study
    older = to_toml(study).replace("[[methods]]", "[[regularisers]]")  # its name in records of earlier versions
    assert "[[regularisers]]" in older
    assert from_toml(StudySettings, older) == study


def test_the_numbers_of_a_step_are_those_of_the_adapters(tiny: LoadedModel) -> None:
    study = StudySettings(noise=(NoiseSettings(strength=5),), training=training(clip_norm=0.05))
    run = lockstep(tiny, study)
    start = {slot: run.stack.slot_state(slot) for slot in (1, 2)}
    events = [event for event in run.run(lambda: False) if event["event"] == "step"]
    for slot in (1, 2):
        now, then = run.stack.slot_state(slot), start[slot]
        changes = [new - old for name in now for new, old in zip(now[name], then[name], strict=True)]
        expected = torch.cat([change.flatten() for change in changes]).norm()
        numbers = events[-1]["arms"][run.name(slot)]
        assert numbers["weight_distance"] == pytest.approx(float(expected), rel=1e-5)
    for event in events:
        for numbers in event["arms"].values():
            assert numbers["clipped"] == (numbers["gradient_norm"] > 0.05)
            assert "noise_multiplier" not in numbers
    assert any(numbers["clipped"] for numbers in events[0]["arms"].values())


def test_a_time_budget_becomes_steps_before_the_first_one_and_a_resumed_run_keeps_them(
    tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = (NoiseSettings(strength=5, schedule="linear"), NoiseSettings(strength=5, kind="symmetric"))
    study = StudySettings(noise=arms, training=training(time_budget_seconds=3600, schedule="linear"))
    clock = iter(range(10_000))
    monkeypatch.setattr(time, "perf_counter", lambda: 10.0 * next(clock))  # every look at it is ten seconds later
    run = lockstep(tiny, study, rows=random_rows(1) * 12)
    assert run.total == 0
    untrained = [parameter.detach().clone() for parameter in run.stack.parameters()]
    events = run.run(lambda: False)
    planned = next(events)
    # seen at 0: the start; at 10: one evaluation; to 120: a step that is not timed and five that are; at 130: the end
    assert planned == {
        "event": "planned",
        "step": 0,
        "steps": run.total,
        "seconds_per_step": pytest.approx(10.0),
        "seconds_per_evaluation": 30.0,  # the first was of the base alone, the others are of three arms
    }
    assert run.total == (3600 - 130 - 30) // 10  # what has passed, and the evaluation that is to come
    assert all(torch.equal(one, other) for one, other in zip(run.stack.parameters(), untrained, strict=True))
    first = next(events)
    assert (first["event"], first["step"], first["steps"]) == ("evaluated", 0, run.total)
    steps = [next(events) for _ in range(3)]
    assert steps[0]["learning_rate"] > steps[1]["learning_rate"] > steps[2]["learning_rate"]
    assert steps[0]["arms"]["uniform-alpha-5-linear"]["noise_multiplier"] == 1
    checkpoint.save(run, tmp_path)
    again = lockstep(tiny, study, rows=random_rows(1) * 12)
    checkpoint.restore(again, tmp_path)
    assert again.total == run.total
    assert next(again.run(lambda: False)) == next(events)


def test_one_slow_start_does_not_plan_a_short_study(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    study = StudySettings(training=training(time_budget_seconds=3600))
    ticks = [0, 1, 0, *(second for step in (300, 1, 1, 1, 1) for second in (0, step)), 1]
    moments = iter(np.cumsum(ticks).astype(float).tolist())
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    planned = next(lockstep(tiny, study, rows=random_rows(1) * 12).run(lambda: False))
    assert planned["seconds_per_step"] == pytest.approx(1.0)
    assert planned["steps"] > 2900


def test_the_number_of_steps_and_a_budget_too_small_for_one_are_kept(tiny: LoadedModel) -> None:
    run = lockstep(tiny, StudySettings(training=training(steps=5)))
    assert [event["step"] for event in run.run(lambda: False) if event["event"] == "step"] == [1, 2, 3, 4, 5]
    run = lockstep(tiny, StudySettings(training=training(time_budget_seconds=1e-6)))
    assert [event["step"] for event in run.run(lambda: False) if event["event"] == "step"] == [1]


def test_a_time_budget_plans_no_more_steps_than_the_server_allows(tiny: LoadedModel) -> None:
    run = lockstep(tiny, StudySettings(training=training(steps=0, time_budget_seconds=3600)), most_steps=7)
    assert next(run.run(lambda: False))["steps"] == run.total == 7


def test_others_have_their_turn_between_the_batches_of_an_evaluation(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []
    monkeypatch.setattr(accelerator, "yield_turn", lambda: turns.append("turn"))
    run = lockstep(tiny, StudySettings(training=training(evaluations=1)), rows=random_rows(48))
    next(run.run(lambda: False))
    batches = -(-32 // evaluation_batch(run.study.training))  # 32 rows are measured
    assert len(turns) >= batches


def test_presets_are_settings_for_every_model() -> None:
    bundled, other = ModelSettings(), ModelSettings(source="somebody/some-model")
    assert set(PRESETS) == {"quick look", "the paper's", "small data, many epochs"}
    quick = PRESETS["quick look"].training(bundled)
    assert 0 < quick.time_budget_seconds <= 60
    for model in (bundled, other):
        paper = PRESETS["the paper's"].training(model)
        assert (paper.learning_rate, paper.epochs, paper.batch_size) == (5e-5, 3, 128)
        assert PRESETS["small data, many epochs"].training(model).epochs >= 10
