"""Files in: JSONL, JSON, CSV and Parquet as tables of records. Nothing in a file can run code here."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from neftune_core.data.examples import RowRefused
from neftune_core.data.layouts import LAYOUTS, spelled
from neftune_core.data.texts import decoded, parsed
from neftune_core.errors import DataError, DoesNotFit
from neftune_core.settings import Limits

# A row's 1-based number with its record, or with the reason for which it cannot be one.
Row = tuple[int, Any]
PEEK = 100


@dataclass(frozen=True)
class Table:
    """Rows not read yet: the columns there are, and `rows(columns)` to read them, as often as wanted."""

    columns: list[str]
    rows: Callable[[Sequence[str]], Iterator[Row]]


def open_table(path: Path, limits: Limits) -> Table:
    """The table in a file, by its extension. Raises `DataError` or `DoesNotFit` with one sentence."""
    title = path.name
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        raise DataError(f"{title} has the extension {extension or '(none)'}, which is none of {', '.join(EXTENSIONS)}.")
    check_file(path, limits)
    if extension == ".parquet":
        return _parquet(path)
    content = path.read_bytes()
    if content.startswith(b"PAR1"):
        raise DataError(f"{title} is a Parquet file: give it the extension .parquet.")
    text = decoded(content, title)
    if not text.strip():
        raise DataError(f"{title} is empty.")
    return TEXT_FORMATS[extension](text, title)


def check_file(path: Path, limits: Limits) -> None:
    """Raise `DataError` or `DoesNotFit` for a file that is missing, empty or larger than allowed."""
    title = path.name
    try:
        if not path.is_file():
            raise DataError(f"There is no file {title}.")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except (OSError, ValueError):
        raise DataError(f"{title!r} cannot be opened.") from None
    if size > limits.upload_megabytes * 1_000_000:
        raise DoesNotFit(
            f"{title} has {size / 1e6:,.1f} MB; this server reads files of up to {limits.upload_megabytes:,} MB."
        )
    if size == 0:
        raise DataError(f"{title} is empty.")


def _names(rows: Iterable[Row], title: str) -> list[str]:
    """The column names of the first rows, in order of appearance; raises `DataError` where there are none."""
    names: dict[str, None] = {}
    reasons = []
    for number, record in islice(rows, PEEK):
        if isinstance(record, dict):
            names |= dict.fromkeys(record)
        else:
            reason = record if isinstance(record, RowRefused) else "it is not an object with named columns"
            reasons.append(f"row {number:,}: {reason}")
    if not names:
        raise DataError(f"{title} has no rows that can be read{f' ({reasons[0]})' if reasons else ''}.")
    return list(names)


def _jsonl(text: str, title: str) -> Table:
    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
            if line.strip():
                yield number, _line(line)

    if text.lstrip().startswith("["):
        raise DataError(f"{title} starts with a list; JSONL has one object a line: rename it to .json.")
    return Table(_names(rows(()), title), rows)


def _line(line: str) -> Any:
    try:
        return parsed(line)
    except ValueError as error:
        return RowRefused(str(error).replace("line 1, ", ""))


def _json(text: str, title: str) -> Table:
    try:
        value = parsed(text)
    except ValueError as error:
        hint = "; one object a line is called .jsonl" if "extra data" in str(error) else ""
        raise DataError(f"{title} cannot be read: {error}{hint}.") from None
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list):
        raise DataError(f"{title} must be a list of objects, or an object with exactly one list inside.")
    if not value:
        raise DataError(f"{title} has no rows.")
    records: list[Any] = value
    return Table(_names(enumerate(records, 1), title), lambda columns: enumerate(records, start=1))


DELIMITERS = (",", ";", "\t")


def _csv(text: str, title: str) -> Table:
    text = text.lstrip("\r\n")
    # The csv module has one limit for the whole process; rows are checked against the lab's own limit.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    delimiter = max(DELIMITERS, key=lambda mark: _fit(text, mark))
    header = _header(text, delimiter)
    if not any(header):
        raise DataError(f"{title} has no header: its first line must name the columns.")
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise DataError(f"{title} has two columns called {min(repeated)!r}.")

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for number, cells in enumerate(islice(_records(text, delimiter), 1, None), start=1):
            if cells == []:
                continue
            if isinstance(cells, list) and len(cells) != len(header):
                cells = RowRefused(f"it has {len(cells)} cells where the header has {len(header)}")
            yield number, dict(zip(header, cells, strict=True)) if isinstance(cells, list) else cells

    return Table(header, rows)


def _records(text: str, delimiter: str) -> Iterator[list[str] | RowRefused]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            unclosed = "unexpected end" in str(error)
            yield RowRefused("a quote is opened and never closed" if unclosed else f"its quoting is wrong ({error})")


def _header(text: str, delimiter: str) -> list[str]:
    first = next(_records(text, delimiter), [])
    return [name.strip() for name in first] if isinstance(first, list) else []


def _fit(text: str, delimiter: str) -> tuple[int, int]:
    """How well a delimiter explains the header: columns of a known name, then columns."""
    known = {name for layout in LAYOUTS.values() for names in layout.parts.values() for name in names}
    header = _header(text, delimiter)
    return sum(spelled(name) in known for name in header), len(header)


def _parquet(path: Path) -> Table:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = list(file.schema_arrow.names)
    except Exception:  # the reader answers hostile bytes with many kinds of exception
        raise DataError(f"{path.name} is not a Parquet file that can be read.") from None

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        number = 0
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=256, columns=list(dict.fromkeys(wanted))):
                    for record in batch.to_pylist():
                        number += 1
                        yield number, record
        except Exception:
            raise DataError(f"{path.name} cannot be read after row {number:,}: it is damaged.") from None

    return Table(columns, rows)


TEXT_FORMATS: dict[str, Callable[[str, str], Table]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
}
EXTENSIONS = (*TEXT_FORMATS, ".parquet")
