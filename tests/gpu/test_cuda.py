"""Training on CUDA: the guarantees of the CPU hold there as well."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import losses_of

from neftune_core.bench.matrix import random_rows
from neftune_core.engine.arm_factory import make_training_arms
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import TrainingSettings
from neftune_core.errors import NotAvailable
from neftune_core.evaluation.answers import stream_answers
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.device import choose_device
from neftune_core.models.loading import LoadedModel
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies import checkpoint
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import CONTROL, EXAMPLE, StudySettings
from neftune_core.studies.study import run_study
from tests.weights import weights_hash

pytestmark = pytest.mark.gpu

ARMS = {
    "control": CONTROL,
    **{kind: NoiseSettings(strength=5, kind=kind) for kind in KINDS if not KINDS[kind].drops},
    "token-dropout": NoiseSettings(strength=0.3, unit="share", kind="token-dropout"),
    "at layers": NoiseSettings(strength=0.3, unit="relative", kind="gaussian", sites="embedding, 1"),
}
FEW = {name: ARMS[name] for name in ("control", "uniform")}


def made(loaded: LoadedModel, arms: dict[str, NoiseSettings], **training: Any) -> Lockstep:
    settings = TrainingSettings(**({"steps": 5, "learning_rate": 2e-3, "evaluations": 1, "lora_rank": 4} | training))
    rows = random_rows(loaded, 16, 24)
    prepared = SimpleNamespace(train=rows[:12], held_out=rows[12:])
    return Lockstep(
        StudySettings(training=settings), make_training_arms(loaded, len(arms), settings), prepared, arms=arms
    )


def losses(run: Lockstep, arm: str) -> list[float]:
    return losses_of(run.run(lambda: False), arm)


def on_processor(loaded: LoadedModel) -> LoadedModel:
    """Return the same model on the CPU in float32."""
    model = copy.deepcopy(loaded.model).cpu().float()
    return dataclasses.replace(loaded, model=model, device=torch.device("cpu"), precision="float32")


@pytest.mark.parametrize("training", [{}, {"arms_at_once": "in-turn"}, {"method": "full"}])
def test_arms_have_the_losses_that_they_have_on_the_processor(
    in_float32: LoadedModel, training: dict[str, str]
) -> None:
    for name in ARMS:
        arms = {name: ARMS[name]}
        here = losses(made(in_float32, arms, **training), name)
        there = losses(made(on_processor(in_float32), arms, **training), name)
        assert here == pytest.approx(there, abs=1e-3), name  # the same draws; products of a different library


@pytest.mark.parametrize("training", [{}, {"arms_at_once": "in-turn"}, {"method": "full"}])
def test_the_base_never_changes_and_the_fast_precision_stays_near(
    on_gpu: LoadedModel, in_float32: LoadedModel, training: dict[str, str]
) -> None:
    before = weights_hash(on_gpu.model)
    rounded, exact = (
        losses(made(on_gpu, FEW, **training), "uniform"),
        losses(made(in_float32, FEW, **training), "uniform"),
    )
    assert rounded == pytest.approx(exact, rel=0.05)  # bfloat16 carries eight bits
    assert weights_hash(on_gpu.model) == before


@pytest.mark.parametrize("training", [{}, {"method": "full"}])
def test_float16_is_scaled_and_stays_near_float32(
    in_float16: LoadedModel, in_float32: LoadedModel, training: dict[str, str]
) -> None:
    run = made(in_float16, FEW, **training)
    assert run.scale.value > 1
    run.scale.value = 2.0**24  # overflows at first: the step is taken again at half the scale, until it does not
    found = losses(run, "uniform")
    assert run.scale.value < 2.0**24
    assert found == pytest.approx(losses(made(in_float32, FEW, **training), "uniform"), rel=0.02)


@pytest.mark.parametrize("training", [{"lora_dropout": 0.2}, {"method": "full"}])
def test_a_run_is_bit_identical_when_resumed(on_gpu: LoadedModel, tmp_path: Path, training: dict[str, Any]) -> None:
    unbroken, broken_off, resumed = (made(on_gpu, FEW, **training) for _ in range(3))
    expected = list(unbroken.run(lambda: False))
    for event in broken_off.run(lambda: False):
        if (event["event"], event["step"]) == ("step", 3):
            break
    checkpoint.save(broken_off, tmp_path)
    checkpoint.restore(resumed, tmp_path)
    assert list(resumed.run(lambda: False)) == [event for event in expected if event["step"] > 3]


@pytest.mark.parametrize("execution", ["graphs", "compiled", "captured"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_layers_that_are_not_run_eagerly_have_the_losses_of_eager_ones(
    in_float32: LoadedModel, execution: str, method: str
) -> None:
    eager = losses(made(in_float32, FEW, method=method), "uniform")
    assert losses(made(in_float32, FEW, method=method, execution=execution), "uniform") == pytest.approx(
        eager, abs=1e-3
    )


@pytest.mark.parametrize("training", [{}, {"accumulation": 2}, {"arms_at_once": "in-turn"}, {"method": "full"}])
def test_cuda_graphs_are_recorded_for_every_kind_of_noise(in_float32: LoadedModel, training: dict[str, Any]) -> None:
    eager = [losses(made(in_float32, ARMS, **training), name) for name in ("symmetric", "adversarial")]
    run = made(in_float32, ARMS, execution="graphs", **training)
    events = [event for event in run.run(lambda: False) if event["event"] == "step"]
    assert run.stack.fallback() == ""
    found = [[event["arms"][name]["loss"] for event in events] for name in ("symmetric", "adversarial")]
    for one, other in zip(found, eager, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_answers_of_base_and_arms_come_from_one_decode(on_gpu: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_core.evaluation.answers.end_ids", lambda tokenizer: {1})
    run = made(on_gpu, FEW)
    *_, last = stream_answers(run.stack, [0, 1, 2], [[3, 4, 5], [7, 8]], AnswerSettings(new_tokens=6))
    assert all(answer.ended for by_prompt in last for answer in by_prompt)


def test_a_study_from_settings_to_answers(tmp_path: Path) -> None:
    study = EXAMPLE.model_copy(
        update={
            "model": ModelSettings(device="cuda"),
            "training": EXAMPLE.training.model_copy(update={"steps": 4, "evaluations": 2}),
            "answers": AnswerSettings(new_tokens=4),
        }
    )
    record = create(study, owner="", folder=tmp_path / "study")
    assert list(run_study(record, Limits(), lambda: False))[-1]["event"] == "finished"
    assert record.answers()
    assert record.about_table("machine")["gpus"]


def test_one_of_several_gpus_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    count = torch.cuda.device_count()
    monkeypatch.setenv("NEFTUNE_DEVICE", f"cuda:{count - 1}")
    assert choose_device("auto") == torch.device(f"cuda:{count - 1}")
    with pytest.raises(NotAvailable, match=f"CUDA GPUs found: {count}"):
        choose_device(f"cuda:{count}")
