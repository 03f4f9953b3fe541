"""Read untrusted JSON and TOML, with limits on size, nesting, number of values and magnitude."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from neftune_core.errors import InvalidSetting
from neftune_core.language import say

SETTINGS_BYTES = 256_000
"""Maximum size of a settings file or of `record.json`."""
SETTINGS_VALUES = 20_000
DEEPEST = 40
DEEPEST_KEY = 16
LARGEST_WHOLE = 2**53
LARGEST_NUMBER = 1e100
"""Largest magnitude of a number; its square is still finite in float64."""

JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_TOML_TEXT = re.compile(r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*+"|\'[^\'\n]*+\'|#[^\n]*+', re.DOTALL)
_LONG_KEY = re.compile(rf"(?<![\w-])[\w-]++(?:\s*+\.\s*+[\w-]++){{{DEEPEST_KEY},}}+")


def read_toml(text: str) -> dict[str, Any]:
    """Parse TOML text.

    Size and depth are checked first, because `tomllib` recurses for every bracket, and takes seconds for a dotted key
    of a few kilobytes.

    Raises:
        InvalidSetting: If the text is too large, nested too deeply or invalid.
    """
    if len(text) > SETTINGS_BYTES:
        raise InvalidSetting(
            say("The settings file is larger than {most:,} kB: shorten it.", most=SETTINGS_BYTES // 1000)
        )
    bare = _TOML_TEXT.sub("s", text)
    if _depth_of(bare) > DEEPEST or _LONG_KEY.search(bare):
        raise InvalidSetting(say("The tables of the settings file are nested too deeply: flatten them."))
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise InvalidSetting(say("The file is not valid TOML: {reason}.", reason=str(error)[:200])) from None


def _depth_of(bare: str) -> int:
    return max(accumulate(1 if mark in "[{" else -1 for mark in re.findall(r"[\[\]{}]", bare)), default=0)


def read_json(block: bytes, most_values: int, *, odd_numbers: bool = False) -> Any:
    """Parse JSON text.

    Args:
        block: UTF-8 text.
        most_values: Maximum number of commas and opening brackets.
        odd_numbers: Whether to read numbers that are out of range, NaN or infinite as NaN instead of raising.

    Returns:
        The parsed value.

    Raises:
        ValueError: If the text is not valid JSON, is nested more than `DEEPEST` levels deep, or has too many values.
            Without `odd_numbers`, also if a number is out of range, NaN or infinite.
    """
    if count_values(block) > most_values:
        raise ValueError("too many values")
    if block.count(b"[") + block.count(b"{") > DEEPEST:
        check_depth(block)
    try:
        return (_TOLERANT if odd_numbers else _STRICT).decode(block.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def count_values(block: bytes) -> int:
    """Return the number of commas and opening brackets; the text contains at most one more value than this."""
    return sum(block.count(mark) for mark in (b",", b"[", b"{"))


def check_depth(block: bytes) -> None:
    """Check the nesting of JSON text; brackets in strings are ignored.

    Raises:
        ValueError: If the text is nested more than `DEEPEST` levels.
    """
    depth = 0
    for mark in re.findall(rb"[\[\]{}]", JSON_STRING.sub(b"", block)):
        depth += 1 if mark in b"[{" else -1
        if depth > DEEPEST:
            raise ValueError("nested too deeply")


def count_of(values: Mapping[str, Any], name: str) -> int:
    """Return a count from untrusted values.

    Args:
        values: Untrusted values by name.
        name: Name of the count.

    Returns:
        The count; 0 if it is absent or not an integer.
    """
    value = values.get(name)
    return value if isinstance(value, int) else 0


def _decoder(refused: Callable[[str], Any]) -> json.JSONDecoder:
    def whole(digits: str) -> Any:
        number = int(digits) if len(digits) < 18 else LARGEST_WHOLE + 1
        return number if abs(number) <= LARGEST_WHOLE else refused(digits)

    def real(digits: str) -> Any:
        number = float(digits)
        return number if abs(number) <= LARGEST_NUMBER else refused(digits)

    return json.JSONDecoder(parse_int=whole, parse_float=real, parse_constant=refused)


def _refuse(digits: str) -> Any:
    raise ValueError(f"{digits[:20]} is out of range")


_STRICT, _TOLERANT = _decoder(_refuse), _decoder(lambda _: float("nan"))


def read_file(path: Path, most: int) -> bytes:
    """Read a whole file of limited size.

    Args:
        path: The file.
        most: Maximum size in bytes.

    Returns:
        The content.

    Raises:
        ValueError: If the file is larger than `most`.
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        block = file.read(most + 1)
    if len(block) > most:
        raise ValueError(f"larger than {most:,} bytes")
    return block


def read_lines(file: IO[bytes], longest: int) -> Iterator[bytes]:
    """Yield the lines of a file, including an unterminated last line.

    Args:
        file: A file opened in binary mode, read from its current position.
        longest: Maximum number of bytes per line; longer lines are truncated.

    Yields:
        The lines, with their line breaks unless truncated.
    """
    while line := file.readline(longest):
        yield line
        while not line.endswith(b"\n") and len(line) == longest:
            line = file.readline(longest)
