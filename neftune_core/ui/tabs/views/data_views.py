"""The prepared rows of the Data tab as HTML, and the updates of its components."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from neftune_core.data.formats.starters import data_title, own_held_out
from neftune_core.data.layouts import LAYOUTS, columns_for
from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError, LabError
from neftune_core.figures.lengths import length_histogram
from neftune_core.language import later, plural, say
from neftune_core.models.settings import ModelSettings
from neftune_core.sentences import sentence
from neftune_core.settings import controls
from neftune_core.ui.parts.markup import facts, quiet
from neftune_core.ui.server.lab import Lab

if TYPE_CHECKING:
    from neftune_core.data.preparing import PreparedData
    from neftune_core.data.report import DataReport

ENTRIES_SHOWN = 200
OPEN_REFUSALS = 8
"""Maximum number of entries in a list of refused rows that is initially open."""
PARTS_SHOWN = 4
SPLIT = ("held_out_share", "split_seed")
"""Settings of the random split into training and held-out rows."""
NOT_USED = later("(not used)")
FILE_ROWS = later(
    "Each row needs an instruction and an answer, such as the columns instruction and output, or a list of messages. "
    "The columns are detected when the file is read."
)


def report(prepared: PreparedData, found: DataReport) -> str:
    """Describe the data in use, how it was read, and what happened to its rows.

    Args:
        prepared: The prepared rows.
        found: The report on the source.

    Returns:
        HTML.
    """
    from neftune_core.data.report import layout_text

    counts = {
        say("to train on"): found.train,
        say("held out"): found.held_out,
        say("cut to length"): prepared.cut,
        say("refused"): prepared.refused,
        say("duplicates removed"): prepared.duplicates_removed,
    }
    numbers = facts([(f"{count:,}", words) for words, count in counts.items()])
    how = say("Read as {how}.", how=layout_text(found.layout, found.columns))
    licence = say("Licence: {licence}.", licence=prepared.licence)
    unused = say("Columns not used: {columns}.", columns=_MARK if found.unused_columns else say("(none)"))
    others = (note for note in found.notes if note != prepared.shortage)
    names = say(", ").join(f"<code>{html.escape(name)}</code>" for name in found.unused_columns)
    notes = quiet(f"{how} {licence}") + quiet(unused).replace(_MARK, names) + "".join(map(quiet, others))
    in_use = later("Not used: {data}") if prepared.shortage else later("In use: {data}")
    named = say(in_use, data=data_title(prepared.title))
    heading = f"<h3>{html.escape(named)}</h3><p>{html.escape(prepared.shortage)}</p>"
    return f'<div class="lab-report">{heading}{numbers}{notes}{_lists(found)}</div>'


_MARK = "\0"
"""Placeholder for column names, which come from the file and are not translated."""


def _lists(found: DataReport) -> str:
    """Return collapsible lists of the refused, cut and duplicate rows."""
    from neftune_core.data.report import row_ranges

    refused = [(row_ranges(one.rows), one.reason) for one in found.refused]
    removed = later("{count:,} token cut from its end"), later("{count:,} tokens cut from its end")
    cut = [(f"{one.row:,}", say(plural(one.tokens_removed, *removed), count=one.tokens_removed)) for one in found.cut]
    same = [(f"{one.row:,}", say("the same as row {row:,}", row=one.same_as)) for one in found.duplicates]
    count = sum(len(one.rows) for one in found.refused)
    heading = say(plural(count, "1 row was refused", "{count:,} rows were refused"), count=count)
    cut_heading = say("Cut to the maximum length: {count:,}", count=len(cut))
    same_heading = say("Duplicates left out: {count:,}", count=len(same))
    return (
        _folding_table("lab-refusals", heading, say("Why"), refused)
        + _folding_table("lab-changed", cut_heading, say("Removed"), cut)
        + _folding_table("lab-changed", same_heading, say("Why"), same)
    )


def _folding_table(kind: str, heading: str, column: str, rows: Sequence[tuple[str, str]]) -> str:
    """Return an HTML table in a collapsible section; only a short list of refused rows is initially open."""
    if not rows:
        return ""
    body = "".join(f"<tr><td>{row}</td><td>{html.escape(words)}</td></tr>" for row, words in rows[:ENTRIES_SHOWN])
    more = len(rows) - ENTRIES_SHOWN
    rest = quiet(say("and {count:,} more", count=more)) if more > 0 else ""
    is_open = " open" if kind == "lab-refusals" and len(rows) <= OPEN_REFUSALS else ""
    return (
        f'<details class="lab-fold {kind}"{is_open}><summary>{html.escape(heading)}</summary>'
        f"<table><thead><tr><th>{say('Row')}</th><th>{html.escape(column)}</th></tr></thead><tbody>{body}</tbody>"
        f"</table>{rest}</details>"
    )


def rendered_row(prepared: PreparedData, tokenizer: Any, number: int) -> str:
    """Render one row as the model reads it, with the trained tokens marked.

    Args:
        prepared: The prepared rows.
        tokenizer: The model's tokenizer.
        number: Number of the row, from 1; held-out rows follow the training rows.

    Returns:
        HTML.
    """
    from neftune_core.data.preparing import preview

    every = [*prepared.train, *prepared.held_out]
    number = min(max(number, 1), len(every))
    row = every[number - 1]
    pieces = "".join(
        f"<mark>{html.escape(text)}</mark>" if trained else f"<span>{html.escape(text)}</span>"
        for text, trained in preview(row, tokenizer)
    )
    trains = number <= len(prepared.train)
    counted = later("{count:,} of them trained on") if trains else later("{count:,} of them measured")
    marked = say(counted, count=int(row.trained.sum()))
    words = say(
        "Row {row:,} of the source ({part}), as the model reads it: {count:,} tokens, {marked}",
        row=row.example.row,
        part=say("training row") if trains else say("held out"),
        count=len(row.ids),
        marked=f"<mark>{marked}</mark>",
    )
    return f'<figure class="lab-rendered"><figcaption>{words}</figcaption><pre>{pieces}</pre></figure>'


def data_updates(lab: Lab, settings: DataSettings, model: ModelSettings, key: str) -> list[Any]:
    """Return the updates of the tab's components that apply usable data.

    Args:
        lab: The state shared by all visitors.
        settings: The data settings.
        model: The model settings.
        key: Key that identifies the prepared data.

    Returns:
        One update per component.

    Raises:
        LabError: If the data cannot be used.
    """
    from neftune_core.data.report import data_report

    prepared, tokenizer = lab.prepared(settings, model)
    reading = prepared.reading
    return [
        settings,
        key,
        {"data": say("{data}, {count:,} rows", data=data_title(prepared.title), count=len(prepared.train))},
        report(prepared, data_report(prepared, tokenizer, rows=0)),
        _lengths(prepared, settings),
        gr.update(maximum=prepared.kept, value=1, visible=True),
        rendered_row(prepared, tokenizer, 1),
        "",
        gr.skip(),
        *_part_updates(reading.layout, reading.columns, reading.available_columns, by_hand=bool(settings.layout)),
    ]


def unusable_data_updates(
    lab: Lab, settings: DataSettings, model: ModelSettings, error: LabError, *, show_error: bool = True
) -> list[Any]:
    """Return the updates of the tab's components for unusable data; the data in use is unchanged.

    If the source can be read, its report and its first usable row are shown, and its columns can be chosen.

    Args:
        lab: The state shared by all visitors.
        settings: The data settings.
        model: The model settings.
        error: Explains why the data cannot be used.
        show_error: Whether to show the error, which stays visible until the data can be used.

    Returns:
        One update per component.
    """
    from neftune_core.data.sources import columns_of

    may_be_readable, available = isinstance(error, DataError), []
    shown = _report_updates(lab, settings, model) if may_be_readable else _UNCHANGED_REPORT
    with contextlib.suppress(LabError):
        available = columns_of(settings, lab.limits) if may_be_readable else []
    button = f'<button type="button" data-do="columns">{say("Choose the columns")}</button>' if available else ""
    problem = f'<div class="lab-problem" role="alert"><p>{html.escape(sentence(error))}</p>{button}</div>'
    updates = [gr.skip(), "", gr.skip(), *shown, problem if show_error else ""]
    if not available:
        return [*updates, *[gr.skip()] * (1 + PARTS_SHOWN)]
    columns = columns_for(LAYOUTS[settings.layout], available, {}) if settings.layout else {}
    found = {part: column for part, column in {**columns, **settings.columns}.items() if column}
    return [*updates, gr.update(open=True), *_part_updates(settings.layout, found, available, by_hand=True)]


def split_controls(settings: DataSettings) -> dict[str, dict[str, Any]]:
    """Return the notes below the controls of the random split, which say when other held-out rows replace it."""
    if settings.held_out_source:
        unused = say("Not used: the held-out rows come from a file of their own.")
        return {name: {"info": unused} for name in SPLIT}
    if own_held_out(settings.source, 1.0):
        share = say("The starter set has held-out rows of its own: 0 leaves them out; other values make no difference.")
        seed = say("Not used: the starter set has held-out rows of its own.")
        return dict(zip(SPLIT, ({"info": share}, {"info": seed}), strict=True))
    return {found.name: {"info": say(found.help)} for found in controls(DataSettings) if found.name in SPLIT}


_UNCHANGED_REPORT = [gr.skip()] * 4


def _report_updates(lab: Lab, settings: DataSettings, model: ModelSettings) -> list[Any]:
    """Return the updates of the report, lengths, row slider and row for data that a study cannot train on."""
    from neftune_core.data.report import data_report

    try:
        prepared, tokenizer = lab.examined(settings, model)
    except LabError:
        return _UNCHANGED_REPORT
    row = rendered_row(prepared, tokenizer, 1) if prepared.kept else ""
    found = data_report(prepared, tokenizer, rows=0)
    return [report(prepared, found), _lengths(prepared, settings), gr.update(visible=False), row]


def _lengths(prepared: PreparedData, settings: DataSettings) -> Any:
    train, held_out = ([len(row.ids) for row in rows] for rows in (prepared.train, prepared.held_out))
    return length_histogram(train, held_out, maximum_length=settings.maximum_length)


def _part_updates(layout: str, columns: dict[str, str], available: list[str], *, by_hand: bool) -> list[Any]:
    """Return the updates of the column dropdowns for a layout; they are editable if the layout was chosen by hand."""
    parts = list(LAYOUTS[layout].parts) if layout else []
    required = LAYOUTS[layout].required if layout else ()
    shown = [
        gr.update(
            visible=True,
            label=say("{part} column", part=say(part).capitalize()),
            choices=[(say(NOT_USED), NOT_USED), *available],
            value=columns.get(part) or (None if part in required else NOT_USED),
            interactive=by_hand,
        )
        for part in parts[:PARTS_SHOWN]
    ]
    return shown + [gr.update(visible=False, value=None)] * (PARTS_SHOWN - len(shown))
