"""Reasons why a comparison cannot be judged.

The reasons are diverged or broken arms, models that learnt nothing, scores at the end of their range, and too few
steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Outcome, Outcomes, Question, Rounding, Seeds
from neftune_core.evaluation.verdict_words import Line, agreeing
from neftune_core.noise.names import arm_words

LEAST_STEPS = 10
"""Minimum number of optimizer steps for a comparison; with fewer, a model learns too little."""
FAR_RATIO, FAR_NATS = 1.2, 0.1
"""A loss is far worse if it exceeds both this multiple of the base loss and the base loss plus this many nats."""
LOSSES = ("held_out_loss", "train_loss")


def obstacles(outcomes: Outcomes, question: Question) -> dict[str, str]:
    """Find the arms that cannot be judged, with the reasons.

    Args:
        outcomes: Results of the control and the arms.
        question: Measure and epoch to judge.

    Returns:
        By arm, the first key of `REASONS` that applies.
    """
    found: dict[str, str] = {}
    for name, arm in outcomes.arms.items():
        given = outcomes.control_of(name), arm, question, outcomes.rounding
        reason = next((reason for reason, applies in REASONS.items() if applies(*given)), None)
        if reason:
            found[name] = reason
    return found


def warnings(outcomes: Outcomes, question: Question, found: Mapping[str, str]) -> Iterator[Line]:
    """Yield a sentence with a remedy for each reason, and one for the control or an arm that lost some of its seeds.

    Args:
        outcomes: Results of the control and the arms.
        question: Measure and epoch to judge.
        found: Reasons by arm, from `obstacles`.

    Yields:
        Sentences for the verdict.
    """
    lead = Line("lead.all" if len(found) == len(outcomes.arms) else "lead.some")
    for reason in dict.fromkeys(found.values()):
        names = [name for name in found if found[name] == reason]
        parameters = {"lead": lead, **_parameters(outcomes, question, names, reason)}
        yield Line(agreeing(f"obstacle.{reason}", parameters.get("steps")), parameters)
    control = {"control": outcomes.control} if len(outcomes.own_controls) < len(outcomes.arms) else {}
    for name, runs in {**control, **outcomes.arms}.items():
        lost = [seed for seed, outcome in runs.items() if outcome.diverged]
        if lost and len(lost) < len(runs):
            yield Line("obstacle.some_seeds", {"arm": name, "lost": len(lost), "seeds": len(runs)})


def _is_lost(runs: Seeds) -> bool:
    return bool(runs) and all(outcome.diverged for outcome in runs.values())


def _is_broken(runs: Seeds, epoch: str) -> bool:
    """Return whether all known losses ended far above those of the base model.

    Overfitting, which raises only the held-out loss, is a valid result.
    """
    known = _losses_beside_base(runs, epoch).values()
    return bool(known) and all(value > FAR_RATIO * base and value > base + FAR_NATS for base, value in known)


def _is_worse(runs: Seeds, epoch: str, rounding: Rounding) -> bool:
    """Return whether all known losses ended above those of the base model by more than the effect of rounding.

    Training that does not lower the loss even on its own rows has failed, however small the increase.
    """
    known = _losses_beside_base(runs, epoch)
    above = [value > base + (rounding.of(loss) or 0.0) for loss, (base, value) in known.items()]
    return "train_loss" in known and all(above)


def _is_guessing(runs: Seeds, epoch: str) -> bool:
    """Return whether the training loss with noise off is no lower than the loss of guessing tokens by frequency."""
    value, guessing = _beside_guessing(runs, epoch)
    return value >= guessing


def _beside_guessing(runs: Seeds, epoch: str) -> tuple[float, float]:
    """Return the means of the training loss and of the loss of guessing by frequency; NaN if unknown."""
    return _mean_pair([(run.value("train_loss", epoch), run.frequency_loss) for run in runs.values()])


def _losses_beside_base(runs: Seeds, epoch: str) -> dict[str, tuple[float, float]]:
    """Return, for each loss, the means of the base and the runs over the seeds that have both values."""
    pairs = {
        loss: _mean_pair([(run.base.get(loss, np.nan), run.value(loss, epoch)) for run in runs.values()])
        for loss in LOSSES
    }
    return {loss: pair for loss, pair in pairs.items() if np.isfinite(pair).all()}


def _mean_pair(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the means over the finite pairs; NaN if there are none."""
    known = [pair for pair in pairs if np.isfinite(pair).all()]
    first, second = np.mean(known, axis=0) if known else (np.nan, np.nan)
    return float(first), float(second)


def _values(runs: Sequence[Seeds], question: Question) -> list[float]:
    values = [outcome.value(question.measure, question.epoch) for seeds in runs for outcome in seeds.values()]
    return [value for value in values if np.isfinite(value)]


def _is_at(end: str, control: Seeds, arm: Seeds, question: Question) -> bool:
    """Return whether every run of both sides is at the same end of the measure's range."""
    top = MEASURES[question.measure].top
    values = _values([control, arm], question)
    return top is not None and bool(values) and all(value == (top if end == "top" else 0.0) for value in values)


def _steps(runs: Seeds) -> int:
    """Return the smallest number of optimizer steps of a seed; 0 if unknown."""
    return min((outcome.steps for outcome in runs.values() if outcome.last and outcome.steps), default=0)


Applies = Callable[[Seeds, Seeds, Question, Rounding], bool]
REASONS: dict[str, Applies] = {
    "control_diverged": lambda control, arm, question, rounding: _is_lost(control),
    "diverged": lambda control, arm, question, rounding: _is_lost(arm),
    "control_broken": lambda control, arm, question, rounding: (
        _is_broken(control, question.epoch) or _is_worse(control, question.epoch, rounding)
    ),
    "broken": lambda control, arm, question, rounding: _is_broken(arm, question.epoch),
    "few_steps": lambda control, arm, question, rounding: 0 < _steps(arm) < LEAST_STEPS,
    "control_guessing": lambda control, arm, question, rounding: _is_guessing(control, question.epoch),
    "guessing": lambda control, arm, question, rounding: _is_guessing(arm, question.epoch),
    "bottom": lambda control, arm, question, rounding: _is_at("bottom", control, arm, question),
    "top": lambda control, arm, question, rounding: _is_at("top", control, arm, question),
}


def _parameters(outcomes: Outcomes, question: Question, names: Sequence[str], reason: str) -> dict[str, Any]:
    """Return the parameters of an obstacle's sentence."""
    first = outcomes.arms[names[0]]
    labels = ", ".join(map(arm_words, names))
    parameters: dict[str, Any] = {"arms": labels, "measure": Line(f"measure.{question.measure}")}
    if reason == "few_steps":
        parameters |= {"steps": _steps(first), "least": LEAST_STEPS}
    runs = outcomes.control_of(names[0]) if reason.startswith("control") else first
    if reason.endswith("guessing"):
        value, guessing = _beside_guessing(runs, question.epoch)
        parameters |= {"measure": Line("measure.train_loss"), "value": value, "guessing": guessing}
    if reason.endswith("broken"):
        loss, (base, value) = next(iter(_losses_beside_base(runs, question.epoch).items()))
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
