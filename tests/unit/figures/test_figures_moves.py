"""Figures of the gradient norm, clipping and the distance of the weights."""

from __future__ import annotations

from typing import Any

import pytest

from neftune_core.figures.dynamics import move_curves
from neftune_core.noise.settings import NoiseSettings

ARMS = {"control": NoiseSettings(strength=0), "uniform-alpha-5": NoiseSettings(strength=5)}


def step(number: int, norm: float, seed: int = 0) -> dict[str, Any]:
    numbers = {"loss": 1.0, "gradient_norm": norm, "clipped": norm > 1, "weight_distance": number / 10}
    return {"event": "step", "seed": seed, "step": number, "steps": 4, "arms": {"control": numbers}}


def curves(events: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {trace["uid"]: trace["y"] for trace in move_curves(events, ARMS, **more)["data"]}


def test_every_number_of_every_arm_is_drawn_in_its_panel() -> None:
    events = [step(1, 2.0), step(2, 0.5), step(3, 3.0), step(4, 0.5)]
    drawn = curves(events)
    assert drawn["control/gradient_norm"] == [2.0, 0.5, 3.0, 0.5]
    assert drawn["control/clipped"] == pytest.approx([100, 50, 200 / 3, 50])
    assert drawn["control/weight_distance"] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    figure = move_curves(events, ARMS, clip_norm=1.0)
    assert len({trace["yaxis"] for trace in figure["data"]}) == 3
    assert sum(trace["showlegend"] for trace in figure["data"]) == 1
    assert figure["layout"]["shapes"][0]["y0"] == 1.0
    assert "gradient norm 0.5, clipped 50%, distance from the start 0.4" in figure["summary"]


def test_seeds_are_drawn_as_their_mean() -> None:
    drawn = curves([step(1, 1.0), step(2, 1.0), step(1, 3.0, seed=1), step(2, 5.0, seed=1)])
    assert drawn["control/gradient_norm"] == [2.0, 3.0]


def test_a_record_of_before_and_an_empty_one_are_drawn_as_far_as_they_go() -> None:
    old = {"event": "step", "step": 1, "arms": {"control": {"loss": 1.0, "gradient_norm": None}}}
    for events in ([], [old]):
        figure = move_curves(events, ARMS)
        assert figure["data"] == []
        assert figure["summary"] == "No step has been taken yet."
