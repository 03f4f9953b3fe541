"""Kinds of tokens in an answer (numbers, names, function words, ...), and the difference in loss for each kind."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neftune_core.evaluation.statistics import Floats, mean_score, paired_bootstrap
from neftune_core.home import assets
from neftune_core.language import later
from neftune_core.studies.records.tokens import WRITTEN

FIRST, END, NUMBER, NAME, FUNCTION, MARK, OTHER = "first", "end", "number", "name", "function", "mark", "other"

TOKEN_KINDS = {
    FIRST: later("first token of the answer"),
    NUMBER: later("numbers"),
    NAME: later("names"),
    FUNCTION: later("function words"),
    MARK: later("punctuation"),
    OTHER: later("other words"),
    END: later("end of the sequence"),
}

FUNCTION_WORDS = frozenset((assets() / "language" / "function_words.txt").read_text(encoding="utf-8").split())
"""The closed classes of English (Quirk et al., 1985: determiners, pronouns, prepositions, conjunctions, auxiliaries),
and the common particles of Chinese."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SENTENCE_END = re.compile(r"[.!?:。！？：\n]\W*$")


def kinds_of(texts: Sequence[str], starts: Sequence[bool], ends: Sequence[bool]) -> list[str]:
    """Return the kind of each token, which is that of the word that contains it.

    A capitalised word inside a sentence counts as a name. The first token of an answer and special tokens have kinds of
    their own.

    Args:
        texts: Text of each token, with the spaces between words.
        starts: Whether each token is the first of an answer.
        ends: Whether each token is a special token, such as the end of the sequence.

    Returns:
        Keys of `TOKEN_KINDS`.
    """
    whole = "".join(texts)
    words = {place: word for word in _WORD.finditer(whole) for place in range(word.start(), word.end())}
    found, place = [], 0
    for text, is_start, is_end in zip(texts, starts, ends, strict=True):
        word = words.get(place + len(text) - len(text.lstrip()))  # a token of spaces belongs to the word after it
        found.append(FIRST if is_start else END if is_end else _kind(word, whole))
        place += len(text)
    return found


def _kind(word: re.Match[str] | None, whole: str) -> str:
    if word is None:
        return MARK
    text = word.group()
    if any(letter.isdigit() for letter in text):
        return NUMBER
    if re.split("['’]", text)[0].lower() in FUNCTION_WORDS:
        return FUNCTION
    before = whole[: word.start()].rstrip(" ")
    if text[0].isupper() and before and not _SENTENCE_END.search(before):
        return NAME
    return OTHER


ALL = "all"
RESAMPLES = 2_000

Line = Mapping[str, Any]


def by_kind(lines: Sequence[Line], arm: str, reference: str) -> dict[str, dict[str, float | int | None]]:
    """Compute the loss of an arm minus that of a reference, per kind of token and over all tokens.

    Args:
        lines: Rows of one part.
        arm: Name of the arm.
        reference: Name of the arm to compare with, or "base".

    Returns:
        For each kind that occurs, the number of `tokens`, the `difference` in nats per token, and the bounds `low` and
        `high` of its 95% interval over resampled rows. They are None if a resample has no token of this kind.
    """
    both = [line for line in lines if arm in line["losses"] and reference in line["losses"]]
    found = {}
    for kind in (*TOKEN_KINDS, ALL):
        chosen = [[kind in (one, ALL) for one in line["kinds"]] for line in both]
        if tokens := sum(map(sum, chosen)):
            sums = [_sums(both, name, chosen) for name in (arm, reference)]
            found[kind] = {"tokens": tokens, **_interval(*sums)}
    return found


def _sums(lines: Sequence[Line], name: str, chosen: Sequence[Sequence[bool]]) -> Floats:
    """Return the summed loss and the number of the chosen tokens of each row, `[1, rows, 2]`."""
    rows = [(float(np.dot(line["losses"][name], mask)), sum(mask)) for line, mask in zip(lines, chosen, strict=True)]
    return np.array([rows], dtype=np.float64)


def _interval(arm: Floats, reference: Floats) -> dict[str, float | None]:
    with np.errstate(invalid="ignore"):
        found = paired_bootstrap(arm, reference, mean_score, np.random.default_rng(0), resamples=RESAMPLES)
    values = {"difference": found.estimate, "low": found.low, "high": found.high}
    return {name: None if math.isnan(value) else round(value, 5) for name, value in values.items()}


def payload(lines: Sequence[Line], arms: Sequence[str]) -> dict[str, Any]:
    """Return the values that the page plots.

    Args:
        lines: All lines of one seed.
        arms: Names of the arms in their order, the control first.

    Returns:
        `parts` contains the non-empty lines by part, and `kinds` the results of `by_kind` by part, arm and reference.
        The references of an arm are the control and the base, if they were measured.
    """
    parts: dict[str, list[Line]] = {}
    for line in lines:
        if line["tokens"]:
            parts.setdefault(line["part"], []).append(line)
    return {"parts": parts, "kinds": {part: _kinds(own, arms) for part, own in parts.items() if part != WRITTEN}}


def _kinds(lines: Sequence[Line], arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the results of `by_kind` by arm and reference, for all measured arms with a measured reference."""
    measured = {name for line in lines for name in line["losses"]}
    references = [name for name in (*arms[:1], "base") if name in measured]
    found = {
        arm: {name: by_kind(lines, arm, name) for name in references if name != arm} for arm in arms if arm in measured
    }
    return {arm: results for arm, results in found.items() if results}
