"""The wording of verdicts: sentence templates with named parameters, and functions that build the headlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Rounding
from neftune_core.evaluation.paired_comparison import Comparison
from neftune_core.language import say
from neftune_core.noise.names import arm_label, arm_words

MOST_VALUES = 4
"""Maximum number of arms without a claim that the headline lists; beyond it, only the largest difference is given."""
MOST_NAMED = 3
"""Maximum number of claims that the headline lists; beyond it, only the largest in each direction is given."""


@dataclass(frozen=True)
class Line:
    """One sentence of a verdict.

    Attributes:
        key: Key of its template in `SENTENCES`.
        parameters: Parameters of the template by name: numbers, names and other lines.
    """

    key: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the sentence in the current language."""
        given = {name: _format_parameter(value) for name, value in self.parameters.items()}
        if isinstance(self.parameters.get("arm"), str):
            given["arm"] = arm_label(given["arm"])
        return say(SENTENCES[self.key], **given)


@dataclass(frozen=True)
class ArmName:
    """The name of an arm, shown in words, such as "alpha 15" for `uniform-alpha-15`."""

    name: str

    def text(self) -> str:
        """Return the name in words, in the current language."""
        return arm_words(self.name)


def _format_parameter(value: Any) -> Any:
    """Convert a parameter for formatting; floating-point residue of a zero becomes zero."""
    if isinstance(value, Line | ArmName):
        return value.text()
    return round(value, 12) + 0.0 if isinstance(value, float) else value


def agreeing(key: str, count: float | None) -> str:
    """Return the key of the sentence that agrees in number with `count`.

    Args:
        key: Key of the plural sentence.
        count: The number in the sentence; None if it has no number.

    Returns:
        `key`, or its singular form `key.one` if the count is 1 and the table has one.
    """
    return f"{key}.one" if count == 1 and f"{key}.one" in SENTENCES else key


def rounding_line(rounding: Rounding, measure: str) -> Line:
    """Return the sentence on the effect of rounding, used by every verdict and table.

    Args:
        rounding: Measured effect of the number format.
        measure: Name of the measure.

    Returns:
        The sentence.
    """
    size = rounding.of(measure)
    key = "closing.rounding_unknown" if size is None else "closing.rounding" if size else "closing.rounding_none"
    return Line(key, {"precision": rounding.precision, "measure": Line(f"measure.{measure}"), "size": size})


def claims_line(measure: str, claimed: Mapping[str, Comparison], statuses: Mapping[str, str], arms: int) -> Line:
    """Return the headline on arms that differ from the control, with the direction and size of their differences.

    Args:
        measure: Name of the measure.
        claimed: Comparisons of these arms by name, largest difference first.
        statuses: "better", "worse", "higher" or "lower", by name.
        arms: Number of all arms.

    Returns:
        The headline.
    """
    groups: dict[tuple[str, int], dict[str, Comparison]] = {}
    for name, comparison in claimed.items():
        groups.setdefault((statuses[name], len(comparison.seeds)), {})[name] = comparison
    short = len(claimed) > MOST_NAMED
    lines = [_claim_line(status, measure, group, short=short) for (status, _), group in groups.items()]
    headline = _joined("headline.both", lines)
    if arms == 1:
        return headline
    sizes = _joined("value.and", [_direction_line(status, group) for (status, _), group in groups.items()])
    key = "headline.sizes" if short else agreeing("headline.others", len(claimed))
    return Line(key, {"first": headline, "claimed": len(claimed), "arms": arms, "sizes": sizes})


def _claim_line(status: str, measure: str, group: Mapping[str, Comparison], *, short: bool) -> Line:
    """Return the headline on the arms that differ in one direction, or only on the first of them if `short`."""
    named = {name: group[name] for name in [*group][: 1 if short else None]}
    line = effect_line(status, measure, next(iter(named)), named)
    return replace(line, parameters={**line.parameters, "arm": arm_names([*named])})


def arm_names(names: Sequence[str]) -> Line:
    """Return the names of one or more arms as a list inside a sentence."""
    *others, last = (Line("arm.name", {"name": ArmName(name)}) for name in names)
    return _joined("arm.and", [_joined("value.and", others), last]) if others else last


def _direction_line(status: str, group: Mapping[str, Comparison]) -> Line:
    """Return the number of arms that differ in one direction, with the range of their differences."""
    sizes = [abs(comparison.difference) for comparison in group.values()]
    count = {"count": len(sizes), "direction": Line(f"direction.{status}")}
    return Line(agreeing("sizes", len(sizes)), count | {"least": min(sizes), "most": max(sizes)})


