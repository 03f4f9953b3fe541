"""Words of any script, the longest common subsequence (ROUGE-L) and the longest common run of two texts.

ROUGE-L is Lin's sentence-level F (2004, W04-1013, section 3.1): with recall R = LCS / reference length and precision
P = LCS / answer length, F = (1 + beta^2) R P / (R + beta^2 P). The lab reports it with beta = 1.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Sequence

UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""How the Unicode names of the characters begin whose scripts put no space between words."""

KEPT = "LMN"
"""The Unicode categories that words are made of: letters, their marks, numbers."""


class _Separated(dict[int, str]):
    """What each character becomes: itself inside a word, a unit of its own, or a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        words = character if unicodedata.category(character)[0] in KEPT else " "
        self[code] = f" {character} " if is_unspaced(character) else words
        return self[code]


def is_unspaced(character: str, scripts: tuple[str, ...] = UNSPACED) -> bool:
    """Whether it is a letter of a script without spaces between words (or of `scripts`)."""
    kept = unicodedata.category(character)[0] in KEPT
    return kept and unicodedata.name(character, "").startswith(scripts)


_SEPARATED = _Separated()


def units(text: str) -> list[str]:
    """Words, or characters where a script has no spaces; case and punctuation are forgotten."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_SEPARATED).split()


def common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence, one bit an element (Hyyrö 2004, Bit-parallel LCS-length)."""
    every = row = (1 << len(first)) - 1
    for places in _matches(first, second):
        matches = row & places
        row = (row + matches | row - matches) & every
    return len(first) - row.bit_count()


def common_run(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The length of the longest run of elements that both contain, without gaps."""
    matches = _matches(first, second)
    ends, length = matches, 0  # where in `first` a run of one more than `length` elements ends, by its end in `second`
    while any(ends):
        length += 1
        ends = [end << 1 & places for end, places in zip(ends, matches[length:], strict=False)]
    return length


def _matches(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[int]:
    """For each element of `second` its places in `first`, as bits."""
    places: dict[Hashable, int] = {}
    for place, element in enumerate(first):
        places[element] = places.get(element, 0) | 1 << place
    return [places.get(element, 0) for element in second]


def rouge_l(answer: Sequence[Hashable], reference: Sequence[Hashable], beta: float = 1.0) -> float:
    """Lin's F of two sequences of units, 0 to 1; 0 where they share nothing, or one is empty."""
    common = common_subsequence(answer, reference)
    if common == 0:
        return 0.0
    recall, precision = common / len(reference), common / len(answer)
    return (1 + beta**2) * recall * precision / (recall + beta**2 * precision)
