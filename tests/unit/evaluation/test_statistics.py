"""Intervals and tests, compared with published examples and brute force."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neftune_core.evaluation.statistics import (
    EXACT_SEEDS,
    as_statistics,
    binomial_interval,
    binomial_tail,
    holm,
    holm_levels,
    mean_score,
    paired_bootstrap,
    seeds_needed,
    sign_flip,
    smallest_detectable,
    t_interval,
    t_quantile,
    t_tail,
    t_test,
)

# Darwin's 15 pairs of maize, in eighths of an inch (Fisher 1935, The Design of Experiments, sections 17 and 21).
MAIZE = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)

# Two-sided tails (point, degrees of freedom, tail) and limits (successes, trials, low, high) of scipy 1.17.1.
TAILS = [
    (0.5, 1, 0.7048327646991335),
    (1000000000.0, 1, 6.366197723675814e-10),
    (1e60, 5, 1.8980334491124728e-299),
    (12.0, 7, 6.358310378185098e-06),
    (1000000000000000.0, 20, 1.8042578124999978e-288),
    (3.0, 31, 0.005288746688991346),
    (40.0, 99, 6.385085160287251e-63),
    (1000.0, 99, 4.840172370588353e-200),
    (20.0, 1000, 4.0622884995248174e-75),
    (38.0, 1000, 2.918757842260071e-196),
]
LIMITS = [
    (0, 1, 0.0, 0.975),
    (1, 3, 0.008403758659612647, 0.9057006759492866),
    (7, 20, 0.1539092047845412, 0.5921885345328283),
    (19, 20, 0.7512672372279723, 0.998734910502044),
    (40, 100, 0.30329476870284483, 0.5027908495776665),
    (333, 1000, 0.30381780242015766, 0.36316921785200823),
    (1000, 1000, 0.9963179161033608, 1.0),
]


def test_fishers_maize_gives_fishers_numbers() -> None:
    assert sign_flip(MAIZE) == 2 * 863 / 2**15  # he counted 863 sums as great as 314
    assert t_test(MAIZE) == pytest.approx(0.0497, abs=5e-5)  # his t is 2.148 with 14 degrees of freedom
    assert t_interval(MAIZE).estimate == pytest.approx(20.933, abs=5e-4)
    assert t_interval(MAIZE).excludes_zero


# Two-sided points of any table of Student's t.
@pytest.mark.parametrize(
    ("level", "freedom", "point"),
    [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 5, 2.571), (0.95, 7, 2.365), (0.99, 10, 3.169), (0.9, 30, 1.697)],
)
def test_the_points_of_student_are_those_of_the_tables(level: float, freedom: int, point: float) -> None:
    assert t_quantile(level, freedom) == pytest.approx(point, abs=5e-4)  # the tables have three decimals
    assert 1 - t_tail(t_quantile(level, freedom), freedom) == pytest.approx(level, abs=1e-12)


@pytest.mark.parametrize("point", [0.0, 0.5, 3.0, 1e4, 1e12])
def test_small_tails_of_student_keep_their_digits(point: float) -> None:
    root = math.hypot(math.sqrt(2), point)
    assert t_tail(point, 1) == pytest.approx(2 / math.pi * math.atan2(1, point), rel=1e-12)
    assert t_tail(point, 2) == pytest.approx(2 / (root * (root + point)), rel=1e-12)


@pytest.mark.parametrize(("point", "freedom", "tail"), TAILS)
def test_tails_of_student_are_those_of_scipy_down_to_the_smallest_numbers(
    point: float, freedom: int, tail: float
) -> None:
    assert t_tail(point, freedom) == pytest.approx(tail, rel=1e-9)


@pytest.mark.parametrize(("successes", "trials", "low", "high"), LIMITS)
def test_limits_of_a_share_are_those_of_scipy(successes: int, trials: int, low: float, high: float) -> None:
    found = binomial_interval(successes, trials)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_a_clear_difference_has_a_small_p_and_not_zero() -> None:
    assert 0 < t_test(1 + 1e-4 * np.arange(12)) < 1e-30


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5).map(lambda value: round(value, 3)), min_size=1, max_size=9))
def test_the_sign_flip_test_counts_every_way_to_turn_the_signs(differences: list[float]) -> None:
    observed = abs(sum(differences)) - 1e-9 * sum(map(abs, differences))
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    assert sign_flip(differences) == np.mean([total >= observed for total in sums])


def test_fewer_than_six_seeds_cannot_reach_five_percent() -> None:
    assert sign_flip([1.0] * 5) == 0.0625
    assert sign_flip([1.0] * 6) == 0.03125


def test_above_the_exact_number_of_seeds_the_normal_sum_agrees() -> None:
    differences = np.random.default_rng(0).normal(0.2, 1, EXACT_SEEDS + 1)
    exact = sign_flip(differences[:-1])
    approximate = math.erfc(abs(differences[:-1].sum()) / math.sqrt(2 * (differences[:-1] ** 2).sum()))
    assert approximate == pytest.approx(exact, abs=0.01)  # the error of the normal sum is of the order of 1 / seeds
    assert 0 < sign_flip(differences) < 1


def test_no_difference_at_all_is_not_evidence() -> None:
    assert sign_flip([0.0] * 8) == 1
    assert t_test([0.0] * 8) == 1
    assert not t_interval([0.0] * 8).excludes_zero


def test_holm_steps_down_and_never_puts_a_larger_p_below_a_smaller_one() -> None:
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, and the last is raised to the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.floats(-1, 3), min_size=5, max_size=5), min_size=1, max_size=5))
def test_an_adjusted_interval_excludes_zero_exactly_where_holm_rejects(arms: list[list[float]]) -> None:
    p_values = [t_test(arm) for arm in arms]
    adjusted = holm(p_values)
    assume(all(abs(p - 0.05) > 1e-9 for p in adjusted))  # nearer than the rounding of the two
    intervals = [t_interval(arm, level) for arm, level in zip(arms, holm_levels(p_values), strict=True)]
    assert [interval.excludes_zero for interval in intervals] == [p < 0.05 for p in adjusted]


# Clopper and Pearson's limits for ten trials, as in any table of them.
@pytest.mark.parametrize(
    ("successes", "low", "high"), [(0, 0, 0.3085), (5, 0.1871, 0.8129), (8, 0.4439, 0.9748), (10, 0.6915, 1)]
)
def test_the_limits_of_a_share_are_those_of_clopper_and_pearson(successes: int, low: float, high: float) -> None:
    found = binomial_interval(successes, 10)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)  # four decimals are tabulated


def test_without_votes_there_is_no_result() -> None:
    found = binomial_interval(0, 0)
    assert (found.low, found.high) == (0, 1)
    assert math.isnan(found.estimate)


def test_the_tail_of_the_binomial_is_the_sum_of_its_terms() -> None:
    terms = [math.comb(12, count) * 0.3**count * 0.7 ** (12 - count) for count in range(13)]
    assert binomial_tail(5, 12, 0.3) == pytest.approx(sum(terms[5:]))


def test_the_bootstrap_draws_the_same_examples_for_both_sides_and_all_seeds() -> None:
    generator = np.random.default_rng(0)
    control = generator.normal(0, 10, (3, 40))
    found = paired_bootstrap(as_statistics(control + 2), as_statistics(control), mean_score, generator, resamples=200)
    assert (found.low, found.estimate, found.high) == pytest.approx((2, 2, 2))  # unpaired it would reach from -2 to 6


def test_the_bootstrap_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    generator = np.random.default_rng(1)
    difference = generator.normal(0, 1, (1, 400))
    zero = as_statistics(np.zeros((1, 400)))
    found = paired_bootstrap(as_statistics(difference), zero, mean_score, generator, resamples=4000)
    half = 1.96 * difference.std() / 20
    expected = (difference.mean() - half, difference.mean() + half)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.01)  # four errors of a quantile of 4,000 resamples


def test_a_bootstrap_in_several_pieces_makes_all_its_resamples() -> None:
    def score(sums: np.ndarray) -> np.ndarray:
        seen.append(len(sums))
        return mean_score(sums)

    seen: list[int] = []
    side = as_statistics(np.zeros((1, 30_000)))
    paired_bootstrap(side, side, score, np.random.default_rng(0), resamples=150)
    assert sum(seen) == 150 + 1  # and the estimate


def test_the_seeds_said_to_be_needed_have_the_power_they_promise() -> None:
    needed = seeds_needed(1.0, 1.0, least=2)
    assert needed == 10  # tables of the paired t-test: a difference of one deviation, power 0.8
    generator = np.random.default_rng(3)
    found = np.mean([t_interval(generator.normal(1, 1, needed)).excludes_zero for _ in range(500)])
    assert found == pytest.approx(0.8, abs=0.06)  # three errors of a share of 500
    assert seeds_needed(1e-3, 1.0, least=2) is None
    assert smallest_detectable(2.0, 8) == pytest.approx(2 * smallest_detectable(1.0, 8))


def test_after_the_first_claim_that_fails_all_have_its_level() -> None:
    assert holm_levels([0.03, 0.04]) == pytest.approx([0.975, 0.975])
    assert holm_levels([0.04, 0.01, 0.03]) == pytest.approx([0.975, 1 - 0.05 / 3, 0.975])
    assert holm_levels([0.01, 0.04]) == pytest.approx([0.975, 0.95])


@pytest.mark.parametrize("seed", range(5))
def test_levels_reject_what_holms_procedure_rejects(seed: int) -> None:
    p_values = np.random.default_rng(seed).uniform(0, 0.05, 5).tolist()
    rejected: set[int] = set()
    for left, index in zip(range(5, 0, -1), sorted(range(5), key=p_values.__getitem__), strict=True):
        if p_values[index] > 0.05 / left:
            break
        rejected.add(index)
    levels = holm_levels(p_values)
    assert {index for index in range(5) if p_values[index] <= 1 - levels[index]} == rejected
