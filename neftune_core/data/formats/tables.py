"""What every source of rows gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.errors import DataError
from neftune_core.language import say

# A row's 1-based number with its record, or with the reason for which it cannot be one.
Row = tuple[int, Any]


@dataclass(frozen=True)
class Table:
    """Rows not read yet: the columns there are, and `rows(columns)` to read them, as often as wanted."""

    columns: list[str]
    rows: Callable[[Sequence[str]], Iterator[Row]]


MOST_COLUMNS = 1000


def require_few_columns(count: int, title: str) -> None:
    """Raise `DataError` where a table has more columns than anybody chooses from."""
    if count > MOST_COLUMNS:
        raise DataError(
            say(
                "{title} has {count:,} columns; at most {most:,} are read: keep those with the texts.",
                title=title,
                count=count,
                most=MOST_COLUMNS,
            )
        )