def effect_line(key: str, measure: str, lead: str, found: Mapping[str, Comparison]) -> Line:
    """Return the headline on one arm, with its values and, if there are few arms, those of the others.

    Args:
        key: Key of the headline in `SENTENCES`, without "headline.".
        measure: Name of the measure.
        lead: Name of the arm.
        found: Comparisons by name, including `lead`.

    Returns:
        The headline.
    """
    listed = found if len(found) <= MOST_VALUES else {lead: found[lead]}
    one_control = len({comparison.control for comparison in listed.values()}) == 1
    values = [Line("value.control", {"value": found[lead].control})] if one_control else []
    for name, comparison in listed.items():
        value = {"arm": ArmName(name), "value": comparison.arm, "control": comparison.control}
        values.append(Line("value.arm" if one_control else "value.own", value))
    about = {"measure": Line(f"measure.{measure}"), "values": _joined("value.and", values)}
    return Line(f"headline.{key}", {"arm": ArmName(lead), "seeds": len(found[lead].seeds), **about})


def _joined(key: str, lines: Sequence[Line]) -> Line:
    return reduce(lambda first, second: Line(key, {"first": first, "second": second}), lines)


_CHANGE = "{measure} is {control:.4g} for the control and {value:.4g} for this arm, a difference of {difference:+.3g}"
_LENGTHS = "answers have {control:.4g} tokens for the control and {value:.4g} for this arm"
_LENGTHS_FIRST = _LENGTHS.capitalize()

