"""The verdict on a study: the effect of every arm, its size and certainty, and what to do next.

An arm differs from the control only if all of these hold:

* There are at least `CLAIM_SEEDS` seeds, and every seed has a value.
* Student's interval of the paired differences, widened by Holm's correction over the arms, excludes zero.
* The exact sign-flip test agrees at 5%. (With five seeds, the p value of this test cannot fall below 6%.)

Studies with fewer seeds are illustrations. Comparisons that cannot be judged at all (see `validity`) are listed first.
A difference smaller than the effect of rounding is not claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import EPOCHS, NOT_MEASURED, Outcomes, Question, Rounding, Seeds
from neftune_core.evaluation.paired_comparison import (
    Comparison,
    Lengths,
    another_seed,
    compare_arms,
    lengths,
    over_examples,
)
from neftune_core.evaluation.statistics import LEVEL, MOST_NEEDED, Interval, seeds_needed, smallest_detectable
from neftune_core.evaluation.validity import obstacles, warnings
from neftune_core.evaluation.verdict_words import (
    SENTENCES,
    Line,
    agreeing,
    arm_names,
    brief_line,
    claims_line,
    effect_line,
    rounding_line,
    with_others,
)

CLAIM_SEEDS = 6
CLAIMS = ("better", "worse", "higher", "lower")
DISAGREEING = ("held_out_loss", "exact")
"""Measures of the same rows, of which the first can be better while the second is worse."""


@dataclass(frozen=True)
class ArmVerdict:
    """The judgement of one arm, and its numbers.

    Attributes:
        status: One of `CLAIMS`, or why there is no claim: `void` (the arm cannot be judged), `stopped` (by the user),
            `rounding`, `unclear`, `unconfirmed`, `incomplete`, `illustration`, `one_seed`, `nothing`.
        epochs: Comparisons at the last and the best epoch.
        examples: Interval for these seeds over resampled examples.
        lengths: Lengths of the answers.
        lines: The sentences.
    """

    status: str
    epochs: Mapping[str, Comparison]
    examples: Interval | None
    lengths: Lengths | None
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Floor:
    """A null comparison, between runs without a real difference.

    Attributes:
        size: Root-mean-square difference of one pair of runs.
        comparison: The comparison; None if the size is estimated from the seeds of the control.
    """

    size: float
    comparison: Comparison | None


@dataclass(frozen=True)
class Verdict:
    """The judgement of a whole study.

    Attributes:
        question: Measure and epoch that are judged.
        arms: Judgements by arm.
        floors: Null comparisons by name.
        warnings: Sentences that are shown first: about continuations after a look at the result, about arms that cannot
            be judged (with remedies), and about lost seeds.
        lead: The arm that the headline is about; "" if none.
        opening: Sentences before the arms: the headline and the question.
        closing: Sentences after the arms.
        rounding: Effect of the number format.
        disagreements: Sentences about arms whose held-out loss and exact answers point in opposite directions.
    """

    question: Question
    arms: Mapping[str, ArmVerdict]
    floors: Mapping[str, Floor]
    warnings: tuple[Line, ...]
    lead: str
    opening: tuple[Line, ...]
    closing: tuple[Line, ...]
    rounding: Rounding
    disagreements: tuple[Line, ...] = ()

    def __str__(self) -> str:
        return self.text()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been measured yet."""
        return not self.warnings and all(arm.status == "nothing" for arm in self.arms.values())

    @property
    def is_void(self) -> bool:
        """Whether no arm can be judged, so that more seeds would not help."""
        return bool(self.warnings) and all(arm.status in ("void", "nothing") for arm in self.arms.values())

    def text(self, named: Question | None = None) -> str:
        """Render the verdict as text, one sentence per line; details of an arm are indented.

        Args:
            named: The question fixed before the run; the text notes if the verdict answers a different one.

        Returns:
            The text.
        """
        sentences = [line.text() for line in (*self.warnings, *self.opening_for(named), *self.disagreements)]
        for arm in self.arms.values():
            sentences += ["  " * (index > 0) + line.text() for index, line in enumerate(arm.lines)]
        return "\n".join([*sentences, *(line.text() for line in self.closing)])

    @property
    def brief(self) -> Line:
        """The result in a few words, for lists of studies."""
        statuses = {name: arm.status for name, arm in self.arms.items()}
        return brief_line(self.question.measure, statuses, self.lead)

    @property
    def summary(self) -> tuple[Line, ...]:
        """The warnings, the headline, disagreements between measures, and what to do next."""
        if self.is_void or self.is_empty:
            return self.warnings
        steps = [line for line in self.arms[self.lead].lines if line.key.startswith("next.")] if self.lead else []
        return (*self.warnings, self.opening[0], *self.disagreements, *steps)

    def opening_for(self, named: Question | None = None) -> tuple[Line, ...]:
        """Return the headline and the question.

        If this verdict answers another question than `named`, the one fixed before the run, a sentence that says so
        replaces the question and comes first.
        """
        if named is None or named == self.question:
            return self.opening
        headline, question = self.opening
        return Line("question.after", question.parameters), headline


