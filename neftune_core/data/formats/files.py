"""Read JSONL, JSON, CSV and Parquet files as tables of records, without executing file content.

Text formats may be compressed with gzip or zstd (`rows.jsonl.gz`). They are decompressed in a separate process, up to
the size limit of a file.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from neftune_core.data.examples import UnusableRow
from neftune_core.data.formats.sandboxed_reader import Bounds, ReaderError, run_reader
from neftune_core.data.formats.tables import MOST_COLUMNS, Row, Table, parquet_table, require_few_columns
from neftune_core.data.formats.texts import (
    LONGEST_NAME,
    NotAList,
    decode_text,
    is_name,
    list_entries,
    parse_json,
    too_long,
)
from neftune_core.data.layouts import LAYOUTS, normalise_name
from neftune_core.errors import DataError, DoesNotFit
from neftune_core.language import later, plural, say
from neftune_core.sentences import cause
from neftune_core.settings import Limits

PEEK = 100
DECOMPRESSION_MEMORY_BYTES = 2_000_000_000
DECOMPRESSION_SECONDS = 120


def open_table(path: Path, limits: Limits) -> Table:
    """Open a file in the format given by its extension.

    Args:
        path: The file.
        limits: Limits of this server.

    Returns:
        The table.

    Raises:
        DataError: If the file cannot be read.
        DoesNotFit: If the file is too large.
    """
    title = path.name
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""
    extension = Path(path.stem).suffix.lower() if compression else path.suffix.lower()
    if extension in ARCHIVES:
        raise DataError(say("{title} is an archive: unpack it, and use the file inside.", title=title))
    if extension not in (TEXT_FORMATS if compression else EXTENSIONS):
        words = later(
            "{title} has the unknown extension {extension}: use one of {choices} (text formats also as {packings})."
        )
        found = f"{extension}{compression}" or say("(none)")
        choices, packings = ", ".join(EXTENSIONS), say(" or ").join(COMPRESSIONS)
        raise DataError(say(words, title=title, extension=found, choices=choices, packings=packings))
    check_file(path, limits)
    longest = longest_row(limits)
    if extension == ".parquet":
        return parquet_table(path, longest)
    content = _decompress(path, COMPRESSIONS[compression], limits) if compression else path.read_bytes()
    text = decode_text(content, title)
    if not text.strip():
        raise DataError(say("{title} is empty.", title=title))
    return TEXT_FORMATS[extension](text, title, longest)


def check_file(path: Path, limits: Limits) -> None:
    """Require that a file can be opened and is within the size limit.

    Args:
        path: The file.
        limits: Limits of this server.

    Raises:
        DataError: If the file is missing, empty or unreadable.
        DoesNotFit: If the file is too large.
    """
    title = path.name
    try:
        if not path.is_file():
            raise DataError(say("There is no file {title}.", title=path.absolute()))
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise DataError(say("{title!r} cannot be opened: {reason}.", title=str(path), reason=cause(error))) from None
    if size > limits.upload_megabytes * 1_000_000:
        words = later(
            "{title} is {megabytes:,.1f} MB in size, and this server reads files of up to {most:,} MB: use a smaller "
            "file."
        )
        raise DoesNotFit(say(words, title=title, megabytes=size / 1e6, most=limits.upload_megabytes))
    if size == 0:
        raise DataError(say("{title} is empty.", title=title))


def _decompress(path: Path, method: str, limits: Limits) -> bytes:
    """Return the content of a compressed file.

    Raises:
        DoesNotFit: If the content exceeds the size limit of a file.
        DataError: If the file is damaged, or not compressed with `method`.
    """
    most = limits.upload_megabytes * 1_000_000
    content = bytearray()
    characters = 2 * most + 1_000_000  # base64 uses four characters for three bytes
    bounds = Bounds(DECOMPRESSION_MEMORY_BYTES, DECOMPRESSION_SECONDS, 1_000_000, characters)
    try:
        for _, _, piece in run_reader("unpacked", {"path": str(path.resolve()), "method": method}, bounds):
            content += base64.b64decode(piece)
            if len(content) > most:
                raise ReaderError("size", "")
    except ReaderError as failed:
        if failed.kind == "size":
            words = later(
                "{title} unpacks to more than {most:,} MB, the most that this server reads: use a smaller file."
            )
            raise DoesNotFit(say(words, title=path.name, most=limits.upload_megabytes)) from None
        words = later("{title} cannot be unpacked: it is damaged, or not compressed with {method}.")
        raise DataError(say(words, title=path.name, method=method)) from None
    return bytes(content)


def longest_row(limits: Limits) -> int:
    """Return the limit on the raw characters of a row; longer rows are refused without being parsed.

    It is higher than the limit on the text of a row, because JSON may escape one character as twelve, and because a
    raw row includes unused columns. Parsing needs a limit because a list of empty lists takes 20 times the memory of
    its text.
    """
    return max(1_000_000, 12 * limits.row_characters)


def column_names(rows: Iterable[Row], title: str) -> list[str]:
    """Return the column names in the first `PEEK` rows, in order of appearance, without names that cannot be shown.

    Args:
        rows: Numbered rows.
        title: Name of the source, for error messages.

    Returns:
        The names.

    Raises:
        DataError: If there are no names, or too many.
    """
    names: dict[str, None] = {}
    first_reason = ""
    for number, record in islice(rows, PEEK):
        if isinstance(record, dict):
            names |= dict.fromkeys(name for name in record if is_name(name))
        elif not first_reason:
            reason = record if isinstance(record, UnusableRow) else say("it is not an object with named columns")
            first_reason = say(" (row {number:,}: {reason})", number=number, reason=reason)
        require_few_columns(len(names), title)
    if not names:
        raise DataError(say("{title} has no readable rows{reason}.", title=title, reason=first_reason))
    return list(names)


def _jsonl(text: str, title: str, longest: int) -> Table:
    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
            if line.strip():
                yield number, _parse_line(line, longest)

    if text.lstrip().startswith("["):
        raise DataError(
            say(
                "{title} starts with a list, but JSONL has one object per line: give the file the extension .json.",
                title=title,
            )
        )
    return Table(column_names(rows(()), title), rows)


def _parse_line(line: str, longest: int) -> Any:
    """Return the value of a line of JSON, or an `UnusableRow`."""
    if len(line) > longest:
        return too_long(len(line), longest)
    try:
        return parse_json(line)
    except ValueError as error:
        return UnusableRow(str(error))


def _json(text: str, title: str, longest: int) -> Table:
    if _is_lines(text, longest):
        return _jsonl(text, title, longest)

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        try:
            yield from enumerate(list_entries(text, longest), start=1)
        except NotAList:
            words = say("{title} must be a list of objects, or an object with exactly one list inside.", title=title)
            raise DataError(words) from None
        except ValueError as error:
            lines = say("; a file with one object per line needs the extension .jsonl")
            hint = lines if "extra data" in str(error) else ""
            words = say("{title} cannot be read: {reason}{hint}.", title=title, reason=error, hint=hint)
            raise DataError(words) from None

    return Table(column_names(rows(()), title), rows)


def _is_lines(text: str, longest: int) -> bool:
    """Return whether the text is JSON Lines: its first two lines are whole objects."""
    lines = islice((line for line in io.StringIO(text, newline="\n") if line.strip()), 2)
    objects = [isinstance(_parse_line(line, longest), dict) for line in lines if line.lstrip().startswith("{")]
    return len(objects) == 2 and all(objects)


DELIMITERS = (",", ";", "\t")
_SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?[ ]*(?:\r\n?|\n)', re.IGNORECASE)
"""First line in which spreadsheet programs declare the separator."""


def _csv(text: str, title: str, longest: int) -> Table:
    text = text.lstrip("\r\n")
    # The csv module has a process-wide limit. The limit of this call is checked in `_Lines`.
    csv.field_size_limit(max(csv.field_size_limit(), longest + 1))
    declared = _SEPARATOR.match(text)
    text = text[declared.end() :] if declared else text
    delimiter = declared[1] if declared else max(DELIMITERS, key=lambda mark: _delimiter_score(text, mark, longest))
    header = _header(text, delimiter, longest)
    if not any(header):
        raise DataError(say("{title} has no header: its first line must name the columns.", title=title))
    require_few_columns(len(header), title)
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise DataError(say("{title} has two columns called {name!r}.", title=title, name=min(repeated)[:LONGEST_NAME]))

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for number, cells in enumerate(islice(_records(text, delimiter, longest), 1, None), start=1):
            if cells == []:
                continue
            if isinstance(cells, list) and len(cells) != len(header):
                words = plural(
                    len(cells),
                    "it has {cells} cell, but the header has {header}",
                    "it has {cells} cells, but the header has {header}",
                )
                cells = UnusableRow(say(words, cells=len(cells), header=len(header)))
            yield number, dict(zip(header, cells, strict=True)) if isinstance(cells, list) else cells

    return Table([name for name in header if is_name(name)], rows)


class _Lines:
    """Iterator over the lines of a text; it raises `UnusableRow` after `longest` characters of a record.

    It is a class because a generator would be exhausted after raising.

    Args:
        text: The decoded text of a file.
        longest: Maximum number of characters in a record.
    """

    def __init__(self, text: str, longest: int) -> None:
        self.lines, self.longest, self.record_length = io.StringIO(text, newline=""), longest, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.record_length += len(line)
        if self.record_length > self.longest:
            raise too_long(self.record_length, self.longest)
        return line


def _records(text: str, delimiter: str, longest: int) -> Iterator[list[str] | UnusableRow]:
    lines = _Lines(text, longest)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.record_length = 0
        try:
            yield next(reader)
        except StopIteration:
            return
        except UnusableRow as refused:
            yield refused
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            words = later("a quote is opened and never closed") if is_open else later("its quoting is wrong ({reason})")
            yield UnusableRow(say(words, reason=error))


def _header(text: str, delimiter: str, longest: int) -> list[str]:
    first = next(_records(text, delimiter, longest), [])
    return [name.strip() for name in first] if isinstance(first, list) else []


def _delimiter_score(text: str, delimiter: str, longest: int) -> tuple[int, int]:
    """Score a delimiter by its header: number of known column names, then number of columns."""
    known = {name for layout in LAYOUTS.values() for names in layout.parts.values() for name in names}
    header = _header(text, delimiter, longest)
    return sum(normalise_name(name) in known for name in header[:MOST_COLUMNS]), len(header)


TEXT_FORMATS: dict[str, Callable[[str, str, int], Table]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
}
EXTENSIONS = (*TEXT_FORMATS, ".parquet")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
ARCHIVES = (".zip", ".xz", ".bz2", ".7z", ".rar", ".tar", ".tgz")
