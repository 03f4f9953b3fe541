"""Facts for the conditions of lesson tasks: the page state from the browser, and results of studies, computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neftune_core.errors import RecordError
from neftune_core.studies.records.record import Record

IN_BROWSER = {
    "noise.strength": "strength shown by the slider",
    "noise.unit": "unit of the strength",
    "noise.kind": "kind of noise",
    "noise.view": "view of the Noise tab",
    "noise.length_rule": "length in the divisor of alpha",
    "noise.length": "number of tokens in the sentence",
    "noise.share": "norm of the noise divided by that of the signal, both as root mean squares over the sentence",
    "noise.angle": "angle in degrees between the noisy and the clean token, median over tokens",
    "noise.flips": "number of tokens with a different nearest word after the noise is added",
    "noise.depth": "disturbance after the last layer divided by the clean vector, mean over tokens and draws",
    "noise.kept": "share of draws in which the most likely token after the selected one is the same as without noise",
    "noise.kinds_seen": "number of kinds of noise chosen since the lesson was opened",
    "noise.lengths_seen": "number of different sentence lengths since the lesson was opened",
    "noise.longest_seen": "number of tokens of the longest sentence since the lesson was opened",
    "train.epochs": "number of epochs in the settings",
    "train.seeds": "number of seeds in the settings",
    "answers.read": "number of prompts for which the recorded answers were opened",
    "recorded.step": "step of the recorded study selected with the slider",
    "study.waiting": "1 once one of the visitor's studies has waited in the queue",
    "sweep.recorded": "1 once a recorded sweep has been opened on the Sweep tab",
}
OF_STUDIES = {
    "study.finished": "1 once the study is finished",
    "study.noise_arms": "number of noise arms",
    "study.seeds": "number of seeds",
    "study.epochs": "number of epochs",
    "study.strongest": "highest alpha of the noise arms",
    "study.weakest": "lowest alpha of the noise arms",
    "study.control_rise": "last held-out loss of the control divided by its lowest",
    "study.worst": "last held-out loss of the worst noise arm minus that of the control, in nats",
    "study.best": "last held-out loss of the control minus that of the best noise arm, in nats",
}
OF_FAULTS = {
    "faults.right": "number of faults for which the script was run without the fault",
    "faults.wrong": "number of faults for which the script was run with the fault",
    "faults.pairs": "number of faults for which the script was run with and without the fault",
}
KNOWN = {**IN_BROWSER, **OF_STUDIES, **OF_FAULTS}


def study_facts(record: Record) -> dict[str, float]:
    """Return the facts in `OF_STUDIES` that can be computed from a record.

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
