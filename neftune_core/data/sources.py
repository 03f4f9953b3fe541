"""Read examples from a source: `starter:NAME`, `file:PATH` or `hub:OWNER/NAME`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from neftune_core.data.examples import Example, Refusal, UnusableRow, fingerprint
from neftune_core.data.formats import hub_rows
from neftune_core.data.formats.files import column_names, open_table
from neftune_core.data.formats.starters import STARTERS, starter_file
from neftune_core.data.formats.tables import MOST_COLUMNS, Row, Table
from neftune_core.data.formats.texts import is_name, too_long
from neftune_core.data.layouts import CHOICES, LAYOUTS, choose, control_columns, messages_of, normalise_name
from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError, NotAvailable
from neftune_core.home import assets, home
from neftune_core.language import later, plural, say
from neftune_core.sentences import cause
from neftune_core.settings import Limits

ReadCallback = Callable[[int, int], None]
PROGRESS_ROWS = 500
OWN_LICENCE = "your own file"


@dataclass(frozen=True)
class SourceRows:
    """Result of reading a source.

    Attributes:
        examples: Usable rows, with their numbers in the source.
        layout: Name of the layout, a key of `LAYOUTS`.
        columns: Columns by part of the layout, and by name for columns outside the layout (see `control_columns`).
        available_columns: Columns of the source.
        sha256: Hash of the examples.
        title: Name of the file or data set.
        unused_columns: Names of columns and fields that were not read, such as `messages[].id` for `id` in a message.
    """

    examples: list[Example]
    refusals: list[Refusal]
    layout: str
    columns: dict[str, str]
    available_columns: list[str]
    sha256: str
    licence: str
    title: str
    notes: tuple[str, ...] = ()
    unused_columns: tuple[str, ...] = ()

    @property
    def shortage(self) -> str:
        """Why no row can be used; "" if at least one can."""
        return "" if self.examples else _no_usable_rows(self.refusals, self.title)


_OpenSource = tuple[Table, str, str]
"""The table of a source, its title and its licence."""


def read(
    settings: DataSettings, limits: Limits, *, progress: ReadCallback | None = None, require_rows: bool = True
) -> SourceRows:
    """Read the first rows of `settings.source`.

    Args:
        settings: Data settings; at most `settings.rows` are read.
        limits: Limits of this server.
        progress: Called occasionally with (rows read, maximum).
        require_rows: Whether at least one row must be usable.

    Returns:
        The rows; `refusals` lists the unusable ones.

    Raises:
        DataError: If the source cannot be read, or has no usable row although one is required.
        DoesNotFit: If the source exceeds a limit.
        NotAvailable: If the source cannot be reached.
    """
    most = min(settings.rows, limits.rows)
    table, title, licence = _open(settings, limits, most)
    layout, columns = choose(table.columns, settings.layout, settings.columns)
    controls = control_columns(table.columns, columns)
    choices = [column for column in table.columns if normalise_name(column) in CHOICES]
    rows = table.rows([*columns.values(), *controls.values(), *choices])
    unused: set[str] = set()
    examples: list[Example] = []
    refusals: list[Refusal] = []
    for count, row in enumerate(islice(rows, most), start=1):
        found = _example(row, layout, columns, limits, unused)
        (examples if isinstance(found, Example) else refusals).append(found)  # type: ignore[arg-type]
        if progress and count % PROGRESS_ROWS == 0:
            progress(count, most)
    if require_rows and not examples:
        raise DataError(_no_usable_rows(refusals, title))
    return SourceRows(
        examples=examples,
        refusals=refusals,
        layout=layout,
        columns=columns | {name: column for name, column in controls.items() if column not in unused},
        available_columns=table.columns,
        sha256=fingerprint(examples),
        licence=licence,
        title=title,
        notes=(*filter(None, [say(LAYOUTS[layout].note)]), *_notes(settings, limits, rows)),
        unused_columns=_unused_columns(table.columns, {*columns.values(), *controls.values()}, unused),
    )


def _unused_columns(available: Sequence[str], used: set[str], seen: set[str]) -> tuple[str, ...]:
    """Return the unused columns in order, followed by unused names inside rows."""
    columns = [name for name in available if name not in used or name in seen]
    return (*columns, *sorted(name for name in seen.difference(columns) if is_name(name))[:MOST_COLUMNS])


def columns_of(settings: DataSettings, limits: Limits) -> list[str]:
    """Return the columns of a source.

    Args:
        settings: Data settings.
        limits: Limits of this server.

    Returns:
        Column names.

    Raises:
        DataError: If the source cannot be read.
        DoesNotFit: If the source exceeds a limit.
        NotAvailable: If the source cannot be reached.
    """
    return _open(settings, limits, min(settings.rows, limits.rows))[0].columns


def _open(settings: DataSettings, limits: Limits, most: int) -> _OpenSource:
    scheme, _, name = settings.source.partition(":")
    if scheme == "starter" and name:
        return open_table(starter_file(name), limits), name, STARTERS[name].licence
    if scheme == "file" and name:
        path = Path(name)
        if not limits.local_paths:
            _require_own_file(path)
        return open_table(path, limits), path.name, OWN_LICENCE
    if scheme == "hub" and name:
        return _open_hub(name, settings, limits, most)
    words = later("The data source {source!r} is not recognised: write starter:NAME, file:PATH or hub:OWNER/NAME.")
    raise DataError(say(words, source=settings.source[:80]))


def _require_own_file(path: Path) -> None:
    """Check that a file, after resolving links, is an upload, part of a record or a shipped asset.

    Raises:
        NotAvailable: If it is not.
        DataError: If the path cannot be resolved.
    """
    own = [home() / "uploads", home() / "runs", assets()]
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(say("{title!r} cannot be opened: {reason}.", title=str(path), reason=cause(error))) from None
    if not any(real.is_relative_to(folder.resolve()) for folder in own):
        raise NotAvailable(say("This server only reads uploaded files: upload the file."))


def _open_hub(name: str, settings: DataSettings, limits: Limits, most: int) -> _OpenSource:
    found = hub_rows.first_rows(name, settings, most + 1, limits)
    if not found:
        words = later("The data set {name} has no rows in its split {split!r}: choose another split.")
        raise DataError(say(words, name=name, split=settings.split))
    columns = column_names(found, say("The data set {name}", name=name))
    offered = hub_rows.HUB_SETS.get(name)
    return Table(columns, lambda _: iter(found)), name, offered.licence if offered else hub_rows.UNKNOWN_LICENCE


def _example(row: Row, layout: str, columns: dict[str, str], limits: Limits, unused: set[str]) -> Example | Refusal:
    number, record = row
    try:
        if isinstance(record, UnusableRow):
            raise record
        messages = messages_of(layout, columns, record, unused)
    except UnusableRow as refused:
        return Refusal(number, str(refused))
    characters = sum(len(turn.content) + sum(len(text) for _, text in turn.fields) for turn in messages)
    if characters > limits.row_characters:
        return Refusal(number, str(too_long(characters, limits.row_characters)))
    return Example(messages, number)


def _no_usable_rows(refusals: list[Refusal], title: str) -> str:
    if not refusals:
        return say("{title} has no rows.", title=title)
    words = plural(
        len(refusals),
        "The only row of {title} cannot be used; row {row:,}: {reason}.",
        "None of the {count:,} rows of {title} can be used; row {row:,}: {reason}.",
    )
    return say(words, count=len(refusals), title=title, row=refusals[0].row, reason=refusals[0].reason)


def _notes(settings: DataSettings, limits: Limits, rest: Iterator[Any]) -> tuple[str, ...]:
    if next(rest, None) is None:
        return ()
    if settings.rows > limits.rows:
        return (say("Only the first {count:,} rows were read, the most this server allows.", count=limits.rows),)
    return (say("Only the first {count:,} rows were read, as configured.", count=settings.rows),)
