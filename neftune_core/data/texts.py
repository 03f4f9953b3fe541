"""Bytes to text and text to values, for files nobody has checked."""

from __future__ import annotations

import codecs
import json
import math
from typing import Any

from neftune_core.data.examples import RowRefused
from neftune_core.errors import DataError


class RepeatedName(dict[str, Any]):
    """A JSON object in which a name stood twice; the row that holds it is refused."""


def decoded(content: bytes, title: str) -> str:
    """The text of a file: UTF-8 (with or without a byte order mark), or UTF-16 with one.

    Raises `DataError` naming the first byte that is something else.
    """
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{title} is not {'UTF-16' if utf16 else 'UTF-8'} text (byte {error.start + 1:,}): "
            "save it as UTF-8 and try again."
        ) from None
    position = text.find("\0")
    if position >= 0:
        raise DataError(
            f"{title} holds a NUL character (line {text.count(chr(10), 0, position) + 1:,}), so it is not "
            "a text file: save it as UTF-8 and try again."
        )
    return text


def parsed(text: str) -> Any:
    """The value of JSON text; numbers come back as their own text, NaN and Infinity as None.

    Raises `ValueError` for what is not JSON or is nested too deeply, with the reason as its text.
    """
    try:
        return json.loads(
            text,
            parse_int=str,  # the digits as written: 1.10 stays 1.10, and a million digits cost nothing
            parse_float=str,
            parse_constant=lambda name: None,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"it is not valid JSON ({error.msg.lower()}, line {error.lineno}, column {error.colno})"
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    return values if len(values) == len(pairs) else RepeatedName(values)


def as_text(value: Any, part: str) -> str:
    """A cell as text: numbers become text, a missing value becomes "". Raises `RowRefused` for the rest."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowRefused(f"the {part} is {_kind(value)}, not text")
    text = str(value)
    if "\0" in text:
        raise RowRefused(f"the {part} holds a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise RowRefused(f"the {part} holds half a character (a lone surrogate)")
    return text


def _kind(value: Any) -> str:
    names = {bool: "true or false", list: "a list", dict: "an object", bytes: "raw bytes"}
    return next((words for kind, words in names.items() if isinstance(value, kind)), type(value).__name__)
