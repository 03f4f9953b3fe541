"""Sentences of a verdict, with named parameters; the only place that words them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neftune_core.evaluation.outcomes import Rounding
from neftune_core.language import say


@dataclass(frozen=True)
class Line:
    """One sentence of a verdict: the key of its template, and its parameters (numbers, names, other lines)."""

    key: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the sentence in the current language."""
        return say(SENTENCES[self.key], **{name: _rounded(value) for name, value in self.parameters.items()})


def _rounded(value: Any) -> Any:
    """Return a parameter for formatting; the rounding residue of a zero becomes zero."""
    if isinstance(value, Line):
        return value.text()
    return round(value, 12) + 0.0 if isinstance(value, float) else value


def agreeing(key: str, count: float | None) -> str:
    """The key of the sentence that agrees with a count: that of `key` for one thing, if the table has it."""
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


_CHANGE = "{measure} went from {control:.4g} to {value:.4g}, a difference of {difference:+.3g}"
_LENGTHS = "from {control:.4g} to {value:.4g} tokens"

SENTENCES: dict[str, str] = {
    "measure.held_out_loss": "held-out loss",
    "measure.train_loss": "training loss with noise off",
    "measure.accuracy": "the share of right tokens",
    "measure.exact": "the share of exact answers",
    "measure.gap": "held-out loss minus training loss",
    "measure.perplexity": "perplexity",
    "measure.noise_penalty": "what its own noise adds to the training loss",
    "measure.right": "the share of right answers",
    "measure.bleu": "BLEU",
    "measure.chrf": "chrF",
    "measure.rouge_l": "ROUGE-L",
    "measure.memorised_rouge_l": "ROUGE-L with the responses trained on",
    "measure.memorised_run": "the longest run shared with the response trained on",
    "measure.memorised_run_share": "the share of the response trained on that returns as one run",
    "measure.tokens": "length in tokens",
    "measure.median_tokens": "the median length in tokens",
    "measure.characters": "length in characters",
    "measure.median_characters": "the median length in characters",
    "measure.stop_rate": "the share of answers that the model ended",
    "measure.repetition": "the share of repeated n-grams",
    "measure.distinct": "the share of distinct n-grams",
    "measure.noise_loss": "held-out loss under noise",
    "measure.noise_accuracy": "the share of right tokens under noise",
    "measure.typos_loss": "held-out loss with typing errors",
    "measure.typos_accuracy": "the share of right tokens with typing errors",
    "epoch.last": "last",
    "epoch.best": "best",
    "floor.another_seed": "the seed alone",
    "floor.chaos": "a disturbance as small as rounding",
    "question": "Asked before looking: {measure} after the {epoch} epoch, each arm against the control.",
    "question.after": "Asked after looking, so a clue and no test: {measure} after the {epoch} epoch, each arm against "
    "the control.",
    "headline.claim": "Arms that differ from the control by more than chance: {claimed} of {arms}.",
    "headline.no_claim": "No arm differs from the control by more than chance would explain.",
    "headline.void": "No arm is compared with the control.",
    "headline.illustration": "An illustration: a claim takes at least {needed} seeds, so nothing is claimed.",
    "lead.all": "There is nothing to judge",
    "lead.some": "Not all of it can be judged",
    "obstacle.control_diverged": "{lead}: the loss of the control stopped being a number. Choose a smaller learning "
    "rate.",
    "obstacle.diverged": "{lead}: the loss of {arms} stopped being a number. Choose a smaller learning rate or less "
    "noise.",
    "obstacle.control_broken": "{lead}: even without noise, training raised {measure} from {base:.4g} (the untouched "
    "base) to {value:.4g} (the control). Choose a smaller learning rate.",
    "obstacle.control_guessing": "{lead}: even without noise, the model learnt no more than how often each token "
    "occurs. For the control, {measure} is {value:.4g}; guessing by frequency alone reaches {guessing:.4g}. Choose a "
    "smaller learning rate, or train for longer.",
    "obstacle.guessing": "{lead}: {arms} learnt no more than how often each token occurs. There, {measure} is "
    "{value:.4g}; guessing by frequency alone reaches {guessing:.4g}. Choose less noise or a smaller learning rate, or "
    "train for longer.",
    "obstacle.broken": "{lead}: {arms} ended far worse than the untouched base: {measure} went from {base:.4g} to "
    "{value:.4g}. Choose less noise or a smaller learning rate.",
    "obstacle.few_steps": "{lead}: {arms} made {steps} steps, too few to learn from. Train for {least} steps or more.",
    "obstacle.few_steps.one": "{lead}: {arms} made {steps} step, too few to learn from. Train for {least} steps or "
    "more.",
    "obstacle.bottom": "{lead}: {measure} is {value:.4g} for the control and for {arms}{rows}, the lowest there is, "
    "and shows no difference. Ask about held-out loss, which is finer, or train for longer.",
    "obstacle.top": "{lead}: {measure} is {value:.4g} for the control and for {arms}{rows}, the highest there is, "
    "and shows no difference. Ask about held-out loss, which is finer, or hold out harder rows.",
    "obstacle.some_seeds": "{arm} lost {lost} of {seeds} seeds: its loss stopped being a number. Choose a smaller "
    "learning rate or less noise.",
    "on_rows": ", on {rows} examples",
    "on_rows.one": ", on {rows} example",
    "better": "{arm} is better than the control: " + _CHANGE + " ({interval}).",
    "worse": "{arm} is worse than the control: " + _CHANGE + " ({interval}).",
    "higher": "{arm} is higher than the control: " + _CHANGE + " ({interval}).",
    "lower": "{arm} is lower than the control: " + _CHANGE + " ({interval}).",
    "unclear": "{arm}: no difference that chance would not explain; "
    + _CHANGE
    + " ({interval}; the interval includes zero).",
    "unconfirmed": "{arm}: no claim, because the sign-flip test does not agree with the interval; "
    + _CHANGE
    + " ({interval}).",
    "incomplete": "{arm}: no claim, because not every seed has a number; of those that have, "
    + _CHANGE
    + " ({interval}).",
    "illustration": "{arm}, as an illustration: " + _CHANGE + " ({interval}).",
    "void": "{arm}, not judged: {measure} is {value:.4g}, and {control:.4g} for the control.",
    "rounding": "{arm}: no claim, because the difference is smaller than rounding can make it; "
    + _CHANGE
    + " ({interval}).",
    "one_seed": "{arm}, with one seed, which says nothing about the next: " + _CHANGE + ".",
    "nothing": "{arm}: there is no seed for which both it and the control have {measure}.",
    "interval": "{percent:.3g} % interval over {seeds} seeds: {low:+.3g} to {high:+.3g}; sign-flip p = {flip:.3g}",
    "interval.adjusted": "{percent:.3g} % interval over {seeds} seeds, adjusted for {arms} arms: {low:+.3g} to "
    "{high:+.3g}; sign-flip p = {flip:.3g}",
    "interval.none": "{seeds} seeds are too few for an interval",
    "interval.none.one": "{seeds} seed is too few for an interval",
    "interval.same": "the same with each of {seeds} seeds; sign-flip p = {flip:.3g}",
    "lost": "It has no number for seed {lost} (diverged or not trained), which the comparison leaves out.",
    "epochs": "Last epoch ({last_epoch:.3g}): {last:+.3g} ({last_low:+.3g} to {last_high:+.3g}). Best epoch "
    "({best_epoch:.3g}): {best:+.3g} ({best_low:+.3g} to {best_high:+.3g}).",
    "epochs.few_seeds": "Last epoch ({last_epoch:.3g}): {last:+.3g}. Best epoch ({best_epoch:.3g}): {best:+.3g}.",
    "examples.hold": "For these seeds, on other examples of the kind: {difference:+.3g} ({low:+.3g} to {high:+.3g}; "
    "paired bootstrap over {examples} examples).",
    "examples.open": "For these seeds, other examples of the kind might show nothing: {difference:+.3g} ({low:+.3g} "
    "to {high:+.3g}; paired bootstrap over {examples} examples).",
    "examples.hold.one": "For these seeds, on other examples of the kind: {difference:+.3g} ({low:+.3g} to "
    "{high:+.3g}; paired bootstrap over {examples} example).",
    "examples.open.one": "For these seeds, other examples of the kind might show nothing: {difference:+.3g} "
    "({low:+.3g} to {high:+.3g}; paired bootstrap over {examples} example).",
    "length.unknown": "The lengths of the answers were not kept, so length may explain any difference.",
    "length.few_seeds": "Answers went " + _LENGTHS + "; more seeds would tell whether that is chance.",
    "length.same": "Answers went " + _LENGTHS + ", no change that these seeds tell from chance.",
    "length.changed": "Answers went " + _LENGTHS + " ({low:+.3g} to {high:+.3g}).",
    "length.explains": "Length may explain it: answers went "
    + _LENGTHS
    + ", and at equal length the difference is {adjusted:+.3g} ({adjusted_low:+.3g} to {adjusted_high:+.3g}).",
    "length.remains": "Length does not explain it: answers went "
    + _LENGTHS
    + ", and at equal length the difference is still {adjusted:+.3g} ({adjusted_low:+.3g} to {adjusted_high:+.3g}).",
    "length.inseparable": "Length may explain it: answers went "
    + _LENGTHS
    + ", and the two cannot be told apart here.",
    "within": "This is less than {floor} moves from run to run ({size:.3g}): one pair of runs cannot show it.",
    "within_rounding": "This is less than rounding to {precision} moves it ({size:.2g}): it is no effect.",
    "next.rounding": "To know more: train in float32, or ask about a measure that differs by more.",
    "next.seeds": "To know more: train at least {needed} seeds.",
    "next.power": "To know more: a difference of this size would take about {needed} seeds to be told from chance four "
    "times in five; these {seeds} so tell only differences beyond {visible:.3g}.",
    "next.tiny": "To know more: a difference of this size would take more than {most} seeds; these {seeds} tell only "
    "differences beyond {visible:.3g}.",
    "next.same": "To know more: it reached the very numbers of the control with every seed; take a finer measure, such "
    "as the loss.",
    "next.lost": "To know more: train it with a smaller learning rate or less noise, so that every seed ends with a "
    "number.",
    "next.repeat": "To know more: train it with new seeds, on other data and a larger model; this holds for this "
    "model, these rows and these settings.",
    "closing.best": "A best epoch that was chosen by the rows it is measured on flatters every arm.",
    "closing.halves": "Best epochs are chosen by the loss on one half of the held-out rows and read on the other half, "
    "both ways.",
    "closing.no_length": "Length plays no part in {measure}: it is taken on the reference responses.",
    "closing.base": "The untouched base: {measure} {value:.4g}.",
    "closing.rounding": "Rounding to {precision} moves {measure} by up to {size:.2g}: smaller differences are no "
    "effects.",
    "closing.rounding_none": "Rounding to {precision} does not move {measure}.",
    "closing.rounding_unknown": "How far the number format moves {measure} was not measured.",
    "closing.floor": "What {floor} moves from run to run: {size:.3g} (root mean square).",
    "closing.alarm": "Careful: {floor} should change nothing, and came out as {difference:+.3g} ({low:+.3g} to "
    "{high:+.3g}). Once in twenty studies that is chance; else the comparison itself is at fault.",
}
