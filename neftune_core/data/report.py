"""Report on how the rows of a source were read, for the command line, the page and records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from neftune_core.bounded_io import count_of
from neftune_core.data.chat import EncodedExample
from neftune_core.data.examples import CutRow, Duplicate
from neftune_core.data.formats.starters import data_title
from neftune_core.data.layouts import LAYOUTS
from neftune_core.data.preparing import PreparedData, preview
from neftune_core.data.rendering import rendering_of
from neftune_core.language import later, plural, say, translate_finished
from neftune_core.models.tokenizing import decoder_start

ROWS_SHOWN = 10
RECORD_ROWS, RECORD_CHARACTERS, RECORD_ENTRIES = 3, 2000, 100
"""Limits of a report in a record: rendered rows, characters per span, entries per list."""
RANGES_SHOWN = 6


class Span(BaseModel):
    """A run of text in a rendered row, and whether the loss covers it."""

    text: str
    trained: bool


class RenderedRow(BaseModel):
    """A row as the model sees it, with chat template and special tokens."""

    row: int
    spans: list[Span]


class RefusedRows(BaseModel):
    """Rows that were refused for the same reason.

    Attributes:
        reason: Why the rows cannot be used.
        rows: 1-based numbers of the rows; shortened in a record.
        count: Number of rows before shortening; 0 outside records.
    """

    reason: str
    rows: list[int]
    count: int = 0


class DataReport(BaseModel):
    """Report on the rows of a source, numbered from 1.

    Attributes:
        layout: Name of the layout, a key of `LAYOUTS`.
        columns: Columns by part of the layout.
        unused_columns: Names of columns and fields that were not read.
        refused: Refused rows by reason, most frequent reason first.
        duplicates: Rows left out as duplicates.
        notes: Remarks on reading, split and rendering.
    """

    layout: str = ""
    columns: dict[str, str] = {}
    unused_columns: list[str] = []
    train: int = 0
    held_out: int = 0
    refused: list[RefusedRows] = []
    cut: list[CutRow] = []
    duplicates: list[Duplicate] = []
    notes: list[str] = []
    rows: list[RenderedRow] = []

    def values(self) -> dict[str, Any]:
        """Return all fields as JSON values, without flags that are false."""
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields}

    def for_record(self) -> dict[str, Any]:
        """Return the fields as stored in a record: long lists are shortened, and refused rows are counted."""
        short = {
            name: getattr(self, name)[:RECORD_ENTRIES] for name in ("unused_columns", "cut", "duplicates", "notes")
        }
        refused = [
            RefusedRows(reason=one.reason, rows=one.rows[:RECORD_ENTRIES], count=len(one.rows))
            for one in self.refused[:RECORD_ENTRIES]
        ]
        rows = [RenderedRow(row=row.row, spans=list(map(_shorten, row.spans))) for row in self.rows[:RECORD_ROWS]]
        return self.model_copy(update={**short, "refused": refused, "rows": rows}).values()


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, CutRow | Duplicate):
        return {name: part for name, part in asdict(value).items() if part is not False}
    return value.model_dump(exclude_defaults=True) if isinstance(value, BaseModel) else value


def _shorten(span: Span) -> Span:
    text = span.text if len(span.text) <= RECORD_CHARACTERS else span.text[:RECORD_CHARACTERS] + " […]"
    return Span(text=text, trained=span.trained)


def data_report(prepared: PreparedData, tokenizer: Any, *, rows: int | None = ROWS_SHOWN) -> DataReport:
    """Build the report on prepared rows.

    Args:
        prepared: The tokenised rows.
        tokenizer: The model's tokenizer.
        rows: Number of rows to render; None for all.

    Returns:
        The report.
    """
    refused: dict[str, list[int]] = {}
    for refusal in prepared.refusals:
        refused.setdefault(refusal.reason, []).append(refusal.row)
    by_frequency = sorted(refused.items(), key=lambda one: -len(one[1]))
    own = prepared.train if prepared.own_held_out else [*prepared.train, *prepared.held_out]
    shown = sorted(own, key=lambda row: row.example.row)[:rows]
    return DataReport(
        layout=prepared.reading.layout,
        columns={part: column for part, column in prepared.reading.columns.items() if column},
        unused_columns=list(prepared.reading.unused_columns),
        train=len(prepared.train),
        held_out=len(prepared.held_out),
        refused=[RefusedRows(reason=reason, rows=rows) for reason, rows in by_frequency],
        cut=sorted(prepared.cut_rows, key=lambda one: (one.held_out, one.row)),
        duplicates=list(prepared.duplicates),
        notes=_notes(prepared, tokenizer),
        rows=[RenderedRow(row=row.example.row, spans=_spans(row, tokenizer)) for row in shown],
    )


def _spans(encoded: EncodedExample, tokenizer: Any) -> list[Span]:
    return [Span(text=text, trained=trained) for text, trained in preview(encoded, tokenizer) if text]


# ---------------------------------------------------------------- notes on system prompts and earlier turns


CUT = later("Rows cut to the maximum length lose their end-of-sequence token, so they do not teach the model to stop.")


def _notes(prepared: PreparedData, tokenizer: Any) -> list[str]:
    rows = [*prepared.train, *prepared.held_out]
    cut = say(CUT) if prepared.cut else ""
    notes = [*map(say, prepared.notes), *_system_note(rows, tokenizer), *_turn_notes(rows), cut, prepared.shortage]
    return list(filter(None, notes))


def _system_note(rows: Sequence[EncodedExample], tokenizer: Any) -> list[str]:
    count = sum(row.example.messages[0].role == "system" for row in rows)
    if decoder_start(tokenizer) is not None:
        words = later("Rows with a system prompt: {count:,}. The encoder reads the system prompt before the message.")
    elif rendering_of(tokenizer).takes_system:
        words = later("Rows with a system prompt: {count:,}. The system prompt is kept, but not trained on.")
    else:
        words = later(
            "Rows with a system prompt: {count:,}. The model's chat template does not support system prompts, so they "
            "are put at the start of the first user message."
        )
    return [say(words, count=count)] if count else []


def _turn_notes(rows: Sequence[EncodedExample]) -> list[str]:
    """Return notes on the trained replies of rows with several replies."""
    found = Counter(_replies_trained(row) for row in rows)
    return [say(words, count=found[name]) for name, words in TURN_NOTES.items() if found[name]]


TURN_NOTES = {
    "all": later("Rows with several replies, all of which are trained on: {count:,}."),
    "last": later(
        "Rows with several replies, of which only the last is trained on: {count:,}. The earlier turns are its context."
    ),
    "some": later("Rows with several replies, of which some are trained on: {count:,}."),
}


def _replies_trained(row: EncodedExample) -> str:
    """Return "all", "last" or "some" for a row with several replies, else "only"."""
    meant = [message.trained for message in row.example.messages if message.role == "assistant"]
    if len(meant) <= 1:
        return "only"
    # With some templates, fewer replies are trained on than marked. In a cut row, runs cannot be counted.
    runs = int(np.count_nonzero(np.diff(row.trained.astype(np.int8), prepend=0) == 1))
    count = sum(meant) if row.cut else runs
    if count == len(meant):
        return "all"
    return "last" if count == 1 and meant[-1] else "some"


# ---------------------------------------------------------------- text


def layout_text(layout: str, columns: Mapping[str, str]) -> str:
    """Describe a layout and its columns.

    Args:
        layout: Name of the layout.
        columns: Columns by part.

    Returns:
        A phrase for use inside a sentence. Columns with the same name as a part that the layout's words contain are not
        repeated.
    """
    words = say(LAYOUTS[layout].words if layout in LAYOUTS else layout)
    words = words[:1].lower() + words[1:]
    named = [
        column if column == part else say("{part} from “{column}”", part=say(part), column=column)
        for part, column in columns.items()
        if column and not (column == part and part in words)
    ]
    return f"{words} ({', '.join(named)})" if named else words


def row_ranges(rows: Iterable[int]) -> str:
    """Format row numbers as ranges, such as `1–3, 7`, up to `RANGES_SHOWN` of them."""
    ranges: list[list[int]] = []
    for row in sorted(set(rows)):
        if ranges and row == ranges[-1][1] + 1:
            ranges[-1][1] = row
        else:
            ranges.append([row, row])
    words = [f"{first:,}" if first == last else f"{first:,}–{last:,}" for first, last in ranges[:RANGES_SHOWN]]
    rest = sum(last - first + 1 for first, last in ranges[RANGES_SHOWN:])
    return ", ".join(words) + (say(" and {count:,} more", count=rest) if rest else "")


def summary(about: Mapping[str, Any]) -> list[str]:
    """Summarise the data of a record (`data` of `record.json`) as a list of sentences.

    Information missing from older records, which contain only counts, is left out.
    """
    report, counts = report_of(about), {name: count_of(about, name) for name in COUNTS}
    words = plural(
        counts["train"],
        "{title}: {train:,} row to train on, {held_out:,} held out.",
        "{title}: {train:,} rows to train on, {held_out:,} held out.",
    )
    lines = [say(words, title=data_title(about.get("title")), **counts)]
    if report.layout:
        lines.append(say("Read as {how}.", how=layout_text(report.layout, report.columns)))
    if report.unused_columns:
        lines.append(say("Columns not used: {columns}.", columns=", ".join(report.unused_columns)))
    if counts["refused"]:
        lines.append(_refusal_note(report, counts["refused"], sum(counts.values()) - counts["cut"]))
    if counts["cut"]:
        lines.append(
            say("Rows cut to the maximum length, which lose the end of their reply: {count:,}.", count=counts["cut"])
        )
    if counts["duplicates"]:
        lines.append(say("Duplicates left out: {count:,}.", count=counts["duplicates"]))
    return [*lines, *map(translate_finished, report.notes)]


COUNTS = ("train", "held_out", "cut", "refused", "duplicates")


def _refusal_note(report: DataReport, refused: int, every: int) -> str:
    reasons = say("; ").join(f"{one.count:,}: {translate_finished(one.reason)}" for one in report.refused)
    words = plural(
        refused,
        "{refused:,} of {every:,} rows was refused{reasons}.",
        "{refused:,} of {every:,} rows were refused{reasons}.",
    )
    in_brackets = say(" ({reasons})", reasons=reasons) if reasons else ""
    return say(words, refused=refused, every=every, reasons=in_brackets)


def report_of(about: Mapping[str, Any]) -> DataReport:
    """Return the report in a record's data; an empty report if it is missing or damaged."""
    try:
        return DataReport.model_validate(about.get("report") or {})
    except ValidationError:
        return DataReport()
