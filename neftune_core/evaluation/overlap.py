"""Similarity of answers to references in any script: corpus BLEU and chrF, ROUGE-L, and the longest common run.

BLEU and chrF come from sacrebleu, stored as counts per example so that corpora can be resampled quickly. The score of a
resampled corpus is computed from its summed counts. Both formulas are vectorised here over arrays of sums, and agree
with sacrebleu. ROUGE-L is Lin's sentence-level F (2004, W04-1013, section 3.1) with beta = 1: F = 2 R P / (R + P), with
recall R = LCS / reference length and precision P = LCS / answer length.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from neftune_core.evaluation.statistics import Floats, Score

ORDERS = 4
CHARACTER_ORDERS = 6
BETA = 2
CHINESE_SHARE = 0.9


class Overlap(NamedTuple):
    """The value of a corpus measure.

    Attributes:
        score: 0 to 100.
        counts: Counts per example, `[examples, fields]`.
        signature: sacrebleu's signature of the settings.
    """

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
    """Compute BLEU from sums `[..., 10]`.

    The sums are the lengths of the answers and of the references, then for each of four orders the number of matching
    n-grams, then for each order the number of n-grams in the answers. The smoothing is sacrebleu's default: the k-th
    order without a match counts as 1 / 2^k matches.
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
    """Compute chrF from sums `[..., 18]`.

    The sums are, for each of six orders, the numbers of n-grams in the answers, in the references, and in common.
    """
    by_order = sums.reshape(*sums.shape[:-1], CHARACTER_ORDERS, 3)
    answer, reference, shared = by_order[..., 0], by_order[..., 1], by_order[..., 2]
    counted = (answer > 0) & (reference > 0)
    orders = np.maximum(counted.sum(-1), 1)
    precision = (np.where(counted, shared, 0) / np.maximum(answer, 1)).sum(-1) / orders
    recall = (np.where(counted, shared, 0) / np.maximum(reference, 1)).sum(-1) / orders
    weighted = np.where(precision + recall > 0, BETA**2 * precision + recall, 1.0)
    return 100 * (1 + BETA**2) * precision * recall / weighted


UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Prefixes of the Unicode names of characters in scripts without spaces between words."""

WORD_CATEGORIES = "LMN"
"""Unicode categories that form words: letters, marks, numbers."""


class _SeparatorTable(dict[int, str]):
    """Translation table that keeps word characters, surrounds unspaced ones with spaces, and blanks all others."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        words = character if unicodedata.category(character)[0] in WORD_CATEGORIES else " "
        self[code] = f" {character} " if is_unspaced(character) else words
        return self[code]


def is_unspaced(character: str, scripts: tuple[str, ...] = UNSPACED) -> bool:
    """Return whether a character belongs to a script without spaces between words.

    Args:
        character: One character.
        scripts: Accepted prefixes of Unicode names.

    Returns:
        True if the character is a letter, mark or number of such a script.
    """
    in_words = unicodedata.category(character)[0] in WORD_CATEGORIES
    return in_words and unicodedata.name(character, "").startswith(scripts)


_SEPARATED = _SeparatorTable()


def units(text: str) -> list[str]:
    """Split a text into words, or characters in scripts without spaces; case and punctuation are dropped."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_SEPARATED).split()


def common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Compute the length of the longest common subsequence (Hyyrö 2004, bit-parallel LCS).

    Args:
        first: A sequence of hashable elements.
        second: Another sequence.

    Returns:
        Number of elements.
    """
    every = row = (1 << len(first)) - 1
    for positions in _matches(first, second):
        matches = row & positions
        row = (row + matches | row - matches) & every
    return len(first) - row.bit_count()


def common_run(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Compute the length of the longest contiguous run that both sequences contain.

    Args:
        first: A sequence of hashable elements.
        second: Another sequence.

    Returns:
        Number of elements.
    """
    matches = _matches(first, second)
    ends, length = matches, 0  # for each end in `second`: the ends in `first` of common runs of `length + 1`
    while any(ends):
        length += 1
        ends = [end << 1 & positions for end, positions in zip(ends, matches[length:], strict=False)]
    return length


def _matches(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[int]:
    """Return the positions in `first` of each element of `second`, as bits."""
    positions: dict[Hashable, int] = {}
    for position, element in enumerate(first):
        positions[element] = positions.get(element, 0) | 1 << position
    return [positions.get(element, 0) for element in second]


def rouge_l(answer: Sequence[Hashable], reference: Sequence[Hashable]) -> float:
    """Compute ROUGE-L of two sequences of units.

    Args:
        answer: Units of the answer.
        reference: Units of the reference.

    Returns:
        F from 0 to 1; 0 if nothing is shared.
    """
    common = common_subsequence(answer, reference)
    if common == 0:
        return 0.0
    recall, precision = common / len(reference), common / len(answer)
    return 2 * recall * precision / (recall + precision)
