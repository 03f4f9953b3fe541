"""Schedules: start and end, energy, and the adaptive schedule."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neftune_core.noise.schedules import LAST_SHARE, SCHEDULES, AdaptiveSchedule, multipliers

BY_TIME = sorted(name for name, schedule in SCHEDULES.items() if schedule.multiplier is not None)
ENDS = {
    "constant": (1, 1),
    "linear": (1, 0),
    "cosine": (1, 0),
    "exponential": (1, LAST_SHARE),
    "warm-up": (0, 1),
    "switch-off": (1, 0),
}


@pytest.mark.parametrize("schedule", BY_TIME)
def test_a_schedule_begins_and_ends_where_its_name_says(schedule: str) -> None:
    found = multipliers(schedule, 101)
    assert len(found) == 101
    assert (found[0], found[-1]) == pytest.approx(ENDS[schedule])


@given(schedule=st.sampled_from(BY_TIME), steps=st.integers(1, 300), point=st.floats(0, 1))
def test_a_schedule_stays_between_zero_and_one_and_is_monotonic(schedule: str, steps: int, point: float) -> None:
    found = multipliers(schedule, steps, point=point)
    assert all(0 <= value <= 1 for value in found)
    assert found in (sorted(found), sorted(found, reverse=True))


@example(schedule="switch-off", steps=5, point=0.0)  # no noise at all
@given(schedule=st.sampled_from(BY_TIME), steps=st.integers(1, 300), point=st.floats(0, 1))
def test_equal_energy_makes_the_mean_square_one(schedule: str, steps: int, point: float) -> None:
    plain = multipliers(schedule, steps, point=point)
    scaled = multipliers(schedule, steps, point=point, equal_energy=True)
    if not any(plain):
        assert scaled == plain  # no noise at all cannot be scaled
        return
    assert sum(value * value for value in scaled) / steps == pytest.approx(1)
    factor = max(scaled) / max(plain)
    assert scaled == pytest.approx([factor * value for value in plain])


def test_half_of_a_cosine_is_half() -> None:
    assert multipliers("cosine", 5) == pytest.approx([1, 0.5 + math.sqrt(2) / 4, 0.5, 0.5 - math.sqrt(2) / 4, 0])


def test_the_point_is_where_warm_up_is_complete_and_noise_switched_off() -> None:
    assert multipliers("warm-up", 11, point=0.5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])
    assert multipliers("warm-up", 3, point=0) == [1, 1, 1]
    assert multipliers("switch-off", 10, point=0.3) == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]


@given(steps=st.integers(1, 50))
def test_noise_switched_off_after_the_whole_run_is_constant_and_after_none_is_none(steps: int) -> None:
    assert multipliers("switch-off", steps, point=1) == [1.0] * steps
    assert multipliers("switch-off", steps, point=0) == [0.0] * steps


def test_the_adaptive_schedule_has_no_multipliers_beforehand() -> None:
    with pytest.raises(ValueError, match="follows the loss"):
        multipliers("adaptive", 10)


def test_the_adaptive_schedule_follows_the_smoothed_loss_down() -> None:
    schedule = AdaptiveSchedule()
    assert schedule.multiplier == 1
    found = []
    for loss in [4.0] + [1.0] * 60:
        schedule.follow(loss)
        found.append(schedule.multiplier)
    assert found[0] == 1
    assert found == sorted(found, reverse=True)
    assert found[1] == pytest.approx(0.9 + 0.1 / 4)
    assert found[-1] == pytest.approx(0.25, abs=0.01)  # 0.9 to the power of 60 is 0.002


def test_the_adaptive_schedule_never_exceeds_its_start_and_passes_over_what_is_not_finite() -> None:
    schedule = AdaptiveSchedule()
    schedule.follow(math.nan)
    assert schedule.multiplier == 1
    schedule.follow(2.0)
    schedule.follow(50.0)
    assert schedule.multiplier == 1
    before = AdaptiveSchedule(schedule.first, schedule.smoothed)
    schedule.follow(math.inf)
    assert schedule == before
    assert AdaptiveSchedule(first=0.0, smoothed=0.0).multiplier == 0
