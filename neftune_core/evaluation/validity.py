"""What keeps a comparison from being judged: lost or broken arms, scores at the end of their range, too few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from neftune_core.evaluation.outcomes import MEASURES, Outcome, Outcomes, Question, Seeds
from neftune_core.evaluation.verdict_words import Line

LEAST_STEPS = 10
"""Fewer optimizer steps teach a model too little for any comparison."""
FAR_RATIO, FAR_NATS = 1.2, 0.1
"""How far above the base a loss has to end, both as a ratio and as a difference, to count as far worse."""
LOSSES = ("held_out_loss", "train_loss")


def obstacles(outcomes: Outcomes, question: Question) -> dict[str, str]:
    """Return why arms cannot be judged, by their names; arms that can be are left out.

    Args:
        outcomes: What the control and the arms reached.
        question: The measure and the epoch that are asked about.

    Returns:
        One of the keys of `REASONS` for each arm that has an obstacle, the most fundamental one.
    """
    found: dict[str, str] = {}
    for name, arm in outcomes.arms.items():
        sides = outcomes.control_of(name), arm
        reason = next((key for key, applies in REASONS.items() if applies(*sides, question)), None)
        if reason is not None:
            found[name] = reason
    return found


def warnings(outcomes: Outcomes, question: Question, found: Mapping[str, str]) -> Iterator[Line]:
    """Yield one sentence per obstacle, with what to change, and one for arms that lost only some of their seeds."""
    lead = Line("lead.all" if len(found) == len(outcomes.arms) else "lead.some")
    for reason in dict.fromkeys(found.values()):
        names = [name for name in found if found[name] == reason]
        yield Line(f"obstacle.{reason}", {"lead": lead, **_numbers(outcomes, question, names, reason)})
    control = {"control": outcomes.control} if not outcomes.own_controls else {}
    for name, runs in {**control, **outcomes.arms}.items():
        lost = [seed for seed, outcome in runs.items() if outcome.diverged]
        if lost and len(lost) < len(runs):
            yield Line("obstacle.some_seeds", {"arm": name, "lost": len(lost), "seeds": len(runs)})


def _is_lost(runs: Seeds) -> bool:
    return bool(runs) and all(outcome.diverged for outcome in runs.values())


def _is_broken(runs: Seeds, epoch: str) -> bool:
    """Whether the losses ended far above those of the untouched base, on training rows too where both are known.

    Overfitting raises the held-out loss alone, and is a result.
    """
    pairs = [_beside_base(runs, loss, epoch) for loss in LOSSES]
    known = [pair for pair in pairs if np.isfinite(pair).all()]
    return bool(known) and all(value > FAR_RATIO * base and value > base + FAR_NATS for base, value in known)


def _beside_base(runs: Seeds, measure: str, epoch: str) -> tuple[float, float]:
    """The means of the base and of the runs over the seeds that have both; NaN without any."""
    pairs = [(run.base.get(measure, np.nan), run.value(measure, epoch)) for run in runs.values()]
    known = [pair for pair in pairs if np.isfinite(pair).all()]
    base, value = np.mean(known, axis=0) if known else (np.nan, np.nan)
    return float(base), float(value)


def _values(runs: Sequence[Seeds], question: Question) -> list[float]:
    values = [outcome.value(question.measure, question.epoch) for seeds in runs for outcome in seeds.values()]
    return [value for value in values if np.isfinite(value)]


def _is_at(end: str, control: Seeds, arm: Seeds, question: Question) -> bool:
    """Whether every run of both reached the same end of the measure's range."""
    top = MEASURES[question.measure].top
    values = _values([control, arm], question)
    return top is not None and bool(values) and all(value == (top if end == "top" else 0.0) for value in values)


def _steps(runs: Seeds) -> int:
    """The fewest steps of any seed; 0 if unknown."""
    return min((outcome.steps for outcome in runs.values() if outcome.last and outcome.steps), default=0)


Applies = Callable[[Seeds, Seeds, Question], bool]
REASONS: dict[str, Applies] = {
    "control_diverged": lambda control, arm, question: _is_lost(control),
    "diverged": lambda control, arm, question: _is_lost(arm),
    "control_broken": lambda control, arm, question: _is_broken(control, question.epoch),
    "broken": lambda control, arm, question: _is_broken(arm, question.epoch),
    "few_steps": lambda control, arm, question: 0 < _steps(arm) < LEAST_STEPS,
    "bottom": lambda control, arm, question: _is_at("bottom", control, arm, question),
    "top": lambda control, arm, question: _is_at("top", control, arm, question),
}


def _numbers(outcomes: Outcomes, question: Question, names: Sequence[str], reason: str) -> dict[str, Any]:
    """The parameters of an obstacle's sentence."""
    first = outcomes.arms[names[0]]
    told: dict[str, Any] = {"arms": ", ".join(names), "measure": Line(f"measure.{question.measure}")}
    if reason == "few_steps":
        told |= {"steps": _steps(first), "least": LEAST_STEPS}
    if reason.endswith("broken"):
        runs = outcomes.control_of(names[0]) if reason.startswith("control") else first
        loss = next(loss for loss in LOSSES if np.isfinite(_beside_base(runs, loss, question.epoch)).all())
        base, value = _beside_base(runs, loss, question.epoch)
        told |= {"measure": Line(f"measure.{loss}"), "base": base, "value": value}
    if reason in ("bottom", "top"):
        told |= {"value": _values([first], question)[0], "rows": _rows(question, [*first.values()])}
    return told


def _rows(question: Question, outcomes: Sequence[Outcome]) -> Line | str:
    """On how many examples a measure was taken, in words; nothing if the examples were not kept."""
    counts = {len(outcome.scores[question.measure]) for outcome in outcomes if question.measure in outcome.scores}
    return Line("on_rows", {"rows": counts.pop()}) if len(counts) == 1 else ""
