"""Intervals and tests for paired comparisons: across seeds, across examples, and for votes.

Across seeds: Student's t on the paired differences, the exact sign-flip test (Fisher 1935, The Design of Experiments,
section 21), and Holm's correction (1979) over arms. Across examples: the paired bootstrap (Koehn 2004, W04-3250), which
speaks about other examples for these seeds and never about other seeds. A bootstrap over a handful of seeds is not
offered: its intervals are far too narrow (`neftune bench evidence` counts its false alarms).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""From the sums of the examples' statistics, `[..., fields]`, to scores, `[...]`."""

LEVEL = 0.95
RESAMPLES = 10_000
EXACT_SEEDS = 32
"""Up to so many differences all sign flips are counted; above, their sum is as good as normal."""

_DRAWS_AT_ONCE = 2_000_000
_HALVINGS = 80


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval of confidence `level` around it."""

    estimate: float
    low: float
    high: float
    level: float = LEVEL

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside of it."""
        return self.low > 0 or self.high < 0


def t_interval(differences: ArrayLike, level: float = LEVEL) -> Interval:
    """The mean of at least two differences, with Student's interval."""
    values = np.asarray(differences, dtype=np.float64)
    half = t_point(level, len(values) - 1) * _standard_error(values)
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half, level)


def t_test(differences: ArrayLike) -> float:
    """The two-sided p of Student's test that the mean of at least two differences is zero."""
    values = np.asarray(differences, dtype=np.float64)
    error, mean = _standard_error(values), float(values.mean())
    if error == 0:
        return float(mean == 0)
    return 1 - t_share(abs(mean) / error, len(values) - 1)


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def t_share(point: float, freedom: int) -> float:
    """P(|T| <= `point`) for Student's T (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(point / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine, cosine if freedom > 1 else 0.0) if odd else (1.0, 1.0)
    for factor in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (factor - 1) / factor
        total += term
    share = math.sin(angle) * total
    return (angle + share) * 2 / math.pi if odd else share


@cache
def t_point(level: float, freedom: int) -> float:
    """The point t with P(|T| <= t) = `level`."""
    angle, step = math.pi / 4, math.pi / 8
    for _ in range(_HALVINGS):
        inside = t_share(math.sqrt(freedom) * math.tan(angle), freedom) < level
        angle += step if inside else -step
        step /= 2
    return math.sqrt(freedom) * math.tan(angle)


def sign_flip(differences: ArrayLike) -> float:
    """The two-sided p of the mean among all ways to turn the signs; it cannot fall below 2 / 2**n.

    Exact up to `EXACT_SEEDS` differences: each half is enumerated, and the pairs are counted by sorting.
    """
    values = np.asarray(differences, dtype=np.float64)
    slack = 1e-9 * float(np.abs(values).sum())
    reach = abs(float(values.sum())) - slack
    if reach <= 0:
        return 1.0
    if len(values) > EXACT_SEEDS:
        return math.erfc(reach / math.sqrt(2 * float((values**2).sum())))
    first, second = _signed_sums(values[::2]), np.sort(_signed_sums(values[1::2]))
    above = len(second) - np.searchsorted(second, reach - first, side="left")
    below = np.searchsorted(second, -reach - first, side="right")
    return float(above.sum() + below.sum()) / 2.0 ** len(values)


def _signed_sums(values: Floats) -> Floats:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(_by_size(p_values)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def holm_levels(p_values: Sequence[float], level: float = LEVEL) -> list[float]:
    """The confidence level of each hypothesis' interval, in the order given.

    An interval of that level excludes zero exactly where Holm's procedure rejects: each hypothesis has the level of
    its own step, and from the first that is not rejected on, the level of that one.
    """
    levels, error, going = [level] * len(p_values), 1 - level, True
    for rank, place in enumerate(_by_size(p_values)):
        if going:
            error = (1 - level) / (len(p_values) - rank)
            going = p_values[place] <= error
        levels[place] = 1 - error
    return levels


def _by_size(p_values: Sequence[float]) -> list[int]:
    return sorted(range(len(p_values)), key=lambda place: p_values[place])


def mean_score(sums: Floats) -> Floats:
    """The mean of examples whose statistics are (value, 1)."""
    return sums[..., 0] / sums[..., 1]


def as_statistics(values: ArrayLike) -> Floats:
    """Per-example values as `[examples, 2]` statistics for `mean_score`."""
    scores = np.asarray(values, dtype=np.float64)
    return np.stack([scores, np.ones_like(scores)], axis=-1)


def paired_bootstrap(
    arm: Floats,
    control: Floats,
    score: Score,
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Arm minus control, for these seeds, with the percentile interval over resampled examples.

    `arm` and `control` are `[seeds, examples, fields]`. The same examples are drawn for both and for all seeds, their
    statistics are summed, and the scores of the sums (of whole resampled corpora) are averaged over the seeds.
    """
    seeds, examples, fields = arm.shape
    flat = np.concatenate([arm, control]).transpose(1, 0, 2).reshape(examples, -1).astype(np.float64)

    def differences(sums: Floats) -> Floats:
        scores = score(sums.reshape(len(sums), 2 * seeds, fields))
        return scores[:, :seeds].mean(1) - scores[:, seeds:].mean(1)

    most = max(1, _DRAWS_AT_ONCE // examples)
    sizes = [min(most, resamples - start) for start in range(0, resamples, most)]
    found = np.concatenate([differences(_drawn(generator, size, examples) @ flat) for size in sizes])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(differences(flat.sum(0)[None])[0]), float(low), float(high), level)


