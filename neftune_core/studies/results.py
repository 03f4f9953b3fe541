"""What the base and the arms of a record reached, as every table shows it: means over the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neftune_core.evaluation.outcomes import MEASURES, Question, Rounding
from neftune_core.evaluation.verdict_words import ENGLISH, rounding_line
from neftune_core.language import say
from neftune_core.studies.judging import courses, diverged_arms, question_of, rounding_of
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CHAOS_ARM


@dataclass(frozen=True)
class Reached:
    """What the base and the arms of a record reached: means over the same seeds.

    Attributes:
        seeds: The seeds of the means.
        last: By arm, every measure after the last epoch. The base comes first; an arm without any number is left out.
        lowest: By arm, the lowest value of each loss after some training; of the base its only one.
        lost: By arm, the seeds in which its loss stopped being a number.
        rounding: What the number format moves.
    """

    seeds: tuple[int, ...]
    last: Mapping[str, Mapping[str, float]]
    lowest: Mapping[str, Mapping[str, float]]
    lost: Mapping[str, tuple[int, ...]]
    rounding: Rounding

    @property
    def of_seeds(self) -> str:
        """Over which seeds the means are, to stand behind a heading; empty for one."""
        if len(self.seeds) == 1:
            return ""
        if not self.seeds:
            return say(", means of the seeds that each arm has")
        return say(", means of {count} seeds", count=len(self.seeds))

    @property
    def notes(self) -> list[str]:
        """What is to be known of the numbers: the seeds that are left out, and what rounding moves."""
        lost = [
            say("{arm} diverged with seed {seeds}.", arm=arm, seeds=", ".join(map(str, seeds)))
            for arm, seeds in self.lost.items()
        ]
        losses = [loss for loss in ("held_out_loss", "train_loss") if loss in self.last.get("base", {})]
        known = [loss for loss in losses if self.rounding.of(loss) is not None] or losses[:1] or ["held_out_loss"]
        return [*lost, *(rounding_words(self.rounding, loss) for loss in known)]


def reached(record: Record, question: Question | None = None) -> Reached:
    """What the base and the arms reached, as means over the seeds that all arms have.

    An arm that lost every seed takes no part in that choice and has no mean. Seeds of the A/A floor are left out.
    """
    study = record.study
    every = courses(record, question or question_of(record))
    found = {seed: course for seed, course in every.items() if seed < study.seed + study.seeds}
    lost = {
        arm: seeds
        for arm in study.arms
        if (seeds := tuple(seed for seed, course in found.items() if arm in course.diverged))
    }
    alive = [arm for arm in study.arms if len(lost.get(arm, ())) < len(found)]
    seeds = tuple(seed for seed in found if all(seed not in lost.get(arm, ()) for arm in alive))
    last, lowest = dict[str, dict[str, float]](), dict[str, dict[str, float]]()
    for arm in ("base", *alive):
        chosen = [seed for seed in found if arm == "base" or seed not in lost.get(arm, ())]
        mine = [found[seed] for seed in (seeds or chosen)]
        last[arm] = _means([course.last(arm) for course in mine])
        lowest[arm] = _means([course.lowest(arm) for course in mine])
    return Reached(seeds, last, lowest, lost, rounding_of(record))


def _means(reached: Sequence[Mapping[str, float]]) -> dict[str, float]:
    known = {name: [one[name] for one in reached if np.isfinite(one.get(name, np.nan))] for name in MEASURES}
    return {name: float(np.mean(values)) for name, values in known.items() if values}


def lost_every_noise_arm(record: Record) -> bool:
    """Whether the loss of each noise arm stopped being a number with every seed."""
    study, lost = record.study, diverged_arms(record)
    noisy = [name for name, noise in study.arms.items() if not noise.is_silent and name != CHAOS_ARM]
    seeds = range(study.seed, study.seed + study.seeds)
    return bool(noisy) and all(name in lost.get(seed, ()) for name in noisy for seed in seeds)


def rounding_words(rounding: Rounding, measure: str = "held_out_loss") -> str:
    """The sentence about rounding that goes with every table of numbers."""
    return rounding_line(rounding, measure).text(ENGLISH)
