"""Layers that run from recordings have the losses and gradients of eager ones; a tape stands in for CUDA graphs."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from each_family import family_cases
from short_study import short_rows, short_study
from tape_recorder import TapeRecorder
from tiny import family_rows, random_rows

from neftune_core.engine.arm_factory import make_arms, make_training_arms
from neftune_core.engine.armset import ArmSet, Dropout
from neftune_core.engine.graphs import MOST_SHAPES, CapturedLayer, capture_layers
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import TrainingSettings
from neftune_core.errors import Cancelled, NotAvailable
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import CONTROL, StudySettings
from neftune_core.studies.study import run_study
from tests.stress.families.engine import loaded_family
from tests.stress.families.tiny import FAMILIES

ARMS = {
    "control": CONTROL,
    "uniform": NoiseSettings(strength=5),
    "at layers": NoiseSettings(strength=0.3, unit="relative", kind="gaussian", sites="embedding, 1"),
    "symmetric": NoiseSettings(strength=5, kind="symmetric"),
    "adversarial": NoiseSettings(strength=5, kind="adversarial"),
}


def made(loaded: LoadedModel, *, captured: bool, **training: Any) -> tuple[Lockstep, list[CapturedLayer]]:
    usual = {"steps": 6, "learning_rate": 2e-3, "evaluations": 2, "lora_rank": 4, "batch_size": 3, "clip_norm": 0.5}
    settings = TrainingSettings(**(usual | training))
    stack = make_arms(loaded, len(ARMS), settings)
    layers = capture_layers(stack, TapeRecorder) if captured else []
    rows = random_rows(12)
    prepared = SimpleNamespace(train=rows[:9], held_out=rows[9:])
    return Lockstep(StudySettings(training=settings), stack, prepared, arms=ARMS), layers


def numbers(run: Lockstep) -> list[dict[str, Any]]:
    return [event["arms"] for event in run.run(lambda: False) if event["event"] in ("step", "evaluated")]


@pytest.mark.parametrize(
    "training",
    [{}, {"accumulation": 3}, {"arms_at_once": "in-turn"}, {"method": "full", "learning_rate": 1e-4}],
    ids=["lora", "accumulated", "in turn", "full"],
)
def test_recorded_layers_have_every_number_of_eager_ones(tiny: LoadedModel, training: dict[str, Any]) -> None:
    run, layers = made(tiny, captured=True, **training)
    assert numbers(run) == numbers(made(tiny, captured=False, **training)[0])
    assert all(layer.replays > 10 and not layer.refused for layer in layers)
    assert len(layers) == 2


def test_full_copies_that_are_rounded_for_each_pass_are_recorded(tiny: LoadedModel) -> None:
    rounded = replace(tiny, model=deepcopy(tiny.model).bfloat16(), precision="bfloat16")
    run, layers = made(rounded, captured=True, method="full")
    assert numbers(run) == numbers(made(rounded, captured=False, method="full")[0])
    assert all(layer.replays > 10 and not layer.refused for layer in layers)


@pytest.mark.parametrize("training", [{"lora_dropout": 0.2}, {"method": "full", "model_dropout": 0.1}])
def test_layers_that_draw_masks_run_eagerly(tiny: LoadedModel, training: dict[str, Any]) -> None:
    run, layers = made(tiny, captured=True, **training)
    assert numbers(run) == numbers(made(tiny, captured=False, **training)[0])
    assert all(layer.replays == 0 and not layer.refused for layer in layers)


@pytest.mark.parametrize("family", family_cases(sorted(FAMILIES)))
def test_families_are_recorded_or_run_eagerly_with_equal_losses(family: str) -> None:
    loaded = loaded_family(FAMILIES[family])
    found = []
    for captured in (True, False):
        settings = TrainingSettings(steps=6, learning_rate=2e-3, evaluations=1, lora_rank=4, batch_size=3)
        stack = make_arms(loaded, 2, settings)
        if captured:
            capture_layers(stack, TapeRecorder)
        rows = family_rows(loaded)
        prepared = SimpleNamespace(train=rows[:6], held_out=rows[6:])
        arms = {"control": CONTROL, "noise": NoiseSettings(strength=5)}
        found.append(numbers(Lockstep(StudySettings(training=settings), stack, prepared, arms=arms)))
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        for arm in one:
            assert one[arm] == pytest.approx(other[arm], rel=1e-4)  # sums over several uses, in a different order


def test_what_cannot_be_recorded_runs_eagerly_and_is_reported(tiny: LoadedModel) -> None:
    class Refusing(TapeRecorder):
        def record(self, run: Any) -> Any:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    run, _ = made(tiny, captured=False)
    refused = capture_layers(run.stack, Refusing)
    assert numbers(run) == numbers(made(tiny, captured=False)[0])
    assert [layer.refused for layer in refused] == ["operation not permitted when stream is capturing"] * 2
    assert run.stack.fallback() == "operation not permitted when stream is capturing"


def test_an_interrupted_pass_is_forgotten(tiny: LoadedModel) -> None:
    run, layers = made(tiny, captured=True)
    steps = list(run.steps())
    for step in (steps[0], steps[0]):
        run.step(step, 1e-3, lambda: False)
    before = [layer.replays for layer in layers]
    assert min(before) > 0
    polls = iter([False, True])
    with pytest.raises(Cancelled):
        run.step(steps[0], 1e-3, lambda: next(polls, True))
    run.step(steps[0], 1e-3, lambda: False)
    assert [layer.replays for layer in layers] > before


def test_the_number_of_recordings_is_bounded(tiny: LoadedModel) -> None:
    run, layers = made(tiny, captured=True)
    layer = layers[0]
    with run.stack.training([1, 2], noise=None, dropout=Dropout((0.0, 0.0), (0,))) as tree:
        for length in range(4, 4 + 2 * MOST_SHAPES):
            for _ in range(2):
                layer.end_pass()
                tree(input_ids=torch.ones(2, length, dtype=torch.long), use_cache=False)
    assert layer.replays == MOST_SHAPES


def test_graphs_without_a_gpu_are_refused_in_training_alone(tiny: LoadedModel) -> None:
    settings = TrainingSettings(execution="graphs")
    with pytest.raises(NotAvailable, match="CUDA"):
        make_training_arms(tiny, 1, settings)
    assert make_arms(tiny, 1, settings).slots == 2  # a record of a GPU is opened on any machine


def test_a_study_says_at_its_end_that_its_layers_ran_without_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def falling_back(*given: Any) -> ArmSet:
        arms = make_arms(*given)
        arms.fallback = lambda: "out of memory"
        return arms

    monkeypatch.setattr("neftune_core.studies.study.make_training_arms", falling_back)
    record = create(short_study(short_rows(tmp_path)), owner="", folder=tmp_path / "study")
    *_, last = run_study(record, Limits(), lambda: False)
    assert last["event"] == "finished"
    assert str(last["message"]) == ("The layers ran without CUDA graphs, which could not be captured: out of memory")
