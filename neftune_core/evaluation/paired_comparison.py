"""Paired comparison of an arm with the control: over seeds, over examples, and at equal answer length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neftune_core.errors import DataError
from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Outcomes, Seeds
from neftune_core.evaluation.statistics import (
    RESAMPLES,
    Floats,
    Interval,
    holm,
    holm_levels,
    paired_bootstrap,
    sign_flip,
    t_interval,
    t_test,
)

DIGITS = 12
MOST_DRAWS, FEWEST_RESAMPLES = 200_000_000, 1_000
"""Maximum number of examples drawn for all arms of a study, and minimum number of resamples of an interval."""
SMALLEST_SPREAD = 1e-12
"""Smallest spread of log length ratios to which a line is fitted; that of whole numbers of tokens is larger."""
INTERVAL_SEEDS = 3
"""Minimum number of seeds for an interval. With two seeds, the interval is uselessly wide, or empty if the differences
are equal."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of an arm with its control at one epoch, paired by seed.

    Attributes:
        seeds: Seeds for which both sides have a value.
        lost: Seeds for which either side has no value.
        control: Mean of the control over `seeds`.
        arm: Mean of the arm over `seeds`.
        differences: Arm minus control, by seed.
        interval: Interval of the mean difference, at the level of the arm's step in Holm's correction; None for fewer
            than `INTERVAL_SEEDS` seeds.
        t_p: Two-sided p value of Student's test; 1 for fewer than two seeds.
        flip_p: Two-sided p value of the sign-flip test; 1 for fewer than two seeds.
        holm_t_p: `t_p` adjusted over the arms.
        holm_flip_p: `flip_p` adjusted over the arms.
    """

    seeds: tuple[int, ...]
    lost: tuple[int, ...]
    control: float
    arm: float
    differences: tuple[float, ...]
    interval: Interval | None
    t_p: float
    flip_p: float
    holm_t_p: float
    holm_flip_p: float

    @property
    def difference(self) -> float:
        """Mean difference, arm minus control; NaN without seeds."""
        return without_residue(self.arm - self.control)

    def sign(self, least: float = 0.0) -> int:
        """Return the sign of the difference, as far as the seeds show it.

        Args:
            least: Smallest absolute difference that counts.

        Returns:
            1 or -1 if the interval excludes zero or, without an interval, if the differences of all seeds have the same
            sign; otherwise 0.
        """
        if not self.seeds or self.difference == 0 or abs(self.difference) < least:
            return 0
        sign = 1 if self.difference > 0 else -1
        if self.interval is not None:
            return sign if self.interval.excludes_zero else 0
        return sign if all(sign * each > 0 for each in self.differences) else 0


def compare_arms(outcomes: Outcomes, measure: str, epoch: str) -> dict[str, Comparison]:
    """Compare every arm with its control, with Holm's correction over the arms.

    Args:
        outcomes: Results of the study.
        measure: Name of the measure.
        epoch: "last" or "best".

    Returns:
        Comparisons by arm.
    """
    found = {name: _compare(outcomes.control_of(name), arm, measure, epoch) for name, arm in outcomes.arms.items()}
    t_values = [comparison.t_p for comparison in found.values()]
    adjusted = zip(holm(t_values), holm([each.flip_p for each in found.values()]), holm_levels(t_values), strict=True)
    return {
        name: replace(
            comparison,
            holm_t_p=t_p,
            holm_flip_p=flip_p,
            interval=t_interval(comparison.differences, level) if len(comparison.seeds) >= INTERVAL_SEEDS else None,
        )
        for (name, comparison), (t_p, flip_p, level) in zip(found.items(), adjusted, strict=True)
    }


def _compare(control: Seeds, arm: Seeds, measure: str, epoch: str) -> Comparison:
    every = sorted({*control, *arm})
    pairs = {
        seed: (control[seed].value(measure, epoch), arm[seed].value(measure, epoch))
        for seed in every
        if seed in control and seed in arm
    }
    seeds = tuple(seed for seed, pair in pairs.items() if np.isfinite(pair).all())
    differences = tuple(without_residue(pairs[seed][1] - pairs[seed][0]) for seed in seeds)
    several = len(seeds) > 1
    t_p, flip_p = (t_test(differences), sign_flip(differences)) if several else (1.0, 1.0)
    return Comparison(
        seeds=seeds,
        lost=tuple(seed for seed in every if seed not in seeds),
        control=_mean([pairs[seed][0] for seed in seeds]),
        arm=_mean([pairs[seed][1] for seed in seeds]),
        differences=differences,
        interval=None,
        t_p=t_p,
        flip_p=flip_p,
        holm_t_p=t_p,
        holm_flip_p=flip_p,
    )


def _mean(values: Sequence[float]) -> float:
    return without_residue(float(np.mean(values))) if values else float("nan")


def without_residue(value: float) -> float:
    """Round away floating-point residue, so that a zero difference is exactly 0.0 and never -0.0."""
    return round(value, DIGITS) + 0.0


def over_examples(
    control: Seeds, arm: Seeds, seeds: Sequence[int], measure: str, index: int, arms: int
) -> Interval | None:
    """Compute the difference arm minus control for these seeds, with a bootstrap interval over examples.

    Args:
        control: Outcomes of the control by seed.
        arm: Outcomes of the arm by seed.
        seeds: Seeds to average over.
        measure: Name of the measure.
        index: Index of the arm, which determines the resamples.
        arms: Number of arms, which share `MOST_DRAWS`.

    Returns:
        The interval; None without seeds, if statistics of an example are missing or NaN, if fewer than
        `FEWEST_RESAMPLES` are possible, or if the statistics of an imported record give no numbers.

    Raises:
        DataError: If the runs were measured on different numbers of examples.
    """
    kept = [side[seed].statistics(measure) for side in (arm, control) for seed in seeds]
    known = [statistics for statistics in kept if statistics is not None]
    if not seeds or len(known) < len(kept):
        return None
    if len({statistics.shape for statistics in known}) > 1:
        raise DataError("The runs were measured on different numbers of examples, so they cannot be paired.")
    resamples = min(RESAMPLES, MOST_DRAWS // (arms * len(known[0])))
    if resamples < FEWEST_RESAMPLES:
        return None
    first, second = np.split(np.stack(known), 2)
    generator = np.random.default_rng((0, index))
    with np.errstate(all="ignore"):
        found = paired_bootstrap(first, second, MEASURES[measure].score, generator, resamples=resamples)
    return found if np.isfinite([found.estimate, found.low, found.high]).all() else None


def another_seed(control: Seeds, measure: str, epoch: str) -> float | None:
    """Estimate the effect of the seed: the root-mean-square difference between two runs of the control.

    Args:
        control: Outcomes of the control by seed.
        measure: Name of the measure.
        epoch: "last" or "best".

    Returns:
        The sample standard deviation times `sqrt(2)`; None for fewer than two runs.
    """
    values = [outcome.value(measure, epoch) for outcome in control.values()]
    known = [value for value in values if np.isfinite(value)]
    return float(np.std(known, ddof=1) * np.sqrt(2)) if len(known) > 1 else None


@dataclass(frozen=True)
class Lengths:
    """Answer lengths of an arm and its control, and the difference of a measure at equal length.

    Attributes:
        control: Mean length of the control's answers, in tokens.
        arm: Mean length of the arm's answers, in tokens.
        change: Mean change of the length over seeds, with its interval; None for fewer than `INTERVAL_SEEDS` seeds.
        adjusted: Difference of the measure at equal length; None for too few seeds, or if length and effect cannot be
            separated.
    """

    control: float
    arm: float
    change: Interval | None
    adjusted: Interval | None


def lengths(control: Seeds, arm: Seeds, comparison: Comparison, measure: str) -> Lengths | None:
    """Compare the answer lengths of an arm with those of its control.

    Args:
        control: Outcomes of the control by seed.
        arm: Outcomes of the arm by seed.
        comparison: Their comparison, which lists the seeds.
        measure: Measure that is adjusted for length.

    Returns:
        The lengths; None without seeds, or if the lengths were not stored.
    """
    means, equal = [], []
    for seed in comparison.seeds:
        before, after = control[seed].lengths, arm[seed].lengths
        if before is None or after is None:
            return None
        means.append((float(before.mean()), float(after.mean())))
        scores = [outcomes[seed].statistics(measure) for outcomes in (control, arm)]
        equal.append(_at_equal_length(scores, before, after))
    if not means:
        return None
    first, second = np.array(means).T
    change, adjusted, known = None, None, [value for value in equal if value is not None]
    if comparison.interval is not None:
        change = t_interval(second - first)
        adjusted = t_interval(known, comparison.interval.level) if len(known) == len(means) else None
    return Lengths(float(first.mean()), float(second.mean()), change, adjusted)


def _at_equal_length(scores: Sequence[Floats | None], before: Floats, after: Floats) -> float | None:
    """Regress the differences of the examples on their log length ratios; return the difference at equal length.

    Return None for a corpus measure. Also return None if every answer became longer, or every answer became shorter,
    because this would be an extrapolation.
    """
    control, arm = scores
    if control is None or arm is None or control.shape[-1] != 2:
        return None
    change = np.log1p(after) - np.log1p(before)
    if not change.min() <= 0 <= change.max():
        return None
    difference = arm[:, 0] - control[:, 0]
    spread = float(((change - change.mean()) ** 2).sum())
    slope = float(((change - change.mean()) * difference).sum()) / spread if spread > SMALLEST_SPREAD else 0.0
    return float(difference.mean() - slope * change.mean())
