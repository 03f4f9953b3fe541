"""Facts that a lesson's task can use: page state, known to the browser, and results of studies, computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neftune_core.errors import RecordError
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import StudySettings

IN_BROWSER = {
    "noise.strength": "the strength that the slider shows",
    "noise.unit": "its unit",
    "noise.kind": "the kind of noise",
    "noise.view": "the view of the Noise tab",
    "noise.length_rule": "the length that alpha is divided by",
    "noise.length": "tokens of the sentence",
    "noise.share": "the noise over the signal, as root mean squares over the sentence",
    "noise.angle": "degrees by which the median token turns",
    "noise.flips": "tokens that another word has come nearest to, at this strength",
    "noise.depth": "the disturbance after the last layer over the clean vector, mean of tokens and draws (view Depth)",
    "noise.kept": "share of draws in which the next word after the chosen token stays the same (Next word view)",
    "noise.kinds_seen": "kinds chosen since the lesson was opened",
    "noise.lengths_seen": "sentences of different lengths since the lesson was opened",
    "noise.longest_seen": "tokens of the longest sentence since the lesson was opened",
    "train.epochs": "epochs that are set",
    "train.seeds": "seeds that are set",
    "answers.read": "prompts whose recorded answers were opened",
    "recorded.step": "the step of the recorded study that the slider was moved to",
    "study.waiting": "1 once a study of yours has waited for others",
    "sweep.recorded": "1 once a recorded sweep was opened on the Sweep tab",
}
OF_STUDIES = {
    "study.finished": "1 once a study of yours is through",
    "study.noise_arms": "its arms with noise",
    "study.seeds": "its seeds",
    "study.epochs": "its epochs",
    "study.strongest": "the highest alpha among its arms",
    "study.weakest": "the lowest alpha among its arms with noise",
    "study.control_rise": "the control's last held-out loss over its lowest",
    "study.worst": "by how much the worst noise arm's last held-out loss is above the control's, in nats",
    "study.best": "by how much the best noise arm's last held-out loss is below the control's, in nats",
}
OF_FAULTS = {
    "faults.right": "faults whose right script was run",
    "faults.wrong": "faults that were switched on and run",
    "faults.pairs": "faults of which both were run",
}
KNOWN = {**IN_BROWSER, **OF_STUDIES, **OF_FAULTS}


def study_facts(record: Record) -> dict[str, float]:
    """Return those facts in `OF_STUDIES` that can be computed from a record.

    Losses are in nats per response token, as means over the seeds, with noise off.
    """
    try:
        study = record.study
    except RecordError:
        return {}
    found = _settings(study)
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


def _settings(study: StudySettings) -> dict[str, float]:
    alphas = [noise.strength for noise in study.noise if noise.unit == "alpha"]
    found = {
        "study.noise_arms": float(len(study.noise)),
        "study.seeds": float(study.seeds),
        "study.epochs": float(study.training.epochs),
    }
    if alphas:
        found |= {"study.strongest": max(alphas), "study.weakest": min(alphas)}
    return found


def held_out_losses(events: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return each arm's held-out loss at every evaluation, as means over the seeds that all arms share.

    Seeds that only trained a second control are ignored. Diverged arms are left out, as they have no final loss.
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
