"""Tables of rows, and Parquet files as tables, which are read in a separate process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_core.data.examples import UnusableRow
from neftune_core.data.formats.sandboxed_reader import Bounds, ReaderError, run_reader
from neftune_core.data.formats.texts import is_name
from neftune_core.errors import DataError
from neftune_core.language import later, say

MEMORY_BYTES = 2_000_000_000
SECONDS = 120
CHARACTERS = 200_000_000
MAGIC = b"PAR1"
"""First and last four bytes of a Parquet file."""
# (1-based number, record); the record is an `UnusableRow` if the row cannot be read.
Row = tuple[int, Any]


@dataclass(frozen=True)
class Table:
    """Rows that are read lazily.

    Attributes:
        columns: Names of the available columns.
        rows: Function of the required columns that returns an iterator over the rows; it can be called repeatedly.
    """

    columns: list[str]
    rows: Callable[[Sequence[str]], Iterator[Row]]


MOST_COLUMNS = 1000


def require_few_columns(count: int, title: str) -> None:
    """Require at most `MOST_COLUMNS` columns.

    Args:
        count: Number of columns.
        title: Name of the source, for the error message.

    Raises:
        DataError: If there are more than `MOST_COLUMNS`.
    """
    if count > MOST_COLUMNS:
        words = later("{title} has {count:,} columns, but at most {most:,} are read: keep only the columns with text.")
        raise DataError(say(words, title=title, count=count, most=MOST_COLUMNS))


def parquet_table(path: Path, longest: int) -> Table:
    """Open a Parquet file.

    Args:
        path: The file.
        longest: Maximum characters per row.

    Returns:
        The table.

    Raises:
        DataError: If the file is not a readable Parquet file, or has too many columns.
    """
    _require_magic(path)
    bounds = Bounds(MEMORY_BYTES, SECONDS, longest, CHARACTERS)
    file = {"path": str(path.resolve())}

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        number, request = 0, {**file, "columns": list(dict.fromkeys(columns))}
        try:
            for kind, number, record in run_reader("parquet rows", request, bounds):
                yield number, UnusableRow(record) if kind == "refused" else record
        except ReaderError as failed:
            words = later("{title} cannot be read after row {number:,}: {reason}.")
            raise DataError(say(words, title=path.name, number=number, reason=_reader_failure(failed))) from None

    try:
        ((_, names),) = run_reader("parquet columns", file, bounds)
    except ReaderError as failed:
        if "MemoryError" not in failed.kind:
            raise DataError(say("{title} is not a readable Parquet file.", title=path.name)) from None
        raise DataError(
            say("{title} is not a readable Parquet file: {reason}.", title=path.name, reason=_reader_failure(failed))
        ) from None
    require_few_columns(len(names), path.name)
    return Table([name for name in names if is_name(name)], rows)


def _reader_failure(failed: ReaderError) -> str:
    if "MemoryError" in failed.kind:
        return say("its rows take more memory than one file may use")
    if failed.kind == "size":
        return say("its rows have more than {most:,} characters in total, so request fewer rows", most=CHARACTERS)
    if failed.kind in ("died", "timeout"):
        return say("it is damaged, or takes too long to read")
    return say("it is damaged")


def _require_magic(path: Path) -> None:
    """Raise `DataError` unless the file begins and ends with `MAGIC`; no process is started for any other file."""
    with path.open("rb") as file:
        first = file.read(len(MAGIC))
        file.seek(-min(len(MAGIC), path.stat().st_size), 2)
        last = file.read(len(MAGIC))
    if (first, last) != (MAGIC, MAGIC):
        raise DataError(say("{title} is not a readable Parquet file.", title=path.name))
