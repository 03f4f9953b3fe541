"""Translate user-facing texts.

Texts are written in English in the code. A catalogue (`assets/language/zh.json`) maps them to translations, and texts
without a translation stay English. Values in braces, as in `{count:,} rows`, are inserted after the lookup. Records of
earlier versions contain notes that have since been reworded; `former.zh.json` translates them.
"""

from __future__ import annotations

import functools
import json
import re
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from neftune_core.home import assets

ENGLISH, CHINESE = "en", "zh"
TAGS = {ENGLISH: "en", CHINESE: "zh-CN"}
"""Language tags for HTML."""

_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


def current() -> str:
    """Return the current language, `en` or `zh`."""
    return _current.get()


@contextmanager
def in_language(code: str) -> Iterator[None]:
    """Set the language inside the block, which must not contain a `yield`: generators may resume in another context."""
    token = _current.set(code)
    try:
        yield
    finally:
        _current.reset(token)


def say(text: str, /, **values: Any) -> str:
    """Translate a text to the current language and insert its values.

    Args:
        text: The English text, a key of the catalogue.
        values: Values for the names in braces.

    Returns:
        The text in the current language.
    """
    found = catalogue(current()).get(text, text)
    return found.format(**values) if values else found


def later(text: str) -> str:
    """Mark a text for later translation by `say`, and return it unchanged."""
    return text


def plural(count: float, one: str, many: str) -> str:
    """Return the English text that agrees in number with `count`, to be passed to `say` now or later.

    Args:
        count: The number in the text.
        one: The singular text, a key of the catalogue.
        many: The plural text, a key of the catalogue with the same Chinese translation.

    Returns:
        `one` if `count` is 1, else `many`.
    """
    return one if count == 1 else many


def translate_finished(kept: str) -> str:
    """Translate an English sentence with inserted values, such as one stored in a record, to the current language.

    Values that match texts of the catalogue are translated as well. Unknown sentences are returned unchanged.
    """
    return _translate_finished(kept, current())


SHORTEST = 12
"""Minimum number of letters, excluding values, in texts that `translate_finished` matches."""


@functools.lru_cache(maxsize=1000)
def _translate_finished(kept: str, code: str) -> str:
    words = stored_texts(code)
    if kept in words:
        return words[kept]
    for text, pieces, names in _patterns(code):
        values = _values_in(kept, pieces, names)
        if values is not None:
            return _fill(words[text], {name: _translate_value(value, code) for name, value in values.items()})
    return kept


def _translate_value(value: str, code: str) -> str:
    return _translate_finished(value, code) if len(value) > SHORTEST else value


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Insert formatted values; the format specifications in `text` are ignored."""
    return _PLACEHOLDER.sub(lambda place: values[place[1]], text)


_PLACEHOLDER = re.compile(r"\{(\w+)[^{}]*\}")


@functools.cache
def _patterns(code: str) -> list[tuple[str, list[str], list[str]]]:
    """Return (text, pieces between the values, names) for each text with values, most specific first."""
    found = []
    for text in stored_texts(code):
        parts = [(piece, name) for piece, name, _, _ in string.Formatter().parse(text)]
        names = [name for _, name in parts if name is not None]
        pieces = [piece for piece, _ in parts] + [""] * (parts[-1][1] is not None)
        if names and "{{" not in text and sum(map(str.isalpha, "".join(pieces))) >= SHORTEST:
            found.append((text, pieces, names))
    return sorted(found, key=lambda form: -len("".join(form[1])))


def _values_in(kept: str, pieces: list[str], names: list[str]) -> dict[str, str] | None:
    """Return the values in `kept` between the `pieces`, by name; None if `kept` does not match."""
    if not (kept.startswith(pieces[0]) and kept.endswith(pieces[-1])):
        return None
    values, begin, end = {}, len(pieces[0]), len(kept) - len(pieces[-1])
    for name, piece in zip(names[:-1], pieces[1:-1], strict=True):
        stop = kept.find(piece, begin, end)
        if stop < 0:
            return None
        values[name], begin = kept[begin:stop], stop + len(piece)
    values[names[-1]] = kept[begin:end]
    return values if begin <= end else None


@functools.cache
def catalogue(code: str) -> Mapping[str, str]:
    """Return the translations of a language by English text; empty for English."""
    if code == ENGLISH:
        return {}
    return json.loads((assets() / "language" / f"{code}.json").read_text(encoding="utf-8"))


@functools.cache
def stored_texts(code: str) -> Mapping[str, str]:
    """Return the translations of texts that a record may contain: the catalogue, and notes of earlier versions."""
    if code == ENGLISH:
        return {}
    former = json.loads((assets() / "language" / f"former.{code}.json").read_text(encoding="utf-8"))
    return former | catalogue(code)


_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL = rf"{_PIECE.pattern}(?:\s*\+\s*{_PIECE.pattern})*"
_IN_SCRIPT = re.compile(rf"\b(?:text\(|agreeing\(\s*[\w.]+,)\s*({_LITERAL})(?:,\s*({_LITERAL}))?")


@functools.cache
def in_scripts() -> tuple[str, ...]:
    """Return the English texts in the page's JavaScript that are translated."""
    found = set()
    for path in sorted((assets() / "page").glob("*.js")):
        for forms in _IN_SCRIPT.findall(path.read_text(encoding="utf-8")):
            found |= {"".join(json.loads(piece) for piece in _PIECE.findall(form)) for form in forms if form}
    return tuple(sorted(found))
