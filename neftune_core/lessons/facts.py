"""Facts for the conditions of lesson tasks. Those about studies are computed here, and all others in the browser."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from neftune_core.errors import RecordError
from neftune_core.home import assets
from neftune_core.studies.records.record import Record

KNOWN = frozenset(
    f"{group}.{name}"
    for group, names in tomllib.loads((assets() / "lessons" / "facts.toml").read_text(encoding="utf-8")).items()
    for name in names
)
"""Names of all facts."""


def study_facts(record: Record) -> dict[str, float]:
    """Return the facts about a study that can be computed from its record, by name; empty without readable settings.

    Losses are in nats per response token, averaged over the seeds, with noise off.
    """
    try:
        study = record.study
    except RecordError:
        return {}
    found = {
        "study.noise_arms": float(len(study.noise)),
        "study.seeds": float(study.seeds),
        "study.epochs": float(study.training.epochs),
    }
    alphas = [noise.strength for noise in study.noise if noise.unit == "alpha"]
    if alphas:
        found |= {"study.strongest": max(alphas), "study.weakest": min(alphas)}
    ending = record.ending()
    found["study.finished"] = float(ending is not None and ending["event"] == "finished")
    losses = held_out_losses(record.events())
    last = {arm: curve[-1] for arm, curve in losses.items()}
    noisy = [last[name] for name, noise in study.arms.items() if not noise.is_silent and name in last]
    if "control" in losses and found["study.finished"]:
        found["study.control_rise"] = losses["control"][-1] / max(min(losses["control"]), 1e-9)
        if noisy:
            found["study.worst"] = max(noisy) - last["control"]
            found["study.best"] = last["control"] - min(noisy)
    return found


def held_out_losses(events: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the held-out loss of each arm at every evaluation, averaged over the seeds that all arms share.

    Seeds that trained only a second control are ignored. Diverged arms are left out, as they have no final loss.
    """
    measured = [event for event in events if event["event"] == "evaluated"]
    arms = {arm for event in measured for arm in event["arms"]}
    seeds = {event.get("seed") for event in measured if arms <= set(event["arms"])}
    lost = {arm for event in events if event["event"] == "diverged" for arm in event.get("arms", {})}
    gathered: dict[str, dict[int, list[float]]] = {}
    for event in measured:
        for arm, numbers in event["arms"].items():
            if event.get("seed") in seeds and arm not in lost and isinstance(numbers.get("held_out_loss"), int | float):
                gathered.setdefault(arm, {}).setdefault(event["step"], []).append(numbers["held_out_loss"])
    return {arm: [sum(v) / len(v) for _, v in sorted(steps.items())] for arm, steps in gathered.items()}
