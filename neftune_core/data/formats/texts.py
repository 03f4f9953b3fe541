"""Decode untrusted bytes to text, and parse text to values."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from neftune_core.data.examples import UnusableRow
from neftune_core.errors import DataError
from neftune_core.language import later, say

NOT_TEXT = "not text"
"""Only key of the object that replaces a value without JSON equivalent. The key maps to the name of the value's
type."""

TEXT_PARTS = ("text", "input_text", "output_text")
MAXIMUM_DEPTH = 100
MAXIMUM_LINES = 5_000_000
MAXIMUM_PARTS = 4_000_000
LONGEST_NAME = 200
_SURROGATE = re.compile("[\ud800-\udfff]")

# First bytes of other file types, with the description for the error message.
SIGNATURES = {
    b"PAR1": later("a Parquet file: give it the extension .parquet"),
    b"PK\x03\x04": later("a zip file: unpack it first"),
    b"\x1f\x8b": later("a file compressed with gzip: append .gz to its name"),
    b"\x28\xb5\x2f\xfd": later("a file compressed with zstd: append .zst to its name"),
    b"\xfd7zXZ\0": later("a file compressed with xz: unpack it first"),
    b"BZh": later("a file compressed with bzip2: unpack it first"),
}


class DuplicateName(dict[str, Any]):
    """A JSON object with a repeated key; its row is refused."""


def decode_text(content: bytes, title: str) -> str:
    """Decode UTF-8 (with or without a byte order mark), or UTF-16 with a byte order mark.

    Args:
        content: Bytes of the file.
        title: Name of the file, for error messages.

    Returns:
        The text.

    Raises:
        DataError: If the content is not text or has too many lines.
    """
    kind = next((words for signature, words in SIGNATURES.items() if content.startswith(signature)), None)
    if kind is not None:
        raise DataError(say("{title} is {kind}.", title=title, kind=say(kind)))
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        words = later("{title} is not {encoding} text (byte {byte:,}): save it as UTF-8 and try again.")
        encoding = "UTF-16" if utf16 else "UTF-8"
        raise DataError(say(words, title=title, encoding=encoding, byte=error.start + 1)) from None
    position = text.find("\0")
    if position >= 0:
        words = later(
            "{title} contains a NUL character (line {line:,}), so it is not a text file: save it as UTF-8 and try "
            "again."
        )
        raise DataError(say(words, title=title, line=text.count(chr(10), 0, position) + 1))
    if max(text.count("\n"), text.count("\r")) > MAXIMUM_LINES:
        words = later("{title} has more than {most:,} lines: use a shorter file.")
        raise DataError(say(words, title=title, most=MAXIMUM_LINES))
    return text


class NumberText(str):
    """A JSON number as written: 1.10 stays 1.10, and a number of a million digits is not converted."""

    __slots__ = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    return values if len(values) == len(pairs) else DuplicateName(values)


_DECODER = json.JSONDecoder(
    parse_int=NumberText, parse_float=NumberText, parse_constant=lambda name: None, object_pairs_hook=_object
)


def parse_json(text: str) -> Any:
    """Parse JSON, with numbers as text, and NaN and Infinity as None.

    Raises:
        ValueError: If the text is not JSON or nested too deeply; the message is the reason.
    """
    with _plain_reasons():
        return _DECODER.decode(text)


@contextmanager
def _plain_reasons() -> Iterator[None]:
    """Convert JSON parser errors to a `ValueError` with a plain reason."""
    try:
        yield
    except RecursionError:
        raise ValueError(say("it is nested too deeply")) from None
    except json.JSONDecodeError as error:
        words = (
            later("it is not valid JSON ({reason}, column {column})")
            if error.lineno == 1
            else later("it is not valid JSON ({reason}, line {line}, column {column})")
        )
        raise ValueError(say(words, reason=error.msg.lower(), line=error.lineno, column=error.colno)) from None


# A whole string, to skip its content, or a single bracket or quote.
_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}"]', re.DOTALL)
_SCALAR = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\s,:\[\]{}"]++', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*+")


# `json` parses a list only as a whole: a row of 5.7 MB of brackets becomes 131 MB of objects, and if memory runs out,
# all rows are lost. `list_entries` refuses such a row without parsing it.
class NotAList(ValueError):
    """Raised if JSON is neither a list nor an object with exactly one list inside."""


def list_entries(text: str, longest: int) -> Iterator[Any]:
    """Parse the entries of a JSON list, or of the only list in an object, one at a time.

    Args:
        text: JSON text.
        longest: Entries with more characters are skipped and yielded as `UnusableRow`.

    Yields:
        The entries.

    Raises:
        NotAList: If the text has no such list.
        ValueError: If the text is not valid JSON, or an entry has too many parts.
    """
    with _plain_reasons():
        start = _skip(text, 0)
        if text.startswith("{", start):
            start = _only_list(text, start)
        elif not text.startswith("[", start):
            _value(text, start, _end(text, start))
            raise NotAList
        position = _skip(text, start + 1)
        while not text.startswith("]", position):
            end = _end(text, position)
            yield _value(text, position, end) if end - position <= longest else too_long(end - position, longest)
            position = _next(text, end, "]")
        if text.startswith("[", _skip(text, 0)):
            _require_end(text, position + 1)


def too_long(length: int, longest: int) -> UnusableRow:
    """Return the exception for a row that exceeds the character limit, without raising it.

    Args:
        length: Characters of the row.
        longest: The limit.

    Returns:
        The exception.
    """
    return UnusableRow(say("it has {length:,} characters, but at most {most:,} are read", length=length, most=longest))


def _only_list(text: str, start: int) -> int:
    """Return the start of the only list directly inside the object at `start`.

    Raises:
        NotAList: If the object contains no list, or several.
        JSONDecodeError: If the text is not valid JSON.
    """
    lists = []
    position = _skip(text, start + 1)
    while not text.startswith("}", position):
        colon = _skip(text, _end(text, position))
        if text[position] != '"' or not text.startswith(":", colon):
            raise json.JSONDecodeError("Expecting a name and a colon", text, position)
        value = _skip(text, colon + 1)
        if text.startswith("[", value):
            lists.append(value)
        position = _next(text, _end(text, value), "}")
    _require_end(text, position + 1)
    if len(lists) != 1:
        raise NotAList
    return lists[0]


def _skip(text: str, position: int) -> int:
    """Return the index of the first character at or after `position` that is not white space."""
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _end(text: str, start: int) -> int:
    """Return the index after the value at `start`, without parsing it.

    Raises:
        ValueError: If the value has too many parts.
        RecursionError: If it is nested too deeply.
        JSONDecodeError: If it is not valid JSON.
    """
    if not text.startswith(("[", "{"), start):
        scalar = _SCALAR.match(text, start)
        if scalar is None:
            raise json.JSONDecodeError("Expecting value", text, start)
        return scalar.end()
    depth = 0
    for count, found in enumerate(_BRACKET.finditer(text, start)):
        if count > MAXIMUM_PARTS:
            raise ValueError(say("it contains a value with more than {most:,} elements", most=MAXIMUM_PARTS))
        if found.end() - found.start() > 1:  # a string
            continue
        if text[found.start()] in "[{":
            depth += 1
            if depth > MAXIMUM_DEPTH:
                raise RecursionError
        elif text[found.start()] == '"':
            break
        else:
            depth -= 1
            if not depth:
                return found.end()
    raise json.JSONDecodeError("It is never closed", text, start)


def _value(text: str, start: int, end: int) -> Any:
    value, stop = _DECODER.raw_decode(text, start)
    if stop != end:
        raise json.JSONDecodeError("Extra data", text, stop)
    return value


def _next(text: str, end: int, closing: str) -> int:
    """Return the start of the next entry, or of the closing bracket.

    Raises:
        JSONDecodeError: If the text is not valid JSON.
    """
    position = _skip(text, end)
    if text.startswith(closing, position):
        return position
    if not text.startswith(",", position):
        raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
    position = _skip(text, position + 1)
    if text.startswith(closing, position):
        raise json.JSONDecodeError("Expecting value", text, position)
    return position


def _require_end(text: str, position: int) -> None:
    if _skip(text, position) != len(text):
        raise json.JSONDecodeError("Extra data", text, _skip(text, position))


def is_name(text: str) -> bool:
    """Return whether a column name can be shown: not empty or too long, and valid Unicode."""
    return 0 < len(text) <= LONGEST_NAME and "\0" not in text and not _SURROGATE.search(text)


def as_text(value: Any, part: str) -> str:
    """Convert a cell to text.

    Numbers and booleans are formatted, text parts are joined, and a missing value becomes "".

    Args:
        value: The cell.
        part: Name of the layout's part that contains the cell, such as "instruction", for error messages.

    Returns:
        The text.

    Raises:
        UnusableRow: If the value is not text, or contains a NUL or an incomplete character.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "type" in one for one in value):
        return "".join(_text_part(one, part) for one in value)
    if not isinstance(value, str | int | float):
        raise UnusableRow(say("the {part} is {kind}, not text", part=say(part), kind=say(kind_of(value))))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if "\0" in text:
        raise UnusableRow(say("the {part} contains a NUL character", part=say(part)))
    if _SURROGATE.search(text):
        raise UnusableRow(say("the {part} contains an incomplete character (a lone surrogate)", part=say(part)))
    return text