SENTENCES: dict[str, str] = {
    **{f"measure.{name}": measure.phrase for name, measure in MEASURES.items()},
    "epoch.last": "last",
    "epoch.best": "best",
    "floor.another_seed": "the seed alone",
    "floor.chaos": "a disturbance as small as rounding",
    "question": "Chosen before the run: {measure} after the {epoch} epoch, each arm against the control.",
    "question.after": "Chosen after the run, so exploratory and not a test: {measure} after the {epoch} epoch, "
    "each arm against the control.",
    "headline.better": "Better with {arm}, by more than chance over {seeds} seeds: {values} ({measure}).",
    "headline.worse": "Worse with {arm}, by more than chance over {seeds} seeds: {values} ({measure}).",
    "headline.higher": "Higher with {arm}, by more than chance over {seeds} seeds: {values} ({measure}).",
    "headline.lower": "Lower with {arm}, by more than chance over {seeds} seeds: {values} ({measure}).",
    "headline.others": "{first} In all, {claimed} of {arms} arms differ from the control by more than chance.",
    "headline.others.one": "{first} In all, {claimed} of {arms} arms differs from the control by more than chance.",
    "headline.sizes": "{first} In all, {claimed} of {arms} arms differ from the control by more than chance: {sizes}.",
    "headline.both": "{first} {second}",
    "headline.no_claim": "No effect beyond chance over {seeds} seeds: {values} ({measure}).",
    "headline.rounding": "No effect beyond rounding: {values} ({measure}, {seeds} seeds).",
    "headline.incomplete": "Not a result, because not every seed has a value. Over the {seeds} seeds that have one: "
    "{values} ({measure}).",
    "headline.stopped": "Not a result, because {arm} was stopped during the run. Up to then: {values} ({measure}).",
    "headline.void": "No arm is compared with the control.",
    "headline.illustration": "Not a result yet, because {seeds} seeds cannot tell an effect from chance. So far: "
    "{values} ({measure}).",
    "headline.one_seed": "Not a result yet, because a single seed cannot tell an effect from chance. So far: "
    "{values} ({measure}).",
    "value.control": "control {value:.3g}",
    "value.arm": "{arm} {value:.3g}",
    "value.own": "{arm} {value:.3g} (its control {control:.3g})",
    "arm.name": "{name}",
    "arm.and": "{first} and {second}",
    "sizes": "{count} {direction} (by {least:.2g} to {most:.2g})",
    "sizes.one": "{count} {direction} (by {most:.2g})",
    "direction.better": "better",
    "direction.worse": "worse",
    "direction.higher": "higher",
    "direction.lower": "lower",
    "value.and": "{first}, {second}",
    "disagree.loss_worse": "Compared with the control, held-out loss is worse with {arms}, but the share of exact "
    "answers is better: a model may be less certain about the right answers and still choose them more often.",
    "disagree.loss_better": "Compared with the control, held-out loss is better with {arms}, but the share of exact "
    "answers is worse: a model may be more certain about the right answers on average and still choose them less "
    "often.",
    "continued": "Exploratory and not a test: training was continued after step {step:,}, when the result of the "
    "record {record} could already be seen.",
    "lead.all": "There is nothing to judge",
    "lead.some": "Not every arm can be judged",
    "obstacle.control_diverged": "{lead}: the loss of the control became NaN or infinite. Choose a smaller "
    "learning rate.",
    "obstacle.diverged": "{lead}: the loss of {arms} became NaN or infinite. Choose a smaller learning rate or "
    "less noise.",
    "obstacle.control_broken": "{lead}: even without noise, training raised {measure} from {base:.4g} (the untouched "
    "base) to {value:.4g} (the control). Choose a smaller learning rate.",
    "obstacle.control_guessing": "{lead}: even without noise, the model learnt no more than how often each token "
    "occurs. For the control, {measure} is {value:.4g}; guessing by frequency alone reaches {guessing:.4g}. Choose a "
    "smaller learning rate, or train for longer.",
    "obstacle.guessing": "{lead}: {arms} learnt no more than how often each token occurs: {measure} is {value:.4g}, "
    "and guessing by frequency alone reaches {guessing:.4g}. Choose less noise or a smaller learning rate, or train "
    "for longer.",
    "obstacle.broken": "{lead}: {arms} ended far worse than the untouched base: {measure} went from {base:.4g} to "
    "{value:.4g}. Choose less noise or a smaller learning rate.",
    "obstacle.few_steps": "{lead}: {arms} took {steps} steps, too few to judge. Train for {least} steps or more.",
    "obstacle.few_steps.one": "{lead}: {arms} took {steps} step, too few to judge. Train for {least} steps or more.",
    "obstacle.bottom": "{lead}: {measure} is {value:.4g} for the control and for {arms}{rows}, the lowest "
    "possible value, so no difference can show. Choose held-out loss, which is finer, or "
    "train for longer.",
    "obstacle.top": "{lead}: {measure} is {value:.4g} for the control and for {arms}{rows}, the highest possible "
    "value, so no difference can show. Choose held-out loss, which is finer, or hold out harder "
    "rows.",
    "obstacle.some_seeds": "{arm} diverged with {lost} of {seeds} seeds: its loss became NaN or infinite. Choose a "
    "smaller learning rate or less noise.",
    "on_rows": ", on {rows} examples",
    "on_rows.one": ", on {rows} example",
    "better": "{arm} is better than the control: " + _CHANGE + " ({interval}).",
    "worse": "{arm} is worse than the control: " + _CHANGE + " ({interval}).",
    "higher": "{arm} is higher than the control: " + _CHANGE + " ({interval}).",
    "lower": "{arm} is lower than the control: " + _CHANGE + " ({interval}).",
    "unclear": "{arm}: no difference beyond chance; " + _CHANGE + " ({interval}; the interval includes zero).",
    "unconfirmed": "{arm}: no claim, because the sign-flip test does not agree with the interval; "
    + _CHANGE
    + " ({interval}).",
    "incomplete": "{arm}: no claim, because not every seed has a value; over the seeds that have one, "
    + _CHANGE
    + " ({interval}).",
    "illustration": "{arm}, as an illustration: " + _CHANGE + " ({interval}).",
    "stopped": "{arm}: no claim, because someone who could see the curves stopped it; " + _CHANGE + " ({interval}).",
    "stopped.where": "The arm is compared with the control at the arm's last evaluation before the stop (seed, step "
    "of the stop, step of the comparison: {steps}).",
    "stopped.before": "The arm was stopped before its first evaluation during training.",
    "void": "{arm}, not judged: {measure} is {value:.4g} for this arm and {control:.4g} for the control.",
    "rounding": "{arm}: no claim, because rounding alone can cause a difference of this size; "
    + _CHANGE
    + " ({interval}).",
    "one_seed": "{arm}, with a single seed, which is no evidence about other seeds: " + _CHANGE + ".",
    "nothing": "{arm}: there is no seed for which both the arm and the control have {measure}.",
    "interval": "{percent:.3g}% interval over {seeds} seeds: {low:+.3g} to {high:+.3g}; sign-flip p = {flip:.3g}",
    "interval.adjusted": "{percent:.3g}% interval over {seeds} seeds, wider than 95% because {arms} arms are judged "
    "(Holm's correction): {low:+.3g} to {high:+.3g}; sign-flip p = {flip:.3g}",
    "interval.last": "{percent:.3g}% interval over {seeds} seeds, the last step of Holm's correction for {arms} arms: "
    "{low:+.3g} to {high:+.3g}; sign-flip p = {flip:.3g}",
    "interval.none": "{seeds} seeds are too few for an interval",
    "interval.none.one": "{seeds} seed is too few for an interval",
    "interval.same": "the same with each of {seeds} seeds; sign-flip p = {flip:.3g}",
    "lost": "The comparison leaves out seed {lost}, for which the arm or its control has no value (diverged or not "
    "trained).",
    "epochs": "Last epoch ({last_epoch:.3g}): {last:+.3g} ({last_low:+.3g} to {last_high:+.3g}). Best epoch "
    "({best_epoch:.3g}): {best:+.3g} ({best_low:+.3g} to {best_high:+.3g}).",
    "epochs.few_seeds": "Last epoch ({last_epoch:.3g}): {last:+.3g}. Best epoch ({best_epoch:.3g}): {best:+.3g}.",
    "examples.hold": "With these seeds, the difference should also hold on other examples of the same kind: "
    "{difference:+.3g} ({low:+.3g} to {high:+.3g}; paired bootstrap over {examples} examples).",
    "examples.open": "With these seeds, other examples of the same kind might show no difference: {difference:+.3g} "
    "({low:+.3g} to {high:+.3g}; paired bootstrap over {examples} examples).",
    "examples.hold.one": "With these seeds, the difference should also hold on other examples of the same kind: "
    "{difference:+.3g} ({low:+.3g} to {high:+.3g}; paired bootstrap over {examples} example).",
    "examples.open.one": "With these seeds, other examples of the same kind might show no difference: "
    "{difference:+.3g} ({low:+.3g} to {high:+.3g}; paired bootstrap over {examples} example).",
    "length.unknown": "The lengths of the answers were not stored, so length may explain any difference.",
    "length.few_seeds": _LENGTHS_FIRST + "; more seeds would show whether the change is due to chance.",
    "length.same": _LENGTHS_FIRST + ", a change that these seeds cannot distinguish from chance.",
    "length.changed": _LENGTHS_FIRST + " ({low:+.3g} to {high:+.3g}).",
    "length.explains": "Length may explain the difference: "
    + _LENGTHS
    + ", and at equal length the difference is {adjusted:+.3g} ({adjusted_low:+.3g} to {adjusted_high:+.3g}).",
    "length.remains": "Length does not explain the difference: "
    + _LENGTHS
    + ", and at equal length the difference is still {adjusted:+.3g} ({adjusted_low:+.3g} to {adjusted_high:+.3g}).",
    "length.inseparable": "Length may explain the difference: "
    + _LENGTHS
    + ", and the effect of length cannot be separated here from that of the arm.",
    "within": "The difference is smaller than the variation between runs caused by {floor} ({size:.3g}), so one pair "
    "of runs cannot show it.",
    "within_rounding": "The difference is smaller than the effect of rounding to {precision} ({size:.2g}), so it is "
    "not an effect of the noise.",
    "next.rounding": "To learn more: train in float32, or choose a measure that shows a larger difference.",
    "next.seeds": "To learn more: train with at least {needed} seeds.",
    "next.power": "To learn more: train with about {needed} seeds, which would show a difference of this size four "
    "times in five. With {seeds} seeds, only differences above {visible:.3g} show that often.",
    "next.tiny": "To learn more: a difference this small would take more than {most} seeds to show. With {seeds} "
    "seeds, only differences above {visible:.3g} show four times in five.",
    "next.same": "To learn more: the arm has the same values as the control with every seed; choose a finer measure, "
    "such as the loss.",
    "next.lost": "To learn more: train the arm with a smaller learning rate or less noise, so that no seed diverges.",
    "next.stopped": "To learn more: train the arm to the end, without looking at its curves first.",
    "next.repeat": "To learn more: repeat the comparison with new seeds, other data and a larger model. So far, the "
    "result holds only for this model, these rows and these settings.",
    "closing.best": "The value at the best epoch is optimistic for every arm, because that epoch was chosen on the "
    "same rows.",
    "closing.halves": "Best epoch: the epoch with the lowest loss on one half of the held-out rows. It is measured on "
    "the other half, then the halves swap roles, so that no arm profits from a lucky choice.",
    "closing.early": "Early stopping, a rule fixed before the run, ended training before its last planned step "
    "(seed and step: {seeds}). All arms ended at the same step, and each of them can delay the end, so the rule "
    "favours none.",
    "closing.no_length": "Answer length does not affect {measure}, which is measured on the reference responses.",
    "closing.base": "The base model before training: {measure} {value:.4g}.",
    "closing.rounding": "Rounding numbers to {precision} alone changes {measure} by up to {size:.2g}, so a smaller "
    "difference means nothing.",
    "closing.rounding_none": "Rounding numbers to {precision} does not change {measure}.",
    "closing.rounding_unknown": "How much the rounding of numbers changes {measure} was not measured.",
    "closing.floor": "Variation between runs caused by {floor}: {size:.3g} (root mean square).",
    "closing.alarm": "Warning: {floor} should make no difference, but the difference is {difference:+.3g} ({low:+.3g} "
    "to {high:+.3g}). An interval that excludes zero occurs by chance in one study out of twenty; if chance is not "
    "the cause, the comparison itself is at fault.",
}
