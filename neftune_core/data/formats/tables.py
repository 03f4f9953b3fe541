"""Table type shared by all sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.errors import DataError
from neftune_core.language import later, say

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
        title: Name of the source, for the message.

    Raises:
        DataError: If there are more than `MOST_COLUMNS`.
    """
    if count > MOST_COLUMNS:
        words = later("{title} has {count:,} columns, but at most {most:,} are read: keep only the columns with text.")
        raise DataError(say(words, title=title, count=count, most=MOST_COLUMNS))
