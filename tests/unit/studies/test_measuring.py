"""Measures when a seed ends: the sign of the noise penalty, and where typing errors go."""

from __future__ import annotations

import numpy as np
import pytest

from neftune_core.data.chat import EncodedExample
from neftune_core.data.preparing import prepare
from neftune_core.data.settings import DataSettings
from neftune_core.engine.arm_factory import make_arms
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import TrainingSettings
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies import measuring
from neftune_core.studies.settings import CONTROL, MeasuringSettings, StudySettings


@pytest.fixture(scope="module")
def trained() -> Lockstep:
    """Return a short study whose arm has noise as large as the embeddings."""
    loaded = load(ModelSettings(device="cpu", precision="float32"))
    study = StudySettings(
        data=DataSettings(source="starter:world-noisy", rows=16),
        training=TrainingSettings(steps=2, batch_size=4, evaluations=1, evaluation_rows=4),
        measuring=MeasuringSettings(prompts=1, new_tokens=2),
    )
    arms = {"control": CONTROL, "noise": NoiseSettings(strength=1, unit="relative", kind="gaussian")}
    prepared = prepare(study.data, loaded.tokenizer, Limits())
    run = Lockstep(study, make_arms(loaded, len(arms), study.training), prepared, arms=arms)
    for _ in run.run(lambda: False):
        pass
    return run


def test_the_noise_penalty_is_what_the_noise_adds_to_the_loss(trained: Lockstep) -> None:
    found = measuring.measure_end(trained, [0, 1, 2], lambda: False)
    assert found.arms["control"]["noise_penalty"] == 0
    assert found.arms["noise"]["noise_penalty"] > 0.2  # nats; 0.45 on one machine


def test_typing_errors_go_into_the_prompt_and_leave_the_answer(
    trained: Lockstep, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[list[EncodedExample]] = []
    real = measuring.row_measures

    def noting(stack: object, rows: list[EncodedExample], *given: object, **options: object) -> object:
        measured.append(rows)
        return real(stack, rows, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring, "row_measures", noting)
    found = measuring.measure_end(trained, [0, 1, 2], lambda: False)
    original = {row.example.row: row for row in trained.prepared.held_out}
    for rows, rate in zip(measured[-len(measuring.RATES) :], measuring.RATES, strict=True):
        changed = 0
        for row in rows:
            before = original[row.example.row]
            assert np.array_equal(row.ids[row.trained], before.ids[before.trained])
            changed += not np.array_equal(row.ids[~row.trained], before.ids[~before.trained])
        assert changed > 0, rate
    assert found.robustness["typos"]["amounts"] == [0.0, *measuring.RATES]
