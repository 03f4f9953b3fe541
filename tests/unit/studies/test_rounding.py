"""The effect of the number format is measured once, against float32, and changes no state."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import random_rows

from neftune_core.engine.arm_factory import FullCopies
from neftune_core.engine.clean_loss import row_measures
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import evaluation_batch
from neftune_core.engine.stack import AdapterStack
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.measuring import measure_rounding
from neftune_core.studies.settings import StudySettings, TrainingSettings
from tests.weights import weights_hash


def _arms(loaded: LoadedModel, method: str) -> Any:
    return AdapterStack(loaded, 2, rank=4, alpha=8) if method == "lora" else FullCopies(loaded, 2)


def _trained(loaded: LoadedModel, method: str) -> Lockstep:
    training = TrainingSettings(epochs=2, learning_rate=5e-3, evaluations=2, batch_size=4, method=method)
    study = StudySettings(noise=(NoiseSettings(strength=5),), training=training)
    rows = random_rows(24)
    run = Lockstep(study, _arms(loaded, method), SimpleNamespace(train=rows[:18], held_out=rows[18:]))
    list(run.run(lambda: False))
    return run


def _bfloat16(tiny: LoadedModel) -> LoadedModel:
    return replace(tiny, model=copy.deepcopy(tiny.model).to(torch.bfloat16), precision="bfloat16")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_floor_of_bfloat16_is_the_distance_to_a_float32_model_of_the_same_weights(
    tiny: LoadedModel, method: str
) -> None:
    run = _trained(_bfloat16(tiny), method)
    floor = measure_rounding(run, lambda: False)
    size, sample = evaluation_batch(run.study.training), run.prepared.held_out
    measured, moved = row_measures(run.stack, sample, [1, 2], batch_size=size), []
    for place, slot in enumerate((1, 2)):
        wide = replace(tiny, model=copy.deepcopy(run.stack.loaded.model).float())
        reference = _arms(wide, method)
        if method == "lora":
            for own, theirs in zip(reference.parameters(), run.stack.parameters(), strict=True):
                own.data.copy_(theirs.data)
        else:
            reference.start(0)
            for own, theirs in zip(reference.trained(), run.stack.trained(), strict=True):
                if slot in own.slots:
                    own.parameter.data.copy_(theirs.parameter.data.to(torch.bfloat16))
        again = row_measures(reference, sample, [slot], batch_size=size)
        moved.append(abs(again.of(0).loss - measured.of(place).loss))
    assert floor["precision"] == "bfloat16"
    assert floor["against"] == "float32"
    assert floor["largest"]["held_out_loss"] == pytest.approx(max(moved), abs=1e-6)  # float32 sums in a different order
    assert floor["typical"]["held_out_loss"] == pytest.approx(math.sqrt(np.mean(np.square(moved))), abs=1e-6)
    assert floor["largest"]["held_out_loss"] > 1e-5  # eight bits of a loss of four


@pytest.mark.parametrize("method", ["lora", "full"])
def test_measuring_the_floor_changes_nothing(tiny: LoadedModel, method: str) -> None:
    run = _trained(_bfloat16(tiny), method)
    given = {"slots": run.alive, "batch_size": evaluation_batch(run.study.training)}
    before, losses = weights_hash(run.stack.tree), row_measures(run.stack, run.prepared.held_out, **given).losses
    measure_rounding(run, lambda: False)
    assert weights_hash(run.stack.tree) == before
    assert np.array_equal(row_measures(run.stack, run.prepared.held_out, **given).losses, losses)


def test_float32_has_a_floor_a_thousand_times_smaller_and_never_none(tiny: LoadedModel) -> None:
    floor = measure_rounding(_trained(tiny, "lora"), lambda: False)
    assert floor["precision"] == "float32"
    assert np.finfo(np.float32).eps < floor["largest"]["held_out_loss"] < 1e-5


def test_without_memory_for_a_float32_copy_it_is_not_measured(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _trained(_bfloat16(tiny), "lora")
    monkeypatch.setattr("neftune_core.studies.measuring.available_memory", lambda device: 0)
    assert measure_rounding(run, lambda: False) == {}
