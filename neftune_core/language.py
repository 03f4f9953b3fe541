"""The languages of the page: a text is written in English where it is used, and looked up there in the other one.

A catalogue (assets/language/zh.json) maps an English sentence to the same in the other language; what it lacks is said
in English. Values stand in braces, `{count:,} rows`, and are put in after the sentence was found.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from neftune_core.home import assets

ENGLISH, CHINESE = "en", "zh"

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
