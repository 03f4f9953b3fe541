"""Average the results of a record over its seeds, for tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Question, Rounding
from neftune_core.evaluation.verdict_words import rounding_line
from neftune_core.language import plural, say
from neftune_core.noise.names import arm_words
from neftune_core.studies.judging import diverged_arms, question_of, rounding_of, seed_histories
from neftune_core.studies.records.numbers import answer_scores, metrics, table
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CHAOS_ARM


@dataclass(frozen=True)
class MeanResults:
    """Results of the base and the arms, as means over the same seeds.

    Attributes:
        seeds: The seeds averaged for all arms; empty if every arm is averaged over its own.
        last: Measures after the last epoch by arm, the base first; arms that diverged for all seeds are left out.
        lowest: Lowest value of each measure during training, by arm; for the base, its only value.
        lost: Seeds in which the loss became NaN or infinite, by arm.
    """

    seeds: tuple[int, ...]
    last: Mapping[str, Mapping[str, float]]
    lowest: Mapping[str, Mapping[str, float]]
    lost: Mapping[str, tuple[int, ...]]
    rounding: Rounding

    @property
    def of_seeds(self) -> str:
        """Suffix for headings, such as ", means over 3 seeds"; "" for one seed."""
        if len(self.seeds) == 1:
            return ""
        if not self.seeds:
            return say(", means over the seeds of each arm")
        return say(", means over {count} seeds", count=len(self.seeds))

    @property
    def notes(self) -> list[str]:
        """Notes on diverged seeds and on the effect of rounding."""
        return [*self.lost_notes, *self.rounding_notes]

    @property
    def lost_notes(self) -> list[str]:
        """Notes on diverged seeds."""
        notes = []
        for arm, seeds in self.lost.items():
            words = plural(len(seeds), "{arm} diverged with seed {seeds}.", "{arm} diverged with seeds {seeds}.")
            notes.append(say(words, arm=arm_words(arm), seeds=", ".join(map(str, seeds))))
        return notes

    @property
    def rounding_notes(self) -> list[str]:
        """Notes on the effect of rounding on the losses."""
        losses = [loss for loss in ("held_out_loss", "train_loss") if loss in self.last.get("base", {})]
        known = [loss for loss in losses if self.rounding.of(loss) is not None] or losses[:1] or ["held_out_loss"]
        return [rounding_note(self.rounding, loss) for loss in known]


def mean_results(record: Record, question: Question | None = None) -> MeanResults:
    """Average the results over the seeds that all arms have.

    Arms that diverged for every seed are left out. If no seed has all the other arms, each arm is averaged over its
    own seeds. Seeds of the A/A floor are not included.

    Args:
        record: Record of the study.
        question: Measure and epoch; None for the record's own.

    Returns:
        The means.
    """
    study = record.study
    every = seed_histories(record, question or question_of(record))
    found = {seed: history for seed, history in every.items() if seed < study.seed + study.seeds}
    diverged = {arm: tuple(seed for seed, one in found.items() if arm in one.diverged) for arm in study.arms}
    lost = {arm: seeds for arm, seeds in diverged.items() if seeds}
    alive = [arm for arm in study.arms if len(lost.get(arm, ())) < len(found)]
    seeds = tuple(seed for seed in found if all(seed not in lost.get(arm, ()) for arm in alive))
    last, lowest = dict[str, dict[str, float]](), dict[str, dict[str, float]]()
    for arm in ("base", *alive):
        chosen = [seed for seed in found if arm == "base" or seed not in lost.get(arm, ())]
        averaged = [found[seed] for seed in (seeds or chosen)]
        last[arm] = _means([history.last(arm) for history in averaged])
        lowest[arm] = _means([history.lowest(arm) for history in averaged])
    return MeanResults(seeds, last, lowest, lost, rounding_of(record))


def _means(by_seed: Sequence[Mapping[str, float]]) -> dict[str, float]:
    known = {name: [one[name] for one in by_seed if np.isfinite(one.get(name, np.nan))] for name in MEASURES}
    return {name: float(np.mean(values)) for name, values in known.items() if values}


def measured_rows(record: Record) -> dict[str, int]:
    """Return the number of rows or prompts behind each measure.

    Args:
        record: The record.

    Returns:
        Numbers by measure. Measures of a sample whose size is not stored, and the gap if its two samples differ in
        size, are left out.
    """
    ends = next(iter(metrics(record).values()), {})
    described = {**record.about_table("samples"), **table(ends.get("samples"))}
    stored = {**record.about_table("sample_sizes"), **table(ends.get("sample_sizes"))}
    sizes = {sample: _described_size(words) for sample, words in described.items()} | stored
    answers = next(iter(answer_scores(record).values()), {})
    for part, arms in answers.items():
        sizes[part] = max((len(scores.get("tokens", ())) for scores in arms.values()), default=0)
    found = {name: sizes.get(_sample_of(name), 0) for name in MEASURES}
    if found["train_loss"] != found["held_out_loss"]:
        del found["gap"]
    return {name: size for name, size in found.items() if size}


def _described_size(words: Any) -> int:
    """Return the number of rows in the description of a sample of a record without stored sizes; 0 if unknown."""
    if not isinstance(words, str):
        return 0
    number = re.search(r"[0-9][0-9,]{0,11}", words)
    return int(number.group().replace(",", "")) if number else int(words.startswith("the first "))


def _sample_of(measure: str) -> str:
    """Return the name of the sample on which a measure is computed."""
    if measure in ("train_loss", "noise_penalty"):
        return "train_loss"
    samples = {"Robustness": "robustness", "Memorisation": "train", "Text": "held_out", "Length": "held_out"}
    return samples.get(MEASURES[measure].group, "held_out_loss")


def rows_text(count: int) -> str:
    """Return a number of rows with its noun, in the current language."""
    return say(plural(count, "1 row", "{count:,} rows"), count=count)


def lost_every_noise_arm(record: Record) -> bool:
    """Return whether every noise arm diverged (NaN or infinite loss) for every seed."""
    study, lost = record.study, diverged_arms(record)
    noisy = [name for name, noise in study.arms.items() if not noise.is_silent and name != CHAOS_ARM]
    seeds = range(study.seed, study.seed + study.seeds)
    return bool(noisy) and all(name in lost.get(seed, ()) for name in noisy for seed in seeds)


def rounding_note(rounding: Rounding, measure: str = "held_out_loss") -> str:
    """Return the note on rounding for a table.

    Args:
        rounding: Effect of the number format.
        measure: Name of the measure.

    Returns:
        A sentence.
    """
    return rounding_line(rounding, measure).text()