def _drawn(generator: np.random.Generator, resamples: int, examples: int) -> Floats:
    """How often each example is in each resample, `[resamples, examples]`."""
    places = generator.integers(0, examples, (resamples, examples), dtype=np.int32)
    places += np.arange(resamples, dtype=np.int32)[:, None] * np.int32(examples)
    counts = np.bincount(places.ravel(), minlength=resamples * examples)
    return counts.reshape(resamples, examples).astype(np.float64)


def binomial_interval(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """A share with Clopper and Pearson's interval (1934), which never covers less than it says; ties are left out."""
    error = (1 - level) / 2
    low = 0.0 if successes == 0 else _share_where(lambda share: at_least(successes, trials, share) > error)
    high = (
        1.0 if successes == trials else _share_where(lambda share: at_least(successes + 1, trials, share) > 1 - error)
    )
    return Interval(successes / trials if trials else math.nan, low, high, level)


def at_least(successes: int, trials: int, share: float) -> float:
    """P(X >= `successes`) of `trials` with a chance of `share` (strictly between 0 and 1) each."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    counts = np.arange(successes, trials + 1)
    ways = logs[trials] - logs[counts] - logs[trials - counts]
    return float(np.exp(ways + counts * math.log(share) + (trials - counts) * math.log1p(-share)).sum())


def _share_where(beyond: Callable[[float], bool]) -> float:
    """The share at which `beyond` turns true, by halving."""
    share, step = 0.5, 0.25
    for _ in range(_HALVINGS // 2):
        share += -step if beyond(share) else step
        step /= 2
    return share


def seeds_needed(
    difference: float, deviation: float, *, least: int, most: int = 1000, power: float = 0.8
) -> int | None:
    """Seeds with which a true `difference` would be told from zero with the given power, from `least` on.

    `deviation` is the standard deviation of the paired differences. None where `most` seeds would not do.
    """
    counts = range(least, most + 1)
    place = bisect_left(
        counts, True, key=lambda seeds: smallest_visible(deviation, seeds, power=power) <= abs(difference)
    )
    return counts[place] if place < len(counts) else None


def smallest_visible(deviation: float, seeds: int, *, level: float = LEVEL, power: float = 0.8) -> float:
    """The least true difference that so many seeds (two or more) tell from zero with the given power.

    By the usual approximation with two points of Student's t (Cohen 1988, chapter 2).
    """
    freedom = seeds - 1
    return (t_point(level, freedom) + t_point(2 * power - 1, freedom)) * deviation / math.sqrt(seeds)
