"""The table type that all sources share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.errors import DataError
from neftune_core.language import say

# A row's 1-based number, and its record, or an `UnusableRow` with the reason if it has none.
Row = tuple[int, Any]


@dataclass(frozen=True)
class Table:
    """Rows that are read lazily.

    Attributes:
        columns: Names of the available columns.
        rows: Function of the required columns that iterates over the rows; it can be called repeatedly.
    """

    columns: list[str]
    rows: Callable[[Sequence[str]], Iterator[Row]]


MOST_COLUMNS = 1000


def require_few_columns(count: int, title: str) -> None:
    """Check the number of columns.

    Args:
        count: Number of columns.
        title: Name of the source, for the message.

    Raises:
        DataError: If there are more than `MOST_COLUMNS`.
    """
    if count > MOST_COLUMNS:
        raise DataError(
            say(
                "{title} has {count:,} columns, and at most {most:,} are read: keep only the columns with text.",
                title=title,
                count=count,
                most=MOST_COLUMNS,
            )
        )