def verdict(outcomes: Outcomes, question: Question) -> Verdict:
    """Judge the arms of a study.

    Args:
        outcomes: Results of the study.
        question: Measure and epoch to judge.

    Returns:
        The verdict.

    Raises:
        DataError: If the runs were measured on different numbers of examples.
    """
    epochs = {epoch: compare_arms(outcomes, question.measure, epoch) for epoch in EPOCHS}
    floors, void = _floors(outcomes, question), obstacles(outcomes, question)
    arms: dict[str, ArmVerdict] = {}
    for index, (name, comparison) in enumerate(epochs[question.epoch].items()):
        sides = outcomes.control_of(name), outcomes.arms[name]
        stopped = name in outcomes.stopped and comparison.seeds  # by someone who could see the curves
        status = "stopped" if stopped else _status(comparison, question.measure, outcomes.rounding)
        judged = ArmVerdict(
            "void" if name in void else status,
            {epoch: comparisons[name] for epoch, comparisons in epochs.items()},
            over_examples(*sides, comparison.seeds, question.measure, index, len(outcomes.arms)),
            lengths(*sides, comparison, question.measure),
        )
        arms[name] = replace(judged, lines=tuple(_arm_lines(outcomes, question, name, judged, floors)))
    looks = (Line("continued", {"record": record, "step": step}) for record, step in outcomes.continued)
    first = (*looks, *warnings(outcomes, question, void))
    closing = tuple(_closing(outcomes, question, arms, floors))
    lead, headline = _headline(question, arms)
    asked = {"measure": Line(f"measure.{question.measure}"), "epoch": Line(f"epoch.{question.epoch}")}
    opening = headline, Line("question", asked)
    disagreements = tuple(_disagreements(outcomes, question, arms))
    return Verdict(question, arms, floors, first, lead, opening, closing, outcomes.rounding, disagreements)


def _status(comparison: Comparison, measure: str, rounding: Rounding) -> str:
    if len(comparison.seeds) < CLAIM_SEEDS:
        return {0: "nothing", 1: "one_seed"}.get(len(comparison.seeds), "illustration")
    if comparison.lost:
        return "incomplete"
    if comparison.interval is None or not comparison.interval.excludes_zero:
        return "unclear"
    if comparison.flip_p > 1 - LEVEL:
        return "unconfirmed"
    if abs(comparison.difference) < (rounding.of(measure) or 0.0):
        return "rounding"
    better = MEASURES[measure].better
    up = comparison.difference > 0
    if better == 0:
        return "higher" if up else "lower"
    return "better" if up == (better > 0) else "worse"


def _floors(outcomes: Outcomes, question: Question) -> dict[str, Floor]:
    found: dict[str, Floor] = {}
    for name, seeds in outcomes.floors.items():
        comparison = compare_arms(Outcomes(outcomes.control, {name: seeds}), question.measure, question.epoch)[name]
        if comparison.seeds:
            found[name] = Floor(float(np.sqrt(np.mean(np.square(comparison.differences)))), comparison)
    size = another_seed(outcomes.control, question.measure, question.epoch)
    if "another_seed" not in found and size is not None:
        found["another_seed"] = Floor(size, None)
    return found


