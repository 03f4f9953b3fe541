"""Corpus BLEU and chrF from sacrebleu, stored as counts per example so that corpora can be resampled quickly.

The score of a resampled corpus is computed from its summed counts. Both formulas are vectorised here over arrays of
sums, and agree with sacrebleu.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from neftune_core.evaluation.rouge import is_unspaced
from neftune_core.evaluation.statistics import Floats, Score

ORDERS = 4
CHARACTER_ORDERS = 6
BETA = 2
CHINESE_SHARE = 0.9


class Overlap(NamedTuple):
    """A corpus measure: score, 0 to 100; counts, `[examples, fields]`; and sacrebleu's signature of the settings."""

    score: float
    counts: Floats
    signature: str


def bleu(answers: Sequence[str], references: Sequence[str]) -> Overlap:
    """Compute corpus BLEU (Papineni et al. 2002), with a tokenizer chosen by `tokenizer_for`.

    Args:
        answers: Generated texts.
        references: One reference per answer.

    Returns:
        The measure; its score is 0 if no answer has four tokens.
    """
    from sacrebleu.metrics import BLEU

    return _overlap(BLEU(tokenize=tokenizer_for(references)), answers, references, bleu_score)


def chrf(answers: Sequence[str], references: Sequence[str]) -> Overlap:
    """Compute corpus chrF (Popović 2015) with character n-grams up to order 6 and beta 2, for any script.

    Args:
        answers: Generated texts.
        references: One reference per answer.

    Returns:
        The measure.
    """
    from sacrebleu.metrics import CHRF

    return _overlap(CHRF(), answers, references, chrf_score)


def _overlap(metric: Any, answers: Sequence[str], references: Sequence[str], score: Score) -> Overlap:
    # sacrebleu's own significance tests use this private method too.
    counts = np.array(metric._extract_corpus_statistics(list(answers), [list(references)]), dtype=np.float64)
    return Overlap(float(score(counts.sum(0))), counts, str(metric.get_signature()))


def tokenizer_for(references: Sequence[str]) -> str:
    """Return `zh` for mostly Chinese references, `char` for other scripts without spaces, else `13a`."""
    letters = [character for reference in references for character in reference if character.isalpha()]
    unspaced = [character for character in letters if is_unspaced(character)]
    if 2 * len(unspaced) <= len(letters):
        return "13a"
    chinese = sum(is_unspaced(character, ("CJK",)) for character in unspaced)
    return "zh" if chinese >= CHINESE_SHARE * len(unspaced) else "char"


def bleu_score(sums: Floats) -> Floats:
    """Compute BLEU from sums `[..., 10]`: lengths of answers and references, matches and totals of each order.

    The smoothing is sacrebleu's default: the k-th order without a match counts as 1 / 2^k matches.
    """
    answer, reference = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    none = matches == 0
    smoothed = np.where(none, 0.5 ** np.cumsum(none, axis=-1), matches)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.exp(np.log(smoothed / totals).mean(-1))
        brevity = np.exp(np.minimum(0.0, 1 - reference / answer))
        score = 100 * brevity * mean  # NaN for answers without a token, replaced below
    empty = none.all(-1) | (totals == 0).any(-1)
    return np.where(empty, 0.0, score)


def chrf_score(sums: Floats) -> Floats:
    """Compute chrF from sums `[..., 18]`: for each order the n-grams of answers, of references, and of both."""
    by_order = sums.reshape(*sums.shape[:-1], CHARACTER_ORDERS, 3)
    answer, reference, shared = by_order[..., 0], by_order[..., 1], by_order[..., 2]
    counted = (answer > 0) & (reference > 0)
    orders = np.maximum(counted.sum(-1), 1)
    precision = (np.where(counted, shared, 0) / np.maximum(answer, 1)).sum(-1) / orders
    recall = (np.where(counted, shared, 0) / np.maximum(reference, 1)).sum(-1) / orders
    weighted = np.where(precision + recall > 0, BETA**2 * precision + recall, 1.0)
    return 100 * (1 + BETA**2) * precision * recall / weighted
