"""Judge a record: its question, the results of every arm and seed, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neftune_core.data.preparing import PreparedData
from neftune_core.engine.row_measures import RowMeasures
from neftune_core.errors import LabError, RecordError
from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Outcome, Outcomes, Question, Rounding, Seeds
from neftune_core.evaluation.overlap import units
from neftune_core.evaluation.settings import AUTOMATIC
from neftune_core.evaluation.statistics import Floats
from neftune_core.evaluation.verdict import Verdict, verdict
from neftune_core.language import later, say
from neftune_core.studies.records.numbers import Sampled, answer_scores, metrics, rows_by_step, table
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CHAOS_ARM, CONTROL, StudySettings
from neftune_core.studies.steering.best_arms import ended_early
from neftune_core.studies.steering.log import continued_from, stopped_arms

KNOWN_ANSWERS = ("starter:world-", "starter:question-answering")
"""Prefixes of data sources that are judged by exact match by default."""
NO_KNOWN_ANSWERS = ("starter:world-stories",)
UNMARKED = (*NO_KNOWN_ANSWERS, "starter:world-noisy")
"""Sets of the world without marks; a fifth of the training answers of world-noisy is wrong on purpose."""
LIVE = later("This study is live: its noise could be changed while it trained, so nothing can be concluded from it.")
SHORT_WORDS, SHORT_SHARE = 4, 0.9
"""User data has known answers if at least `SHORT_SHARE` of its held-out responses have at most `SHORT_WORDS` words."""

NAMES = {
    "held_out_loss": "held_out_loss",
    "held_out_accuracy": "accuracy",
    "held_out_exact": "exact",
    "train_loss": "train_loss",
}
"""Names of measures by their names in `evaluated` events."""


def has_known_answers(study: StudySettings, prepared: PreparedData) -> bool:
    """Return whether each held-out row has one correct answer.

    Args:
        study: Settings of the study.
        prepared: Its tokenised rows.

    Returns:
        True for starter sets with known answers, and for user data with mostly very short responses.
    """
    source, rows = study.data.source, prepared.held_out
    if source.startswith(KNOWN_ANSWERS) or not rows:
        return bool(rows) and source not in NO_KNOWN_ANSWERS
    short = sum(len(units(row.example.response)) <= SHORT_WORDS for row in rows)
    return not source.startswith("starter:") and short >= SHORT_SHARE * len(rows)


def may_be_marked(record: Record) -> bool:
    """Return whether answers to a study's data are marked as expected or not, because other answers would be wrong.

    Of the starter sets, only sets of the invented village are marked. Other data is marked if its automatic question is
    exact match, which is chosen for very short answers.
    """
    try:
        source = record.study.data.source
        if source.startswith("starter:"):
            return source.startswith("starter:world-") and source not in UNMARKED
        return record.study.measuring.primary == AUTOMATIC and question_of(record).measure == "exact"
    except LabError:
        return False


def question_for(study: StudySettings, prepared: PreparedData) -> Question:
    """Return the question of a new study, from its settings and data.

    Args:
        study: Settings of the study.
        prepared: Its tokenised rows.

    Returns:
        The measure and the epoch to judge. If the measure is automatic, it is exact match for data with known answers,
        the training loss without held-out rows, and otherwise the held-out loss.
    """
    asked = study.measuring
    if asked.primary != AUTOMATIC:
        return Question(asked.primary, asked.epoch)
    if not prepared.held_out:
        return Question("train_loss", asked.epoch)
    return Question("exact" if has_known_answers(study, prepared) else "held_out_loss", asked.epoch)


def question_of(record: Record) -> Question:
    """Return the question stored in a record, or else the one in its settings (held-out loss if automatic)."""
    named = record.about_table("question")
    try:
        return Question(str(named["measure"]), str(named["epoch"]))
    except (KeyError, LabError):
        asked = record.study.measuring
        return Question("held_out_loss" if asked.primary == AUTOMATIC else asked.primary, asked.epoch)


def verdict_of(record: Record, question: Question | None = None) -> Verdict:
    """Return the verdict on the results of a record so far.

    Args:
        record: Record of the study.
        question: Measure and epoch to judge; None for the record's own.

    Returns:
        The verdict.

    Raises:
        RecordError: If the settings cannot be read, or the study is live.
        DataError: If the runs were measured on different numbers of examples.
    """
    asked = question or question_of(record)
    return verdict(outcomes_of(record, asked), asked)


def outcomes_of(record: Record, question: Question | None = None) -> Outcomes:
    """Return the results of a record's arms by seed.

    Only completed seeds are included. If there are none, as in a stopped study, the first seed so far is used.

    Args:
        record: Record of the study.
        question: Measure and epoch for which per-example statistics are returned; None for the record's own.

    Returns:
        The results.

    Raises:
        RecordError: If the settings cannot be read, or the study is live.
    """
    study, asked = record.study, question or question_of(record)
    if study.live:
        raise RecordError(say(LIVE))
    found = seed_histories(record, asked)
    seeds = range(study.seed, study.seed + study.seeds)

    def runs(arm: str, shift: int = 0, beside: str = "") -> Seeds:
        """Return the results of one arm by seed.

        Args:
            arm: Name of the arm.
            shift: Offset of the seed whose results are used.
            beside: Arm up to whose end the results count; "" for `arm` itself.

        Returns:
            The results.
        """
        return {seed: found[seed + shift].up_to(beside or arm).outcome(arm) for seed in seeds if seed + shift in found}

    control, floors = runs(CONTROL.name), {}
    if study.measuring.chaos:
        floors["chaos"] = runs(CHAOS_ARM)
    if study.measuring.another_seed:
        floors["another_seed"] = runs(CONTROL.name, shift=study.seeds)
    arms = {name: runs(name) for name in study.arms if name not in (CONTROL.name, CHAOS_ARM)}
    halves = bool(found) and all(history.has_rows for history in found.values())
    floors = {name: runs for name, runs in floors.items() if runs}
    stopped = {
        arm: {seed: (found[seed].stopped[arm], max(found[seed].up_to(arm).steps)) for seed in own}
        for arm in arms
        if (own := [seed for seed in seeds if seed in found and arm in found[seed].stopped])
    }
    controls = {arm: runs(CONTROL.name, beside=arm) for arm in stopped}
    early = {str(seed): steps for seed, steps in ended_early(record.events()).items() if seed in control}
    return Outcomes(
        control, arms, floors, controls, halves, rounding_of(record), early, stopped, continued_from(record.about)
    )


def rounding_of(record: Record) -> Rounding:
    """Return the effect of rounding on each measure, from the first seed that has one; empty if no seed has one."""
    for measures in metrics(record).values():
        floor = table(measures.get("floor"))
        sizes = {name: float(size) for name, size in table(floor.get("largest")).items() if _is_number(size)}
        if sizes:
            return Rounding(str(floor.get("precision")), sizes)
    return Rounding()


def overlaps_of(record: Record) -> dict[str, list[float]]:
    """Return the ROUGE-L of each measured answer to a training prompt with its training response, by arm."""
    found: dict[str, list[float]] = {}
    for samples in answer_scores(record).values():
        for arm, scores in samples.get("train", {}).items():
            found.setdefault(arm, []).extend(scores.get("memorised_rouge_l", np.zeros(0)).tolist())
    return {name: found[name] for name in ("base", *record.arms) if found.get(name)}


def seed_histories(record: Record, question: Question) -> dict[int, SeedHistory]:
    """Return the history of every completed seed, or else the history of the first seed so far.

    A seed is also completed if all its arms diverged. Seeds that train only the control (A/A floor) are included.

    Args:
        record: Record of the study.
        question: Measure and epoch of the per-example statistics.

    Returns:
        Histories by seed.
    """
    steps: dict[int, dict[int, Mapping[str, Any]]] = {}
    planned: dict[int, int] = {}
    events, data = record.events(), record.about_table("data")
    for event in events:
        seed = event.get("seed")
        if event["event"] == "evaluated" and isinstance(seed, int):
            steps.setdefault(seed, {})[event["step"]] = event["arms"]
            planned[seed] = event.get("steps") or planned.get(seed, 0)
    early = ended_early(events)
    planned |= {seed: early[seed][0] for seed in planned if seed in early}
    rows, ends, answers = rows_by_step(record), metrics(record), answer_scores(record)
    study, diverged, stopped = record.study, diverged_arms(record), stopped_arms(events)
    per_epoch = math.ceil(data.get("train", 1) / study.training.batch_size) or 1
    found = {
        seed: SeedHistory(
            arms_by_step,
            {step: rows[seed, step] for step in arms_by_step if (seed, step) in rows},
            table(ends.get(str(seed), {}).get("arms")),
            answers.get(seed, {}),
            per_epoch,
            planned[seed],
            diverged.get(seed, frozenset()),
            question,
            data.get("frequency_loss") or math.nan,
            stopped.get(seed, {}),
        )
        for seed, arms_by_step in steps.items()
        if max(arms_by_step) > 0 or seed in diverged
    }
    all_diverged = {seed for seed in found if set(study.runs.get(seed, ())) <= found[seed].diverged}
    completed = {seed: one for seed, one in found.items() if max(steps[seed]) >= planned[seed] or seed in all_diverged}
    return completed or dict(list(found.items())[:1])


def diverged_arms(record: Record) -> dict[int, frozenset[str]]:
    """Return the diverged arms (NaN or infinite loss) by seed."""
    found: dict[int, frozenset[str]] = {}
    for event in record.events():
        if event["event"] == "diverged" and isinstance(event.get("seed"), int):
            found[event["seed"]] = found.get(event["seed"], frozenset()) | set(event.get("arms", {}))
    return found


@dataclass(frozen=True)
class SeedHistory:
    """Evaluations and final measures of one seed.

    Attributes:
        steps: Losses and accuracies of every evaluation, by step and arm.
        rows: Row measures of every evaluation, by step.
        ends: Measures taken when the seed ended, by arm.
        answers: Scores of measured answers, by sample, arm and measure.
        diverged: Arms with a loss that became NaN or infinite.
        question: Measure and epoch of the per-example statistics.
        frequency_loss: Training loss of guessing tokens by their frequency, in nats; NaN if unknown.
        stopped: Manually stopped arms, each with the last step that it took.
    """

    steps: Mapping[int, Mapping[str, Any]]
    rows: Mapping[int, Sampled]
    ends: Mapping[str, Any]
    answers: Mapping[str, Mapping[str, Mapping[str, Floats]]]
    per_epoch: int
    planned: int
    diverged: frozenset[str]
    question: Question
    frequency_loss: float
    stopped: Mapping[str, int] = field(default_factory=dict)

    def up_to(self, arm: str) -> SeedHistory:
        """Return the history up to the last evaluation of a manually stopped arm; all of it for other arms.

        A shortened history has no measures from the end of the seed, because the arm has none.
        """
        end = max((step for step, arms in self.steps.items() if arm in arms), default=0)
        if arm not in self.stopped or end == max(self.steps):
            return self
        early = {step: arms for step, arms in self.steps.items() if step <= end}
        rows = {step: sampled for step, sampled in self.rows.items() if step <= end}
        return replace(self, steps=early, rows=rows, ends={}, answers={})

    @property
    def trained(self) -> list[int]:
        """Steps of the evaluations, except the one before training, in order."""
        return sorted(step for step in self.steps if step > 0)

    @property
    def has_rows(self) -> bool:
        """Whether the row measures of every evaluation are stored, with at least two held-out rows."""
        samples = [self.rows.get(step, {}).get("held_out", {}) for step in self.trained]
        return all(any(len(rows.tokens) > 1 for rows in sample.values()) for sample in samples)

    def last(self, arm: str) -> dict[str, float]:
        """Return an arm's measures at the final evaluation, or the base's at its first; empty if the arm diverged."""
        if arm in self.diverged:
            return {}
        steps = [max(self.steps)] if arm != "base" else sorted(self.steps)
        numbers = next((self.steps[step][arm] for step in steps if arm in self.steps[step]), None)
        if numbers is None:
            return {}
        ends = {name: float(value) for name, value in table(self.ends.get(arm)).items() if _is_number(value)}
        return {**measures_of(numbers), **ends}

    def lowest(self, arm: str) -> dict[str, float]:
        """Return the lowest value of each measure during training; for the base, its only value."""
        if arm in self.diverged:
            return {}
        steps = self.steps if arm == "base" else self.trained
        known = [measures_of(self.steps[step].get(arm, {})) for step in steps]
        return {name: min(one[name] for one in known if name in one) for one in known for name in one}

    def outcome(self, arm: str) -> Outcome:
        """Return the results of an arm."""
        base = self.last("base")
        if arm in self.diverged or not self.trained:
            return Outcome({}, base=base, steps=self.planned, diverged=arm in self.diverged)
        last, best, epoch, final = self.last(arm), dict[str, float](), 0.0, self.trained[-1]
        selected = self._cross_select(arm) if last else None
        if selected is not None:
            best, epoch = selected[1], selected[2]
        elif last:
            best, epoch = self._best_of_means(arm)
        rows = selected[0] if selected and self.question.epoch == "best" else self._rows(final, arm)
        scores, lengths = self._examples(arm, rows)
        epochs = (final / self.per_epoch, epoch)
        return Outcome(last, best, *epochs, scores, lengths, base, final, frequency_loss=self.frequency_loss)

    def _rows(self, step: int, arm: str, sample: str = "held_out") -> RowMeasures | None:
        return self.rows.get(step, {}).get(sample, {}).get(arm)

    def _cross_select(self, arm: str) -> tuple[RowMeasures, dict[str, float], float] | None:
        """Measure each half of the held-out rows at the epoch that is best on the other half.

        Return the rows, their measures and the mean of the two epochs; None if row measures are missing.
        """
        by_step = [(step, self._rows(step, arm)) for step in self.trained]
        known = [(step, rows) for step, rows in by_step if rows is not None]
        if len(known) < len(by_step) or min(len(rows.tokens) for _, rows in known) < 2:
            return None
        first, even, odd = known[0][1], slice(0, None, 2), slice(1, None, 2)
        losses, hits, chosen = np.zeros_like(first.losses), np.zeros_like(first.hits), []
        for half, other in ((even, odd), (odd, even)):
            step, rows = min(known, key=lambda one: float(one[1].losses[0, half].sum()))
            losses[0, other], hits[0, other] = rows.losses[0, other], rows.hits[0, other]
            chosen.append(step)
        found = RowMeasures(losses, hits, first.tokens)
        trained_on = [measures_of(self.steps[step].get(arm, {})).get("train_loss", math.nan) for step in chosen]
        numbers = {f"held_out_{name}": value for name, value in vars(found.of(0)).items()}
        return found, measures_of(numbers | {"train_loss": sum(trained_on) / 2}), sum(chosen) / 2 / self.per_epoch

    def _best_of_means(self, arm: str) -> tuple[dict[str, float], float]:
        """Return the measures and epoch of the evaluation with the lowest held-out loss, without using row measures."""
        known = {step: measures_of(self.steps[step].get(arm, {})) for step in self.trained}
        known = {step: numbers for step, numbers in known.items() if "held_out_loss" in numbers}
        if not known:
            return {}, 0.0
        step = min(known, key=lambda one: known[one]["held_out_loss"])
        return known[step], step / self.per_epoch

    def _examples(self, arm: str, rows: RowMeasures | None) -> tuple[dict[str, Floats], Floats | None]:
        """Return per-example statistics of the question's measure and, for measures of answers, the answer lengths."""
        measure = self.question.measure
        if MEASURES[measure].of_answers:
            sample = "train" if measure.startswith("memorised") else "held_out"
            scores = self.answers.get(sample, {}).get(arm, {})
            return ({measure: scores[measure]} if measure in scores else {}), scores.get("tokens")
        if measure == "train_loss":
            rows = self._rows(self.trained[-1], arm, "train")
        if rows is None or (measure == "train_loss" and self.question.epoch == "best"):
            return {}, None
        by_measure = {
            "held_out_loss": np.stack([rows.losses[0], rows.tokens], axis=-1),
            "train_loss": np.stack([rows.losses[0], rows.tokens], axis=-1),
            "accuracy": np.stack([rows.hits[0], rows.tokens], axis=-1),
            "exact": (rows.hits[0] == rows.tokens).astype(np.float64),
        }
        return ({measure: by_measure[measure]} if measure in by_measure else {}), None


def measures_of(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Return the measures of one evaluation by name, including the derived ones (perplexity, gap)."""
    found = {name: float(numbers[logged]) for logged, name in NAMES.items() if _is_number(numbers.get(logged))}
    if "held_out_loss" in found:
        found["perplexity"] = math.exp(min(found["held_out_loss"], 700.0))
        if "train_loss" in found:
            found["gap"] = found["held_out_loss"] - found["train_loss"]
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
