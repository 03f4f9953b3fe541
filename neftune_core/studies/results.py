"""Average the results of a record over its seeds, for tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Question, Rounding
from neftune_core.evaluation.verdict_words import rounding_line
from neftune_core.language import plural, say
from neftune_core.noise.names import arm_label
from neftune_core.studies.judging import diverged_arms, question_of, rounding_of, seed_histories
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
            notes.append(say(words, arm=arm_label(arm), seeds=", ".join(map(str, seeds))))
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
