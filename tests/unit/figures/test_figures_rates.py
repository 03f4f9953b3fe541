"""Figures of noise strength, learning rate and speed."""

from __future__ import annotations

from typing import Any

import pytest

from neftune_core.figures.dynamics import AVERAGED, rate_curves
from neftune_core.noise.settings import NoiseSettings

ARMS = {"control": NoiseSettings(strength=0), "uniform-alpha-5": NoiseSettings(strength=5, schedule="linear")}


def step(number: int, time: float, *, multiplier: float = 1.0, seed: int = 0) -> dict[str, Any]:
    arms = {"control": {"loss": 1.0}, "uniform-alpha-5": {"loss": 1.0, "noise_multiplier": multiplier}}
    rate = 0.004 / number
    return {
        "event": "step",
        "seed": seed,
        "step": number,
        "time": time,
        "tokens": 30,
        "learning_rate": rate,
        "arms": arms,
    }


def drawn(events: list[dict[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    return {trace["uid"]: (trace["x"], trace["y"]) for trace in rate_curves(events, ARMS)["data"]}


def test_the_noise_follows_its_schedule_and_the_control_has_none() -> None:
    found = drawn([step(1, 0.0), step(2, 1.0, multiplier=0.5), step(3, 2.0, multiplier=0.0)])
    assert found["uniform-alpha-5/noise"] == ([1, 2, 3], [5.0, 2.5, 0.0])
    assert "control/noise" not in found
    assert found["learning_rate"] == ([1, 2, 3], pytest.approx([0.004, 0.002, 0.004 / 3]))


def test_the_speed_is_tokens_of_all_arms_over_steps_in_a_row() -> None:
    half = [step(number, 0.5 * number) for number in range(1, AVERAGED + 2)]
    assert drawn(half)["speed"] == ([AVERAGED + 1], [pytest.approx(2 * 30 / 0.5)])
    measured: dict[str, Any] = {"event": "evaluated", "step": 3, "time": 1.6, "arms": {}}
    assert drawn([*half[:3], measured, *half[3:]])["speed"] == ([3, AVERAGED + 1], pytest.approx([120, 120]))
    assert "speed" not in drawn([half[0], measured, half[1]])
    other = [step(number, 9 + 0.25 * number, seed=1) for number in range(1, AVERAGED + 2)]
    assert drawn([*half, *other])["speed"][1] == [pytest.approx((120 + 240) / 2)]


def test_the_time_in_which_a_study_was_interrupted_does_not_count_for_the_speed() -> None:
    before = [step(number, 0.5 * number) for number in (1, 2, 3)]
    after = [step(number, 900 + 0.5 * number) for number in (4, 5, 6)]
    assert drawn([*before, *after])["speed"] == ([3, 6], pytest.approx([120, 120]))


def test_units_and_words_of_what_is_shown() -> None:
    figure = rate_curves([step(1, 0.0)], ARMS)
    assert figure["layout"]["yaxis"]["title"]["text"] == "strength (alpha)"
    assert figure["summary"] == "At the latest step: alpha 5: noise 5; learning rate 0.004."
    both = {**ARMS, "uniform-std-0.1": NoiseSettings(strength=0.1, unit="std")}
    assert rate_curves([], both)["layout"]["yaxis"]["title"]["text"] == "strength (in each arm's unit)"
    assert rate_curves([], both)["summary"] == "No step has been taken yet."


def test_a_record_that_lacks_numbers_is_drawn_as_far_as_it_goes() -> None:
    bare = {"event": "step", "step": 1, "arms": {"control": {"loss": 1.0}}}
    assert drawn([bare, {"event": "step", "step": 2}]) == {}
    odd = {"event": "step", "step": 1, "arms": {"uniform-alpha-5": {"loss": 1.0, "noise_multiplier": None}}}
    assert drawn([odd]) == {}