def _text_part(one: dict[str, Any], part: str) -> str:
    kind = str(one["type"])[:30]
    if kind not in TEXT_PARTS:
        raise UnusableRow(
            say("the {part} contains an item of type {kind!r}, but only text is supported", part=say(part), kind=kind)
        )
    return as_text(one.get("text"), part)


def as_json(value: Any, *, drop_none: bool = False) -> str:
    """Serialise a value from `parse_json`, with numbers as numbers.

    Args:
        value: Value to serialise.
        drop_none: Whether to leave out keys with the value None, which tables add to every object.

    Returns:
        JSON text.

    Raises:
        UnusableRow: If the value cannot be represented as JSON.
    """
    try:
        return json.dumps(_plain(value, drop_none=drop_none), ensure_ascii=False)
    except (ValueError, RecursionError):
        raise UnusableRow(say("it contains a number that is too long")) from None


def _plain(value: Any, *, drop_none: bool) -> Any:
    if isinstance(value, NumberText):
        return json.loads(value)
    if isinstance(value, DuplicateName):
        raise UnusableRow(say("it has the same key twice"))
    if isinstance(value, list):
        return [_plain(one, drop_none=drop_none) for one in value]
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if one is not None or not drop_none}
        return {as_text(name, "name"): _plain(one, drop_none=drop_none) for name, one in kept.items()}
    return as_text(value, "value") if isinstance(value, str) else value


def kind_of(value: Any) -> str:
    """Return the type of a value in words."""
    if isinstance(value, dict) and NOT_TEXT in value:
        return str(value[NOT_TEXT])
    names = {bool: later("true or false"), list: later("a list"), dict: later("an object"), bytes: later("raw bytes")}
    return next((words for kind, words in names.items() if isinstance(value, kind)), type(value).__name__)
