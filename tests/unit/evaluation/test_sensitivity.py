"""The loss of an untrained model under noise, compared with passes over the same noised embeddings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import random_rows

from neftune_core.data.chat import EncodedExample
from neftune_core.engine.passes import STRATEGIES
from neftune_core.evaluation.sensitivity import Sensitivity, measure_sensitivity
from neftune_core.figures.sensitivity import loss_by_strength
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.kinds import EMBEDDING_SITE, KINDS, STEP_MODES, draw_unit
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation
from tests.weights import weights_hash

STRENGTHS = [2.0, 20.0]
ROWS = random_rows(3)
WIDTH = 32


def noise_of(kind: str, place: int, length: int, strength: float) -> np.ndarray:
    """Return the noise of the first epoch on that row at an alpha, `[length, width]`."""
    unit = draw_unit(kind, (0, 0, place, EMBEDDING_SITE), length, WIDTH)
    return unit * np.float32(standard_deviation(strength, "alpha", length, WIDTH))


def summed(tiny: LoadedModel, row: EncodedExample, noise: np.ndarray) -> float:
    """Return the nats summed over the response, with `noise` added to the embeddings."""
    ids = torch.from_numpy(row.ids.astype(np.int64))[None]
    labels = torch.where(torch.from_numpy(row.trained)[None], ids, -100)
    with torch.no_grad():
        vectors = tiny.model.get_input_embeddings()(ids) + torch.from_numpy(noise)
        mean = tiny.model(inputs_embeds=vectors, labels=labels).loss
    return float(mean) * int(row.trained[1:].sum())


def measured(tiny: LoadedModel, noise: NoiseSettings) -> Sensitivity:
    return list(measure_sensitivity(tiny, ROWS, noise, STRENGTHS))[-1]


def test_every_row_is_measured_with_its_own_noise_at_every_strength(tiny: LoadedModel) -> None:
    found = measured(tiny, NoiseSettings())
    for place, row in enumerate(ROWS):
        noises = [noise_of("uniform", place, len(row.ids), strength) for strength in (0.0, *STRENGTHS)]
        expected = [summed(tiny, row, noise) for noise in noises]
        assert found.losses[place] == pytest.approx(expected, rel=1e-4)  # float32 sums in a different order
    total = sum(sum(row.trained[1:]) for row in ROWS)
    assert found.tokens == [sum(row.trained[1:]) for row in ROWS]
    assert found.means[0] == pytest.approx(sum(losses[0] for losses in found.losses) / total)


def test_a_symmetric_pair_counts_with_the_mean_of_its_halves(tiny: LoadedModel) -> None:
    found = measured(tiny, NoiseSettings(kind="symmetric"))
    noise = noise_of("symmetric", 0, len(ROWS[0].ids), 20.0)
    halves = [summed(tiny, ROWS[0], sign * noise) for sign in (1, -1)]
    assert found.losses[0][2] == pytest.approx(sum(halves) / 2, rel=1e-4)


def test_adversarial_noise_climbs_above_the_draw_it_begins_with(tiny: LoadedModel) -> None:
    first = measured(tiny, NoiseSettings())
    climbed = measured(tiny, NoiseSettings(kind="adversarial"))
    still = measured(tiny, NoiseSettings(kind="adversarial", ascent_steps=0))
    assert climbed.means[2] > first.means[2]
    assert still.means == pytest.approx(first.means, rel=1e-5)


def test_every_step_mode_is_run_in_training_and_without_it(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert STEP_MODES.keys() == STRATEGIES.keys()
    for mode in STEP_MODES:
        monkeypatch.setitem(KINDS, "uniform", replace(KINDS["uniform"], passes=mode))
        assert measured(tiny, NoiseSettings(ascent_steps=1)).means[2] > 0
    monkeypatch.setitem(KINDS, "uniform", replace(KINDS["uniform"], passes="another"))
    with pytest.raises(KeyError, match="another"):
        measured(tiny, NoiseSettings())


def test_dropping_every_token_is_the_loudest_control(tiny: LoadedModel) -> None:
    noise = NoiseSettings(kind="token-dropout", unit="share", strength=0.1)
    *_, found = measure_sensitivity(tiny, ROWS[:1], noise, [1.0])
    nothing = -tiny.model.get_input_embeddings()(torch.from_numpy(ROWS[0].ids.astype(np.int64)))[None].numpy()
    nothing[:, 0] = 0  # the first token stays
    assert found.losses[0][1] == pytest.approx(summed(tiny, ROWS[0], nothing), rel=1e-4)


def test_the_model_is_as_it_was(tiny: LoadedModel) -> None:
    before, modules = weights_hash(tiny.model), list(tiny.model.modules())
    measured(tiny, NoiseSettings(kind="adversarial"))
    assert weights_hash(tiny.model) == before
    assert list(tiny.model.modules()) == modules
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


def test_progress_grows_pass_by_pass_to_the_end(tiny: LoadedModel) -> None:
    shares = [found.progress for found in measure_sensitivity(tiny, ROWS, NoiseSettings(), STRENGTHS)]
    assert shares == sorted(set(shares))
    assert len(shares) == len(ROWS) * (1 + len(STRENGTHS))
    assert shares[-1] == 1


def test_the_figure_shows_rows_mean_and_the_loss_without_noise(tiny: LoadedModel) -> None:
    found = measured(tiny, NoiseSettings())
    figure = loss_by_strength(found, "held-out rows")
    *rows, level, mean = figure["data"]
    assert len(rows) == len(ROWS)
    assert mean["y"] == pytest.approx(found.means[1:], abs=1e-5)  # five decimals are shown
    assert level["y"] == pytest.approx([found.means[0]] * 2, abs=1e-5)
    assert (figure["kind"], figure["unit"]) == ("uniform", "alpha")
    assert f"{found.means[0]:.3f} nats per token without noise" in figure["summary"]
    assert "3 held-out rows" in figure["summary"]


def test_an_unfinished_figure_shows_its_progress(tiny: LoadedModel) -> None:
    stream = measure_sensitivity(tiny, ROWS, NoiseSettings(), STRENGTHS)
    assert loss_by_strength(next(stream), "held-out rows")["data"] == []
    for _ in range(len(STRENGTHS)):
        found = next(stream)
    assert "1 of 3 held-out rows so far" in loss_by_strength(found, "held-out rows")["summary"]
