"""The unit draws: statistics, dependencies and scale."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from page_numbers import equivalents

from neftune_core.errors import InvalidSetting
from neftune_core.noise.kinds import KINDS, draw_unit
from neftune_core.noise.strength import UNITS, standard_deviation
from neftune_core.randomness import Purpose, stream

SAMPLE = (400, 1000)
NOISES = sorted(name for name, kind in KINDS.items() if not kind.drops)
DROPS = sorted(name for name, kind in KINDS.items() if kind.drops)


@pytest.mark.parametrize("kind", NOISES)
def test_a_unit_draw_has_mean_zero_and_standard_deviation_one(kind: str) -> None:
    draw = draw_unit(kind, (1, 2, 3, 0), *SAMPLE).astype(np.float64)
    count = draw.size
    assert abs(draw.mean()) < 5 / math.sqrt(count)  # five standard errors
    error_of_variance = math.sqrt((KINDS[kind].kurtosis - 1) / count)
    assert abs((draw**2).mean() - 1) <= 5 * error_of_variance + 1e-12  # plus and minus one: no error but float64's


@pytest.mark.parametrize("kind", NOISES)
def test_a_unit_draw_has_the_kurtosis_and_bound_of_its_kind(kind: str) -> None:
    draw = draw_unit(kind, (4, 0, 0, 0), *SAMPLE).astype(np.float64)
    assert np.abs(draw).max() <= KINDS[kind].bound + 1e-6  # rounding of sqrt(3) in float32
    kurtosis = (draw**4).mean() / (draw**2).mean() ** 2
    assert kurtosis == pytest.approx(KINDS[kind].kurtosis, rel=0.05)  # Laplace: standard error about 1.5%


@pytest.mark.parametrize("kind", NOISES)
def test_neighbouring_coordinates_tokens_and_examples_are_uncorrelated(kind: str) -> None:
    draw = draw_unit(kind, (5, 0, 0, 0), *SAMPLE).astype(np.float64)
    other = draw_unit(kind, (5, 0, 1, 0), *SAMPLE).astype(np.float64)
    for pair in ((draw[:, 1:], draw[:, :-1]), (draw[1:], draw[:-1]), (draw, other)):
        assert abs((pair[0] * pair[1]).mean()) < 5 / math.sqrt(pair[0].size)  # five standard errors


@pytest.mark.parametrize("kind", DROPS)
def test_a_kind_that_drops_draws_one_even_number_a_token(kind: str) -> None:
    draw = draw_unit(kind, (1, 2, 3, 0), 100_000, 64)
    assert draw.shape == (100_000, 1)
    assert draw[0] == 1  # never dropped
    draw = draw[1:]
    assert 0 <= draw.min() < draw.max() < 1
    for share in (0.0, 0.1, 0.5, 1.0):
        error = 5 * math.sqrt(share * (1 - share) / len(draw))  # five standard errors
        assert abs((draw < share).mean() - share) <= error


@given(kind=st.sampled_from(sorted(KINDS)), length=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0))
def test_a_draw_of_any_shape_is_float32_finite_and_within_the_bound(
    kind: str, length: int, width: int, seed: int
) -> None:
    draw = draw_unit(kind, (seed, 0, 0, 0), length, width)
    assert draw.dtype == np.float32
    assert draw.shape == (length, 1 if KINDS[kind].drops else width)
    assert np.isfinite(draw).all()
    assert np.abs(draw).max() <= KINDS[kind].bound + 1e-6  # rounding of sqrt(3) in float32


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_depends_only_on_its_key(kind: str) -> None:
    first = draw_unit(kind, (7, 1, 5, 0), 10, 16)
    for source in (np.random.seed, torch.manual_seed, random.seed):
        source(99)
    draw_unit(kind, (1, 1, 1, 1), 3, 3)
    assert np.array_equal(first, draw_unit(kind, (7, 1, 5, 0), 10, 16))
    for other in [(8, 1, 5, 0), (7, 2, 5, 0), (7, 1, 6, 0), (7, 1, 5, 1)]:
        assert not np.array_equal(first, draw_unit(kind, other, 10, 16))
    assert not np.array_equal(first, draw_unit(kind, (7, 1, 5, 0), 10, 16, Purpose.LIVE_NOISE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_leaves_the_global_generators_as_they_were(kind: str) -> None:
    before = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    draw_unit(kind, (0, 0, 0, 0), 10, 16)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (str(np.random.get_state()), random.getstate())


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_written_in_place_is_the_same(kind: str) -> None:
    width = 1 if KINDS[kind].drops else 16
    place = np.full((3, 10, width), 7, dtype=np.float32)
    KINDS[kind].draw(stream(Purpose.NOISE, 7, 1, 5, 0), place[1, 2:8])
    assert np.array_equal(place[1, 2:8], draw_unit(kind, (7, 1, 5, 0), 6, 16))
    place[1, 2:8] = 7
    assert np.array_equal(place, np.full_like(place, 7))  # nothing beside it


def test_a_negative_seed_gets_a_sentence() -> None:
    with pytest.raises(InvalidSetting, match="cannot be negative"):
        draw_unit("uniform", (-1, 0, 0, 0), 2, 2)


def test_uniform_noise_at_alpha_is_the_papers_rule() -> None:
    alpha, length, width = 5.0, 64, 576
    bound = alpha / math.sqrt(length * width)  # arXiv 2310.05914: uniform on +-1, times alpha / sqrt(L d)
    noise = draw_unit("uniform", (0, 0, 0, 0), length, width) * standard_deviation(alpha, "alpha", length, width)
    assert np.abs(noise).max() <= bound * (1 + 1e-6)
    assert np.abs(noise).max() > 0.999 * bound
    assert noise.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)


STRENGTHS, LENGTHS, WIDTHS, SIGNALS = (
    st.floats(1e-6, 1000),
    st.integers(1, 4096),
    st.integers(1, 8192),
    st.floats(1e-6, 100),
)


@given(strength=STRENGTHS, unit=st.sampled_from(sorted(UNITS)), length=LENGTHS, width=WIDTHS, signal=SIGNALS)
def test_equivalents_of_a_strength_are_the_same_noise(
    strength: float, unit: str, length: int, width: int, signal: float
) -> None:
    same = equivalents(strength, unit, length, width, signal)
    assert same.keys() == UNITS.keys()
    assert same[unit] == pytest.approx(strength)
    for other, value in same.items():
        expected = standard_deviation(strength, unit, length, width, signal)
        assert standard_deviation(value, other, length, width, signal) == pytest.approx(expected)


@given(strength=STRENGTHS, length=LENGTHS, width=WIDTHS, signal=SIGNALS)
def test_each_unit_scales_with_what_it_names_and_with_nothing_else(
    strength: float, length: int, width: int, signal: float
) -> None:
    def of(unit: str, length: int = length, width: int = width, signal: float = signal) -> float:
        return standard_deviation(strength, unit, length, width, signal)

    assert of("alpha") == pytest.approx(strength / math.sqrt(3 * length * width))
    assert of("alpha", signal=2 * signal) == of("alpha")
    assert of("std") == of("std", 2 * length, 3 * width, 4 * signal) == strength
    assert of("relative") == of("relative", 2 * length, 3 * width) == pytest.approx(strength * signal)


def test_vectors_of_zero_have_no_strength_relative_to_them() -> None:
    assert equivalents(5, "alpha", 10, 10, signal=0.0)["relative"] == math.inf
