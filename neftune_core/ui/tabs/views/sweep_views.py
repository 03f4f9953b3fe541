"""The results of a sweep as an HTML table."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

from neftune_core.evaluation.measures import BESIDE, MEASURES
from neftune_core.evaluation.outcomes import EPOCHS
from neftune_core.figures.colours import arm_colours
from neftune_core.language import later, say
from neftune_core.noise.names import arm_words
from neftune_core.studies.results import rounding_note
from neftune_core.ui.parts.markup import quiet

if TYPE_CHECKING:
    from neftune_core.sweeps.table import SweepTable, TableRow

EPOCH_NAMES = {"last": later("last epoch"), "best": later("best epoch")}
NOT_MEASURED = later("Nothing has been measured yet. The table fills up as studies finish.")
SHOWN_INFO = later("Your sweeps appear here as soon as they are started; the recorded ones are examples.")
EMPTY = later(
    "No sweep is shown: press “Start the sweep”. The effect of every setting, with its interval, appears here."
)


def table_view(table: SweepTable, measure: str) -> str:
    """Render the settings of a sweep with their results and effects as a table.

    Args:
        table: The table of the sweep.
        measure: Name of the measure.

    Returns:
        HTML.
    """
    if not table.rows:
        return quiet(say(NOT_MEASURED))
    others = [name for name in BESIDE if name in table.measures and name != measure]
    label = html.escape(say(MEASURES[measure].label))
    groups = "".join(
        f'<th colspan="2" scope="colgroup">{label}{say(", ")}{say(EPOCH_NAMES[epoch])}</th>' for epoch in EPOCHS
    ) + (f'<th colspan="{len(others)}" scope="colgroup">{say("Other measures, last epoch")}</th>' if others else "")
    heads = f"<th>{say('mean')}</th><th>{say('minus control')}</th>" * len(EPOCHS)
    heads += "".join(
        f'<th title="{html.escape(say(MEASURES[name].words))}">{html.escape(say(MEASURES[name].label))}</th>'
        for name in others
    )
    colours = arm_colours({row.arm: row.noise for row in table.rows})
    rows = "".join(_row(row, measure, others, colours) for row in table.shown)
    first = f'<th rowspan="2">{say("Setting")}</th><th rowspan="2">{say("Seeds")}</th>'
    return (
        f'<div class="lab-sweep-table" tabindex="0" role="region" aria-label="{say("Results of the sweep")}">'
        f"<table><thead><tr>{first}{groups}</tr><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{quiet(_note(table, measure))}"
    )


def _row(row: TableRow, measure: str, others: list[str], colours: Mapping[str, str]) -> str:
    cells = ["–" if row.arm == "base" else str(row.counted)]
    for epoch in EPOCHS:
        cells += [_number(row.mean(measure, epoch)), _effect(row, measure, epoch)]
    cells += [_number(row.mean(name, "last")) for name in others]
    words = f" <span>{html.escape(row.cell)}</span>" if row.cell else ""
    name = f'<b class="lab-arm" style="--arm:{colours[row.arm]}">{html.escape(arm_words(row.arm))}</b>{words}'
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _number(value: float) -> str:
    """Format a number with three significant digits; return a dash for NaN."""
    return "–" if value != value else f"{value:.3g}"


def _effect(row: TableRow, measure: str, epoch: str) -> str:
    """Return the mean difference from the control with its interval as HTML, bold if significant; "" if none."""
    found = row.effects.get(measure, {}).get(epoch)
    if found is None or not found.seeds:
        return ""
    if found.interval is None:
        return f"{found.difference:+.3g}"
    text = f"{found.difference:+.3g}</b> [{found.interval.low:+.2g}, {found.interval.high:+.2g}]"
    return f"<b>{text}" if row.is_significant(measure, epoch) else text.replace("</b>", "")


def _note(table: SweepTable, measure: str) -> str:
    seeds = max((row.counted for row in table.rows), default=0)
    few = " " + say("Results from fewer than six seeds are only illustrative.") if seeds < 6 else ""
    return (
        say(
            "{done} of {studies} studies are done. “Minus control” is the mean paired difference over the seeds, with "
            "a t interval adjusted for all settings of the sweep (Holm). Differences whose interval excludes zero are "
            "in bold. The best epoch is chosen on one half of the held-out rows and evaluated on the other.",
            done=table.done,
            studies=table.studies,
        )
        + few
        + " "
        + rounding_note(table.rounding, measure)
    )
