"""The draws: their statistics against theory, and what they depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neftune_core.noise.batch import draw_batch
from neftune_core.noise.kinds import KINDS, draw_unit
from neftune_core.noise.preview import preview
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import equivalents, standard_deviation

SAMPLE = (400, 1000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_draw_has_mean_zero_and_standard_deviation_one(kind: str) -> None:
    draw = draw_unit(kind, (1, 2, 3, 0), *SAMPLE).astype(np.float64)
    count = draw.size
    assert abs(draw.mean()) < 5 / math.sqrt(count)  # five standard errors
    error_of_variance = math.sqrt((KINDS[kind].kurtosis - 1) / count)
    assert abs(draw.var() - 1) < 5 * error_of_variance


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_draw_has_the_kurtosis_and_bound_of_its_kind(kind: str) -> None:
    draw = draw_unit(kind, (4, 0, 0, 0), *SAMPLE).astype(np.float64)
    assert np.abs(draw).max() <= KINDS[kind].bound + 1e-6  # rounding of sqrt(3) in float32
    kurtosis = (draw**4).mean() / (draw**2).mean() ** 2
    assert kurtosis == pytest.approx(KINDS[kind].kurtosis, rel=0.05)  # Laplace: standard error about 1.5 %


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_depends_on_its_key_alone(kind: str) -> None:
    first = draw_unit(kind, (7, 1, 5, 0), 10, 16)
    assert np.array_equal(first, draw_unit(kind, (7, 1, 5, 0), 10, 16))
    for other in [(8, 1, 5, 0), (7, 2, 5, 0), (7, 1, 6, 0), (7, 1, 5, 1)]:
        assert not np.array_equal(first, draw_unit(kind, other, 10, 16))


def test_uniform_noise_at_alpha_is_the_papers_rule() -> None:
    alpha, length, width = 5.0, 64, 576
    bound = alpha / math.sqrt(length * width)  # arXiv 2310.05914: uniform on +-1, times alpha / sqrt(L d)
    noise = draw_unit("uniform", (0, 0, 0, 0), length, width) * standard_deviation(alpha, "alpha", length, width)
    assert np.abs(noise).max() <= bound * (1 + 1e-6)
    assert np.abs(noise).max() > 0.999 * bound
    assert noise.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)


@given(
    strength=st.floats(0, 1000),
    unit=st.sampled_from(["alpha", "std"]),
    length=st.integers(1, 4096),
    width=st.integers(1, 8192),
)
def test_equivalents_of_a_strength_are_the_same_noise(strength: float, unit: str, length: int, width: int) -> None:
    same = equivalents(strength, unit, length, width)
    assert same[unit] == pytest.approx(strength)
    for other, value in same.items():
        expected = standard_deviation(strength, unit, length, width)
        assert standard_deviation(value, other, length, width) == pytest.approx(expected)


def test_padding_gets_no_noise_and_each_row_is_scaled_by_its_true_length() -> None:
    arms = [NoiseSettings(strength=0), NoiseSettings(strength=5)]
    noise = draw_batch(arms, keys=[(0, 0, 0, 0), (0, 0, 1, 0)], lengths=[4, 9], padded=16, width=8)
    added = noise.add_to(torch.zeros(2 * 2, 16, 8)).view(2, 2, 16, 8)
    assert torch.equal(added[0], torch.zeros(2, 16, 8))
    for row, length in enumerate([4, 9]):
        assert torch.equal(added[1, row, length:], torch.zeros(16 - length, 8))
        expected = draw_unit("uniform", (0, 0, row, 0), length, 8) * standard_deviation(5, "alpha", length, 8)
        torch.testing.assert_close(added[1, row, :length], torch.from_numpy(expected).float())


def test_a_draw_does_not_change_with_padding_batch_or_order() -> None:
    arms = [NoiseSettings(strength=3, kind="gaussian")]
    together = draw_batch(arms, keys=[(0, 0, 5, 0), (0, 0, 6, 0)], lengths=[7, 3], padded=32, width=4)
    alone = draw_batch(arms, keys=[(0, 0, 6, 0)], lengths=[3], padded=3, width=4)
    assert torch.equal(together.units["gaussian"][1, :3], alone.units["gaussian"][0])


def test_arms_of_a_kind_share_their_unit_draw() -> None:
    arms = [NoiseSettings(strength=1, unit="std"), NoiseSettings(strength=3, unit="std")]
    added = draw_batch(arms, keys=[(0, 0, 0, 0)], lengths=[5], padded=5, width=4).add_to(torch.zeros(2, 5, 4))
    torch.testing.assert_close(added[1], 3 * added[0])


def test_noise_keeps_the_precision_of_the_vectors_and_spares_those_with_a_gradient() -> None:
    noise = draw_batch([NoiseSettings(strength=1, unit="std")], [(0, 0, 0, 0)], [5], 5, 4)
    assert noise.add_to(torch.zeros(1, 5, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    clean = torch.zeros(1, 5, 4, requires_grad=True)
    noise.add_to(clean * 1).sum().backward()
    assert torch.equal(clean.grad, torch.ones(1, 5, 4))


@given(strength=st.floats(0.001, 10), seed=st.integers(0, 1000), kind=st.sampled_from(sorted(KINDS)))
def test_the_preview_gives_the_norms_of_the_noised_vectors(strength: float, seed: int, kind: str) -> None:
    clean = np.random.default_rng(0).standard_normal((6, 32)).astype(np.float32)
    shown = preview(clean, list("abcdef"), seed)
    noised = clean + strength * draw_unit(kind, (seed, 0, 0, 0), 6, 32)
    numbers = shown["kinds"][kind]
    closed = np.sqrt(
        np.array(shown["signal"]) + 2 * strength * np.array(numbers["dot"]) + strength**2 * np.array(numbers["square"])
    )
    assert np.allclose(closed, np.linalg.norm(noised, axis=1), rtol=1e-4)  # six digits are sent