def _headline(question: Question, arms: Mapping[str, ArmVerdict]) -> tuple[str, Line]:
    """Return the arm that the headline is mainly about ("" if none), and the headline, which is true for all arms."""
    found = {name: arm.epochs[question.epoch] for name, arm in arms.items() if arm.status not in ("void", "nothing")}
    by_size = sorted(found, key=lambda name: -abs(found[name].difference))
    if not by_size:
        return "", Line("headline.void")
    statuses = {name: arm.status for name, arm in arms.items()}
    claimed = {name: found[name] for name in by_size if statuses[name] in CLAIMS}
    if claimed:
        return next(iter(claimed)), claims_line(question.measure, claimed, statuses)
    lead = next((name for name in by_size if statuses[name] == "unconfirmed"), by_size[0])
    status = statuses[lead]
    seeds = len(found[lead].seeds)
    same = {name: each for name, each in found.items() if (statuses[name], len(each.seeds)) == (status, seeds)}
    key = status if f"headline.{status}" in SENTENCES else "no_claim"
    others = {name: other for name, other in statuses.items() if name not in same}
    return lead, with_others(effect_line(key, question.measure, lead, same), others)


def _disagreements(outcomes: Outcomes, question: Question, arms: Mapping[str, ArmVerdict]) -> Iterator[Line]:
    """Yield a sentence for each direction in which held-out loss and exact answers contradict each other.

    A lower loss is better and a higher share of exact answers is better, so the two contradict each other if both
    differences have the same sign. Both signs must be clear (`Comparison.sign`) and beyond the effect of rounding.
    """
    losses, shares = (compare_arms(outcomes, measure, question.epoch) for measure in DISAGREEING)
    found: dict[int, list[str]] = {}
    for name, arm in arms.items():
        if arm.status in ("void", "nothing"):
            continue
        loss, share = (
            compared[name].sign(outcomes.rounding.of(measure) or 0.0)
            for measure, compared in zip(DISAGREEING, (losses, shares), strict=True)
        )
        if loss and loss == share:
            found.setdefault(loss, []).append(name)
    for sign, names in found.items():
        yield Line("disagree.loss_worse" if sign > 0 else "disagree.loss_better", {"arms": arm_names(names)})


def _arm_lines(
    outcomes: Outcomes, question: Question, name: str, arm: ArmVerdict, floors: Mapping[str, Floor]
) -> Iterator[Line]:
    comparison = arm.epochs[question.epoch]
    measure = Line(f"measure.{question.measure}")
    status = "nothing" if not comparison.seeds else arm.status
    values = {"control": comparison.control, "value": comparison.arm, "difference": comparison.difference}
    yield Line(status, {"arm": name, "measure": measure, **values})
    if arm.status == "void":
        return
    yield from _number_lines(comparison, {"measure": measure, **values, "arms": len(outcomes.arms)})
    if name in outcomes.stopped:
        steps = [f"{seed} ({stop:,}, {at:,})" for seed, (stop, at) in outcomes.stopped[name].items() if at]
        yield Line("stopped.where" if steps else "stopped.before", {"steps": ", ".join(steps)})
    if comparison.lost:
        yield Line("lost", {"lost": ", ".join(map(str, comparison.lost))})
    if all(each.seeds for each in arm.epochs.values()):
        yield _epochs_line(outcomes.arms[name], arm)
    if arm.examples is not None and (arm.examples.low or arm.examples.high):  # both are 0 if no example differs
        examples = len(outcomes.control_of(name)[comparison.seeds[0]].scores[question.measure])
        key = "examples.hold" if arm.examples.excludes_zero else "examples.open"
        yield Line(agreeing(key, examples), _interval_parameters(arm.examples) | {"examples": examples})
    if MEASURES[question.measure].of_answers and question.measure not in ("tokens", "characters"):
        yield _length_line(arm, comparison)
    floor_name, floor = max(floors.items(), key=lambda item: item[1].size, default=("", Floor(0.0, None)))
    if abs(comparison.difference) < floor.size:
        yield Line("within", {"floor": Line(f"floor.{floor_name}"), "size": floor.size})
    rounded = outcomes.rounding.of(question.measure) or 0.0
    if comparison.seeds and abs(comparison.difference) < rounded:
        yield Line("within_rounding", {"precision": outcomes.rounding.precision, "size": rounded})
    if arm.status != "nothing":
        yield _next_step(arm.status, comparison)


def _number_lines(comparison: Comparison, values: Mapping[str, Any]) -> Iterator[Line]:
    """Yield the values of an arm, the interval of their difference, and how often chance gives such a difference."""
    interval = comparison.interval
    if comparison.seeds:
        yield Line("numbers", values)
    if interval is None:
        return
    ends = {"seeds": len(comparison.seeds), "percent": 100 * interval.level, "arms": values["arms"]}
    if interval.low == interval.high:
        yield Line("interval.same", ends)
    else:
        several = "interval.adjusted" if interval.level > LEVEL else "interval.last"
        yield Line("interval" if values["arms"] == 1 else several, ends | _interval_parameters(interval))
    yield Line("flip", {"flip": comparison.flip_p, "share": 100 * comparison.flip_p})


