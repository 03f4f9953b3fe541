"""What the Data tab shows of prepared rows, as HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from neftune_core.data.layouts import LAYOUTS
from neftune_core.language import later, say
from neftune_core.ui.views import facts

if TYPE_CHECKING:
    from neftune_core.data.preparing import Prepared

REFUSALS_SHOWN = 200
# So many refusals are shown at once; more stay folded until they are asked for.
REFUSALS_OPEN = 8


def data_words(prepared: Prepared) -> str:
    """The data in a few words, for the strip."""
    return say("{data}, {count:,} rows", data=prepared.title, count=len(prepared.train))


def report(prepared: Prepared) -> str:
    """What the data in use is, how it was read, what became of its rows, and each refusal with its reason."""
    reading = prepared.reading
    renamed = [
        say("{part} from “{column}”", part=say(part), column=column)
        for part, column in reading.columns.items()
        if part != column
    ]
    columns = f" ({', '.join(renamed)})" if renamed else ""
    numbers = facts(
        [
            (f"{len(prepared.train):,}", say("to train on")),
            (f"{len(prepared.held_out):,}", say("held out")),
            (f"{prepared.cut:,}", say("cut to length")),
            (f"{len(prepared.refusals):,}", say("refused")),
            (f"{prepared.duplicates_removed:,}", say("duplicates removed")),
        ]
    )
    notes = "".join(f'<p class="lab-quiet">{html.escape(say(note))}</p>' for note in prepared.notes)
    how = say(
        "read as {layout}{columns}; licence: {licence}",
        layout=say(LAYOUTS[reading.layout].words).lower(),
        columns=columns,
        licence=prepared.licence,
    )
    in_use = say("In use: {data}", data=prepared.title)
    return (
        f'<div class="lab-report"><h3>{html.escape(in_use)}</h3>'
        f'<p class="lab-quiet">{html.escape(how)}</p>{numbers}{notes}{_refusals(prepared)}</div>'
    )


def _refusals(prepared: Prepared) -> str:
    count = len(prepared.refusals)
    if not count:
        return ""
    rows = "".join(
        f"<tr><td>{refusal.row:,}</td><td>{html.escape(refusal.reason)}</td></tr>"
        for refusal in prepared.refusals[:REFUSALS_SHOWN]
    )
    more = count - REFUSALS_SHOWN
    rest = f'<p class="lab-quiet">{say("and {count:,} more", count=more)}</p>' if more > 0 else ""
    head = say("1 row was refused") if count == 1 else say("{count:,} rows were refused", count=count)
    return (
        f'<details class="lab-refusals"{" open" if count <= REFUSALS_OPEN else ""}><summary>{head}</summary>'
        f"<table><thead><tr><th>{say('Row')}</th><th>{say('Why')}</th></tr></thead><tbody>{rows}</tbody></table>"
        f"{rest}</details>"
    )


def rendered_row(prepared: Prepared, tokenizer: Any, place: int) -> str:
    """Row `place` (from 1, training rows first) as the model reads it, the part that is trained on marked."""
    from neftune_core.data.preparing import preview

    every = [*prepared.train, *prepared.held_out]
    place = min(max(place, 1), len(every))
    row = every[place - 1]
    pieces = "".join(
        f"<mark>{html.escape(text)}</mark>" if trained else f"<span>{html.escape(text)}</span>"
        for text, trained in preview(row, tokenizer)
    )
    trains = place <= len(prepared.train)
    counted = later("{count:,} of them trained on") if trains else later("{count:,} of them measured")
    marked = say(counted, count=int(row.trained.sum()))
    words = say(
        "Row {row:,} of its source, {part}, as the model reads it: {count:,} tokens, {marked}",
        row=row.example.row,
        part=say("a training row") if trains else say("held out"),
        count=len(row.ids),
        marked=f"<mark>{marked}</mark>",
    )
    return f'<figure class="lab-rendered"><figcaption>{words}</figcaption><pre>{pieces}</pre></figure>'
