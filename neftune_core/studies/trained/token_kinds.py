"""Kinds of tokens in an answer: first token, end, numbers, names, function words, punctuation, other words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from neftune_core.home import assets
from neftune_core.language import later

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
