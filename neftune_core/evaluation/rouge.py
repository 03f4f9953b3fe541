"""Tokenisation of any script, longest common subsequence (ROUGE-L) and longest common run of two texts.

ROUGE-L is Lin's sentence-level F (2004, W04-1013, section 3.1): with recall R = LCS / reference length and precision
P = LCS / answer length, F = (1 + beta^2) R P / (R + beta^2 P). The lab reports it with beta = 1.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Sequence

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
    """Return whether a character is a letter of a script without spaces between words.

    Args:
        character: One character.
        scripts: Accepted prefixes of Unicode names.

    Returns:
        True if the character is a letter, mark or number of such a script.
    """
    kept = unicodedata.category(character)[0] in WORD_CATEGORIES
    return kept and unicodedata.name(character, "").startswith(scripts)


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


def rouge_l(answer: Sequence[Hashable], reference: Sequence[Hashable], beta: float = 1.0) -> float:
    """Compute ROUGE-L of two sequences of units.

    Args:
        answer: Units of the answer.
        reference: Units of the reference.
        beta: Weight of recall against precision.

    Returns:
        F from 0 to 1; 0 if nothing is shared.
    """
    common = common_subsequence(answer, reference)
    if common == 0:
        return 0.0
    recall, precision = common / len(reference), common / len(answer)
    return (1 + beta**2) * recall * precision / (recall + beta**2 * precision)
