"""The `neftune data` command: show how instructions are read and what happens to every row before training."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from neftune_core.commands.common import Command, refuse
from neftune_core.data.preparing import PreparedData, prepare
from neftune_core.data.report import ROWS_SHOWN, DataReport, data_report, layout_text, row_ranges
from neftune_core.data.settings import DataSettings
from neftune_core.errors import InvalidSetting
from neftune_core.language import plural
from neftune_core.models.loading import load
from neftune_core.models.settings import BUNDLED, ModelSettings
from neftune_core.settings import Limits

MARKS, COLOURS = ("⟦", "⟧"), ("\033[4m\033[32m", "\033[0m")
LINES_SHOWN = 20
SCHEMES = ("file:", "starter:", "hub:")


@dataclass
class DataCommand(Command):
    """Show how rows are read: layout and columns, refused, cut and duplicate rows, and the text that is trained on."""

    file: Annotated[str, tyro.conf.Positional] = ""
    """The source of the rows: a file, starter:NAME or hub:OWNER/NAME."""
    model: str = BUNDLED
    """The model whose tokenizer and chat template are used."""
    json: bool = False
    """Print JSON."""
    all: bool = False
    """Show all rows instead of the first ten."""
    data: Annotated[DataSettings, tyro.conf.arg(name="")] = field(default_factory=DataSettings)
    """The settings for reading, splitting and cutting the rows."""


def data(arguments: DataCommand) -> int:
    """Print the report on a data source and return the exit status: 1 if none of its rows is usable.

    Raises:
        LabError: If the model cannot be loaded, or the data cannot be read.
    """
    source = _source(arguments)
    loaded = load(ModelSettings(source=arguments.model))
    settings = arguments.data.model_copy(update={"source": source}).within(loaded.context)
    prepared = prepare(settings, loaded.tokenizer, Limits(), require_rows=False)
    found = data_report(prepared, loaded.tokenizer, rows=None if arguments.all else ROWS_SHOWN)
    if arguments.json:
        print(json.dumps(found.values(), ensure_ascii=False, indent=2))
    else:
        print("\n".join(_lines(found, prepared)))
    return 0 if prepared.kept else refuse(prepared.shortage)


def _source(arguments: DataCommand) -> str:
    file, named = arguments.file, arguments.data.source
    is_named = named != DataSettings().source
    if bool(file) == is_named:
        raise InvalidSetting("Exactly one source of rows is needed: give one, as in `neftune data FILE`.")
    return named if is_named else file if file.startswith(SCHEMES) and not Path(file).exists() else f"file:{file}"


def _lines(found: DataReport, prepared: PreparedData) -> Iterator[str]:
    refused = [f"{one.reason} ({plural(len(one.rows), 'row', 'rows')} {row_ranges(one.rows)})" for one in found.refused]
    cut = [
        f"{_row(one.row, one.held_out)}: {one.tokens_removed:,} {plural(one.tokens_removed, 'token', 'tokens')} "
        "cut from its end"
        for one in found.cut
    ]
    duplicates = [
        f"{_row(one.row, one.held_out)}: the same as {_row(one.same_as, one.same_as_held_out)}"
        for one in found.duplicates
    ]
    yield f"{prepared.title}: read as {layout_text(found.layout, found.columns)}; licence: {prepared.licence}"
    yield f"{found.train:,} {plural(found.train, 'row', 'rows')} to train on, {found.held_out:,} held out"
    yield f"columns not used: {', '.join(found.unused_columns) or 'none'}"
    yield from _part(f"refused: {prepared.refused:,}", refused)
    yield from _part(f"cut to the maximum length: {prepared.cut:,}", cut)
    yield from _part(f"duplicates left out: {prepared.duplicates_removed:,}", duplicates)
    yield from _part("notes", found.notes)
    before, after = COLOURS if sys.stdout.isatty() and "NO_COLOR" not in os.environ else MARKS
    yield f"\nrows as the model reads them; the text trained on is marked {before}like this{after}"
    for row in found.rows:
        texts = (f"{before}{span.text}{after}" if span.trained else span.text for span in row.spans)
        yield f"\n--- row {row.row:,}\n{''.join(texts)}"
    hidden = prepared.kept - len(found.rows) - (found.held_out if prepared.own_held_out else 0)
    if hidden > 0:
        yield f"\n({hidden:,} more {plural(hidden, 'row: --all shows it', 'rows: --all shows them')})"


def _part(heading: str, lines: Sequence[str]) -> Iterator[str]:
    """Yield a heading and its lines; nothing if there are no lines."""
    if lines:
        yield f"\n{heading}"
        yield from (f"  {line}" for line in lines[:LINES_SHOWN])
    if len(lines) > LINES_SHOWN:
        yield f"  and {len(lines) - LINES_SHOWN:,} more: --json lists them"


def _row(number: int, held_out_file: bool) -> str:
    return f"row {number:,}" + (" of the held-out file" if held_out_file else "")
