"""Kinds of tokens in an answer: first token, end, numbers, names, function words, punctuation, other words."""

from __future__ import annotations

import re
from collections.abc import Sequence

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

# The closed classes of English (Quirk et al., 1985: determiners, pronouns, prepositions, conjunctions, auxiliaries),
# and the common particles of Chinese.
_FUNCTION_WORDS = """a an the this that these those each every either neither both all any some no such what which whose
    i you he she it we they me him her us them my your his its our their mine yours hers ours theirs myself yourself
    himself herself itself ourselves themselves who whom one
    about above across after against along among around as at before behind below beneath beside besides between beyond
    by down during except for from in inside into like near of off on onto out outside over past since than through
    throughout to toward towards under until up upon via with within without
    and but or nor so yet if because although though unless while whereas whether when where why how then there not
    am is are was were be been being do does did done have has had having can could may might must shall should will
    would ought
    的 了 在 是 和 与 或 而 但 也 都 就 着 过 吗 呢 吧 把 被 对 从 到 于 之 其 这 那 有 不 很 我 你 他 她 它"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SENTENCE_END = re.compile(r"[.!?:。！？：\n]\W*$")


def kinds_of(texts: Sequence[str], starts: Sequence[bool], ends: Sequence[bool]) -> list[str]:
    """Return the kind of each token, from the word that contains it.

    A capitalised word inside a sentence counts as a name. The first token of an answer and the token that ends it have
    kinds of their own.

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
        inside = place + len(text) - len(text.lstrip())
        if not text.strip():  # a token of spaces belongs to the word after it
            inside = place + len(text)
        word = words.get(inside)
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
