"""The languages of the page: a text is written in English where it is used, and looked up there in the other one.

A catalogue (assets/language/zh.json) maps an English sentence to the same in the other language; what it lacks is said
in English. Values stand in braces, `{count:,} rows`, and are put in after the sentence was found.
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
"""The languages as pages name their own."""

_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


def current() -> str:
    """The language that is spoken here and now, `en` or `zh`."""
    return _current.get()


@contextmanager
def in_language(code: str) -> Iterator[None]:
    """Speak that language inside; never around a `yield` of a generator, whose next step may run elsewhere."""
    token = _current.set(code)
    try:
        yield
    finally:
        _current.reset(token)


def say(text: str, /, **values: Any) -> str:
    """The English `text` in the current language, with its `values` in place of the names in braces."""
    found = catalogue(current()).get(text, text)
    return found.format(**values) if values else found


def later(text: str) -> str:
    """The text itself: marks one that is kept in a table, and is said by `say` where it is used."""
    return text


def retold(kept: str) -> str:
    """An English sentence that was kept with its values in it, as in a record, in the current language.

    A value that is such a sentence is retold as well; what comes from no text of the catalogue is said as it is.
    """
    return _retold(kept, current())


SHORTEST = 12
"""Letters of its own by which a text is known again among the values in it."""


@functools.lru_cache(maxsize=1000)
def _retold(kept: str, code: str) -> str:
    words = catalogue(code)
    if kept in words:
        return words[kept]
    for text, pieces, names in _forms(code):
        values = _values_in(kept, pieces, names)
        if values is not None:
            return _filled(words[text], {name: _inside(value, code) for name, value in values.items()})
    return kept


def _inside(value: str, code: str) -> str:
    return _retold(value, code) if len(value) > SHORTEST else value


def _filled(text: str, values: Mapping[str, str]) -> str:
    """A text with its values, which are words already, whatever number it would have written."""
    return _PLACE.sub(lambda place: values[place[1]], text)


_PLACE = re.compile(r"\{(\w+)[^{}]*\}")


@functools.cache
def _forms(code: str) -> list[tuple[str, list[str], list[str]]]:
    """The texts with values: what stands around these, and their names; those that say most come first."""
    found = []
    for text in catalogue(code):
        parts = [(piece, name) for piece, name, _, _ in string.Formatter().parse(text)]
        names = [name for _, name in parts if name is not None]
        pieces = [piece for piece, _ in parts] + [""] * (parts[-1][1] is not None)
        if names and "{{" not in text and sum(map(str.isalpha, "".join(pieces))) >= SHORTEST:
            found.append((text, pieces, names))
    return sorted(found, key=lambda form: -len("".join(form[1])))


def _values_in(kept: str, pieces: list[str], names: list[str]) -> dict[str, str] | None:
    """What `kept` has between the `pieces`, by the names of the places; None where it has not all of them."""
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
    """English sentence to its translation; empty for English itself."""
    if code == ENGLISH:
        return {}
    return json.loads((assets() / "language" / f"{code}.json").read_text(encoding="utf-8"))


_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"')
_IN_SCRIPT = re.compile(rf"(?:Lab|LabLanguage)\.text\(\s*({_PIECE.pattern}(?:\s*\+\s*{_PIECE.pattern})*)")


@functools.cache
def in_scripts() -> tuple[str, ...]:
    """The English texts that the page's scripts say, as they are written in them."""
    found = set()
    for path in sorted((assets() / "page").glob("*.js")):
        for literals in _IN_SCRIPT.findall(path.read_text(encoding="utf-8")):
            found.add("".join(json.loads(piece) for piece in _PIECE.findall(literals)))
    return tuple(sorted(found))