def _interval_parameters(interval: Interval) -> dict[str, Any]:
    return {"difference": interval.estimate, "low": interval.low, "high": interval.high}


def _epochs_line(outcomes: Seeds, arm: ArmVerdict) -> Line:
    """Return the sentence that compares the best and the last epoch."""
    parameters: dict[str, Any] = {}
    for epoch, comparison in arm.epochs.items():
        reached = [outcomes[seed].epoch(epoch) for seed in comparison.seeds]
        parameters |= {epoch: comparison.difference, f"{epoch}_epoch": float(np.mean(reached))}
        if comparison.interval is not None:
            parameters |= {f"{epoch}_low": comparison.interval.low, f"{epoch}_high": comparison.interval.high}
    several = all(comparison.interval is not None for comparison in arm.epochs.values())
    return Line("epochs" if several else "epochs.few_seeds", parameters)


def _length_line(arm: ArmVerdict, comparison: Comparison) -> Line:
    found = arm.lengths
    if found is None:
        return Line("length.unknown")
    parameters = {"control": found.control, "value": found.arm}
    if found.change is None:
        return Line("length.few_seeds", parameters)
    parameters |= _interval_parameters(found.change)
    if not found.change.excludes_zero or arm.status not in CLAIMS:
        return Line("length.changed" if found.change.excludes_zero else "length.same", parameters)
    if found.adjusted is None:
        return Line("length.inseparable", parameters)
    parameters |= {f"adjusted_{end}": value for end, value in _interval_parameters(found.adjusted).items()}
    parameters["adjusted"] = found.adjusted.estimate
    remains = found.adjusted.excludes_zero and found.adjusted.estimate * comparison.difference > 0
    return Line("length.remains" if remains else "length.explains", parameters)


NEXT_STEPS = {
    **dict.fromkeys(CLAIMS, "next.repeat"),
    "incomplete": "next.lost",
    "stopped": "next.stopped",
    "rounding": "next.rounding",
    "one_seed": "next.seeds",
    "illustration": "next.seeds",
}
"""What to do next, by status; for other statuses, it depends on the comparison."""


def _next_step(status: str, comparison: Comparison) -> Line:
    """Return the sentence about what to do next."""
    if status in NEXT_STEPS:
        return Line(NEXT_STEPS[status], {"needed": CLAIM_SEEDS})
    seeds, deviation = len(comparison.seeds), float(np.std(comparison.differences, ddof=1))
    if deviation == 0:
        return Line("next.same")
    needed, visible = seeds_needed(comparison.difference, deviation, seeds + 1), smallest_detectable(deviation, seeds)
    parameters = {"seeds": seeds, "visible": visible, "most": MOST_NEEDED, "needed": needed}
    return Line("next.tiny" if needed is None else "next.power", parameters)


def _closing(
    outcomes: Outcomes, question: Question, arms: Mapping[str, ArmVerdict], floors: Mapping[str, Floor]
) -> Iterator[Line]:
    measure = Line(f"measure.{question.measure}")
    bases = [run.base[question.measure] for run in outcomes.control.values() if question.measure in run.base]
    if bases:
        yield Line("closing.base", {"measure": measure, "value": float(np.mean(bases))})
    yield rounding_line(outcomes.rounding, question.measure)
    if all(arm.status == "void" for arm in arms.values()):
        return
    if any(arm.epochs["best"].seeds for arm in arms.values()):
        yield Line("closing.halves" if outcomes.halves else "closing.best")
    if outcomes.early:
        seeds = ", ".join(f"{seed} ({last:,}/{planned:,})" for seed, (last, planned) in outcomes.early.items())
        yield Line("closing.early", {"seeds": seeds})
    if not MEASURES[question.measure].of_answers:
        yield Line("closing.no_length", {"measure": measure})
    for name, floor in floors.items():
        floor_words, comparison = Line(f"floor.{name}"), floor.comparison
        yield Line("closing.floor", {"floor": floor_words, "size": floor.size})
        if comparison and comparison.interval and _status(comparison, question.measure, NOT_MEASURED) in CLAIMS:
            yield Line("closing.alarm", {"floor": floor_words} | _interval_parameters(comparison.interval))
