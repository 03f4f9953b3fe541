"""Compute the win rate of one arm against another, raw and controlled for length, with intervals over prompts.

Length is controlled for as in length-controlled AlpacaEval (Dubois et al. 2024, arXiv 2404.04475): a logistic
regression of the preference on the identity of the two models and on

    tanh(difference of lengths / standard deviation of that difference).

The win rate is the prediction with the second term set to zero. The paper's third term, the difficulty of each
instruction, is left out because estimating it requires many models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from neftune_core.evaluation.statistics import LEVEL, Floats, Interval

RESAMPLES = 2_000
FEWEST_PROMPTS = 2
RIDGE = (1e-3, 1e-1)
"""Ridge penalties on the preference and the effect of length, so that the fit is finite even for separable verdicts."""
_STEPS = 50
_LARGEST_STEP = 2.0


@dataclass(frozen=True)
class Judged:
    """The verdicts on one prompt.

    Attributes:
        score: Share of the two orders in which the first arm won, counting a tie as one half.
        lengths: Lengths of the first and the second arm's answer, in characters.
        agrees: Whether both orders gave the same verdict.
    """

    score: float
    lengths: tuple[int, int]
    agrees: bool


@dataclass(frozen=True)
class WinRate:
    """The share of prompts on which the first arm's answer was preferred; a tie counts as one half.

    Attributes:
        prompts: Number of prompts judged in both orders.
        raw: Win rate as judged, with its 95% interval.
        controlled: Win rate controlled for length; None if the difference in length is the same for all prompts.
        agreement: Share of prompts on which both orders gave the same verdict.
        longer: Share of prompts on which the first arm's answer is the longer one.
    """

    prompts: int
    raw: Interval
    controlled: Interval | None
    agreement: float
    longer: float


def win_rate(judged: Sequence[Judged]) -> WinRate | None:
    """Compute the raw and the length-controlled win rate of the first arm; None for fewer than two prompts."""
    if len(judged) < FEWEST_PROMPTS:
        return None
    scores, count = np.array([one.score for one in judged]), len(judged)
    differences = np.array([one.lengths[0] - one.lengths[1] for one in judged], dtype=np.float64)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    weights = np.concatenate([np.ones((1, count)), draws])
    can_control = differences.std() > 0
    return WinRate(
        prompts=count,
        raw=_interval(weights @ scores / count),
        controlled=_interval(controlled_win_rates(scores, differences, weights)) if can_control else None,
        agreement=float(np.mean([one.agrees for one in judged])),
        longer=float((differences > 0).mean()),
    )


def _interval(values: Floats) -> Interval:
    """Return an interval with the first value as the estimate and percentiles of the other values as bounds."""
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(values[0]), float(low), float(high))


def controlled_win_rates(scores: ArrayLike, differences: ArrayLike, weights: ArrayLike) -> Floats:
    """Fit the logistic regression by Newton's method, and return the win rate at equal lengths.

    Args:
        scores: Preference for the first arm, 0 to 1, `[prompts]`.
        differences: Length of the first arm's answer minus that of the second, in characters, `[prompts]`.
        weights: Weight of each prompt in each fit, `[fits, prompts]`.

    Returns:
        Win rates, `[fits]`.
    """
    target, longer = np.asarray(scores, dtype=np.float64), np.asarray(differences, dtype=np.float64)
    terms = np.stack([np.ones_like(longer), np.tanh(longer / longer.std())])
    counts = np.asarray(weights, dtype=np.float64)
    penalty = np.diag(RIDGE)
    found = np.zeros((len(counts), 2))
    for _ in range(_STEPS):
        expected = _logistic(found @ terms)
        slope = counts * (expected - target) @ terms.T + found @ penalty
        curve = np.einsum("fp,ip,jp->fij", counts * expected * (1 - expected), terms, terms) + penalty
        step = np.linalg.solve(curve, slope[..., None])[..., 0]
        found -= np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        if np.abs(step).max() < 1e-9:
            break
    return _logistic(found[:, 0])


def _logistic(values: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(values / 2))
