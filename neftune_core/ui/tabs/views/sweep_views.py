"""The results of a sweep as an HTML table."""

from __future__ import annotations

import html
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING

from neftune_core.data.formats.starters import data_title
from neftune_core.evaluation.measures import BESIDE, MEASURES
from neftune_core.evaluation.outcomes import EPOCHS
from neftune_core.figures.colours import arm_colours
from neftune_core.language import later, say
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.names import arm_words
from neftune_core.noise.strength import standard_deviation
from neftune_core.studies.results import rounding_note
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.settings import NOISE, cells, size_text
from neftune_core.ui.parts.markup import machine_text, quiet, recorded_notice
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.study_text import runs_text, summary_html

if TYPE_CHECKING:
    from neftune_core.sweeps.table import SweepTable, TableRow

EPOCH_NAMES = {"last": later("last epoch"), "best": later("best epoch")}
NOT_MEASURED = later("Nothing has been measured yet. The table fills up as studies finish.")
SHOWN_INFO = later("Your sweeps appear here as soon as they are started; the recorded ones are examples.")
THEN = later("Start your own sweep to see its results here.")
EMPTY = later("No sweep is shown: press “Start the sweep”. The effect of every arm, with its interval, appears here.")


def recorded_text(lab: Lab, sweep: Sweep) -> str:
    """Describe a recorded sweep, its result, the machine that ran it, and its strengths in alpha if in another unit.

    Args:
        lab: The state shared by all visitors.
        sweep: The sweep.

    Returns:
        HTML.
    """
    about = sweep.about
    model, data, machine = (about.get(part, {}) for part in ("model", "data", "machine"))
    rows = say("{count:,} rows", count=data.get("train", 0)) if data else ""
    parts = [
        say(
            "{title} on {data}",
            title=say(model.get("name") or later("a model")),
            data=say("{data} ({rows})", data=data_title(data.get("title", say("a starter set"))), rows=rows),
        ),
        size_text(sweep.settings),
    ]
    each = {runs_text(cell.study, data.get("train", 0)) for cell in cells(sweep.settings)}
    parts += [say("each with {runs}", runs=words) for words in each if data and len(each) == 1]
    if machine:
        parts.append(machine_text(machine))
    words = say("{words}.", words=say("; ").join(parts))
    then = say("{one} {other}", one=_strengths_in_alpha(lab, sweep), other=say(THEN)).strip()
    verdict = lab.sweep_table(sweep).verdict
    result = f'<div class="lab-state">{summary_html(verdict.summary)}</div>' if verdict else ""
    return recorded_notice(say("A recorded sweep."), words, then) + result


def _strengths_in_alpha(lab: Lab, sweep: Sweep) -> str:
    """Convert the strengths of a sweep in std for a training row of median length; "" for other units and models."""
    study = sweep.settings.study
    strengths = [float(value) for value in sweep.settings.axes.get(f"{NOISE}strength", ()) if value]
    units = {noise.unit for noise in study.noise}
    if units != {"std"} or not strengths or study.model != ModelSettings():
        return ""
    prepared, _ = lab.prepared(study.data, study.model)
    length = round(median(len(row.ids) for row in prepared.train))
    per_alpha = standard_deviation(1.0, "alpha", length, sweep.about["model"]["width"])
    return say(
        "Its strengths are in std: {given} are alpha {converted} for a training row of median length ({length} "
        "tokens).",
        given=say(", ").join(f"{value:g}" for value in strengths),
        converted=say(", ").join(f"{value / per_alpha:.2g}" for value in strengths),
        length=length,
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
    first = f'<th rowspan="2">{say("Arm")}</th><th rowspan="2">{say("Seeds")}</th>'
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
            "a t interval adjusted for all arms of the sweep (Holm). Differences whose interval excludes zero are "
            "in bold. The best epoch is chosen on one half of the held-out rows and evaluated on the other.",
            done=table.done,
            studies=table.studies,
        )
        + few
        + " "
        + rounding_note(table.rounding, measure)
    )
