"""Obstacles to judging a comparison: diverged or broken arms, scores at the end of their range, too few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from neftune_core.evaluation.outcomes import MEASURES, Outcome, Outcomes, Question, Seeds
from neftune_core.evaluation.verdict_words import Line, agreeing

LEAST_STEPS = 10
"""With fewer optimizer steps a model learns too little for any comparison."""
FAR_RATIO, FAR_NATS = 1.2, 0.1
"""Ratio to and difference from the base loss that must both be exceeded to count as far worse."""
LOSSES = ("held_out_loss", "train_loss")


def obstacles(outcomes: Outcomes, question: Question) -> dict[str, str]:
    """Return the reason for each arm that cannot be judged.

    Args:
        outcomes: Results of the control and the arms.
        question: Measure and epoch in question.

    Returns:
        One key of `REASONS` per affected arm, the most fundamental one.
    """
    found: dict[str, str] = {}
    for name, arm in outcomes.arms.items():
        sides = outcomes.control_of(name), arm
        reason = next((key for key, applies in REASONS.items() if applies(*sides, question)), None)
        if reason is not None:
            found[name] = reason
    return found


def warnings(outcomes: Outcomes, question: Question, found: Mapping[str, str]) -> Iterator[Line]:
    """Yield one sentence per obstacle, with its remedy, and one per arm that lost only some of its seeds.

    Args:
        outcomes: Results of the control and the arms.
        question: Measure and epoch in question.
        found: Reasons by arm, from `obstacles`.

    Yields:
        Sentences for the verdict.
    """
    lead = Line("lead.all" if len(found) == len(outcomes.arms) else "lead.some")
    for reason in dict.fromkeys(found.values()):
        names = [name for name in found if found[name] == reason]
        parameters = {"lead": lead, **_parameters(outcomes, question, names, reason)}
        yield Line(agreeing(f"obstacle.{reason}", parameters.get("steps")), parameters)
    control = {"control": outcomes.control} if not outcomes.own_controls else {}
    for name, runs in {**control, **outcomes.arms}.items():
        lost = [seed for seed, outcome in runs.items() if outcome.diverged]
        if lost and len(lost) < len(runs):
            yield Line("obstacle.some_seeds", {"arm": name, "lost": len(lost), "seeds": len(runs)})


def _is_lost(runs: Seeds) -> bool:
    return bool(runs) and all(outcome.diverged for outcome in runs.values())


def _is_broken(runs: Seeds, epoch: str) -> bool:
    """Return whether the losses ended far above the untouched base, on training rows too if both are known.

    Overfitting, which raises only the held-out loss, is a valid result.
    """
    pairs = [_beside_base(runs, loss, epoch) for loss in LOSSES]
    known = [pair for pair in pairs if np.isfinite(pair).all()]
    return bool(known) and all(value > FAR_RATIO * base and value > base + FAR_NATS for base, value in known)


def _beside_base(runs: Seeds, measure: str, epoch: str) -> tuple[float, float]:
    """Return the means of base and runs over the seeds that have both; NaN without any."""
    pairs = [(run.base.get(measure, np.nan), run.value(measure, epoch)) for run in runs.values()]
    known = [pair for pair in pairs if np.isfinite(pair).all()]
    base, value = np.mean(known, axis=0) if known else (np.nan, np.nan)
    return float(base), float(value)


def _values(runs: Sequence[Seeds], question: Question) -> list[float]:
    values = [outcome.value(question.measure, question.epoch) for seeds in runs for outcome in seeds.values()]
    return [value for value in values if np.isfinite(value)]


def _is_at(end: str, control: Seeds, arm: Seeds, question: Question) -> bool:
    """Return whether every run of both sides reached the same end of the measure's range."""
    top = MEASURES[question.measure].top
    values = _values([control, arm], question)
    return top is not None and bool(values) and all(value == (top if end == "top" else 0.0) for value in values)


def _steps(runs: Seeds) -> int:
    """Return the fewest steps of any seed; 0 if unknown."""
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


def _parameters(outcomes: Outcomes, question: Question, names: Sequence[str], reason: str) -> dict[str, Any]:
    """Return the parameters of an obstacle's sentence."""
    first = outcomes.arms[names[0]]
    parameters: dict[str, Any] = {"arms": ", ".join(names), "measure": Line(f"measure.{question.measure}")}
    if reason == "few_steps":
        parameters |= {"steps": _steps(first), "least": LEAST_STEPS}
    if reason.endswith("broken"):
        runs = outcomes.control_of(names[0]) if reason.startswith("control") else first
        loss = next(loss for loss in LOSSES if np.isfinite(_beside_base(runs, loss, question.epoch)).all())
        base, value = _beside_base(runs, loss, question.epoch)
        parameters |= {"measure": Line(f"measure.{loss}"), "base": base, "value": value}
    if reason in ("bottom", "top"):
        parameters |= {"value": _values([first], question)[0], "rows": _rows(question, [*first.values()])}
    return parameters


def _rows(question: Question, outcomes: Sequence[Outcome]) -> Line | str:
    """Return the number of examples as a phrase; empty if the examples were not stored."""
    counts = {len(outcome.scores[question.measure]) for outcome in outcomes if question.measure in outcome.scores}
    if len(counts) != 1:
        return ""
    rows = counts.pop()
    return Line(agreeing("on_rows", rows), {"rows": rows})
