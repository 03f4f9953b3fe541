"""What is new in a figure since an earlier one."""

from __future__ import annotations

import json
from typing import Any

from neftune_core.figures.base import changes
from neftune_core.figures.curves import loss_curves
from neftune_core.noise.settings import NoiseSettings

ARMS = {"control": NoiseSettings(strength=0), "uniform-alpha-5": NoiseSettings(strength=5)}


def steps(count: int, seed: int = 0) -> list[dict[str, Any]]:
    return [
        {"event": "step", "seed": seed, "step": step, "steps": 400, "arms": {arm: {"loss": 1 / step} for arm in ARMS}}
        for step in range(1, count + 1)
    ]


def test_a_longer_log_adds_its_points_alone() -> None:
    found = changes(loss_curves(steps(300), ARMS), loss_curves(steps(302), ARMS))
    assert found is not None
    assert "order" not in found
    assert set(found["rest"]) <= {"summary"}
    assert found["traces"] == {
        f"{arm}/loss/0": {"set": {}, "lists": {"x": (300, [301, 302]), "y": (300, [1 / 301, 1 / 302])}} for arm in ARMS
    }


def test_an_unchanged_figure_has_nothing_new() -> None:
    assert changes(loss_curves(steps(9), ARMS), loss_curves(steps(9), ARMS)) == {"rest": {}, "traces": {}}


def test_new_traces_come_whole_and_in_order() -> None:
    old, new = loss_curves(steps(400), ARMS), loss_curves([*steps(400), *steps(1, seed=1)], ARMS)
    found = changes(old, new)
    assert found is not None
    assert found["order"] == [trace["uid"] for trace in new["data"]]
    assert found["traces"]["control/loss/1"] == {"whole": next(t for t in new["data"] if t["uid"] == "control/loss/1")}
    assert len(json.dumps(found["traces"]["control/loss/0"])) < 600  # it becomes thin; its points stay


def test_traces_without_own_names_are_no_base() -> None:
    same = {"data": [{"uid": "a", "x": [1]}, {"uid": "a", "x": [2]}]}
    assert changes(same, same) is None
    assert changes({"data": [{"x": [1]}]}, {"data": []}) is None
