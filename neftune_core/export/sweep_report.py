"""The content of a sweep's report."""

from __future__ import annotations

import html

from neftune_core.data.formats.starters import data_title
from neftune_core.errors import RecordError
from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import EPOCHS
from neftune_core.export import report_parts
from neftune_core.figures.effects import EPOCH_WORDS, effect_curve
from neftune_core.figures.evidence import EPOCH_NAMES
from neftune_core.home import assets
from neftune_core.language import later, say
from neftune_core.noise.names import arm_words
from neftune_core.studies.records.record import SWEEP_FILE, Record
from neftune_core.studies.results import rounding_note
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.table import SweepTable, TableRow, sweep_table

INTRO = later(
    "Every arm was trained with the same seeds and is compared with the control that has the same seed and "
    "training settings. The column “minus control” is the mean paired difference, with a t interval adjusted for all "
    "arms of the sweep."
)
MOST_MEASURES = 6


def sweep_content(record: Record) -> report_parts.Content:
    """Return the report of a sweep.

    Raises:
        RecordError: If nothing has been measured yet.
    """
    sweep = Sweep(record.folder)
    table = sweep_table(sweep)
    if not table.rows:
        words = later("The sweep {record} has no results yet, so there is nothing to report: run it first.")
        raise RecordError(say(words, record=record.id))
    first, measure = _first_cell(sweep), table.question.measure
    return report_parts.Content(
        kind=say("A NEFTune Lab sweep"),
        title=_title(sweep, first),
        intro=html.escape(say(INTRO)),
        facts=_facts(sweep, table, first),
        sections=[
            *([(say("The verdict"), report_parts.verdict_html(table.verdict))] if table.verdict else []),
            (say("The arms"), _table(table)),
            (say("The data"), report_parts.data_html(first.about_table("data"))),
        ],
        figures=[
            (
                say(", ").join((say(MEASURES[measure].label), say(EPOCH_WORDS[epoch]))),
                effect_curve(table, measure, epoch),
            )
            for epoch in EPOCHS
        ],
        settings=report_parts.settings_of(sweep, SWEEP_FILE),
        settings_file=SWEEP_FILE,
        command=f"neftune sweep {SWEEP_FILE}",
        machine=report_parts.machine_text(first),
    )


def _title(sweep: Sweep, first: Record) -> str:
    """Return the title of the sweep, translated if the sweep is part of the lab's assets."""
    if sweep.settings.title:
        return say(sweep.settings.title) if sweep.folder.is_relative_to(assets()) else sweep.settings.title
    return say("A sweep of {model}", model=say(first.about_table("model").get("name") or later("a model")))


def _first_cell(sweep: Sweep) -> Record:
    """Return the record of the first study that was started, or the record of the sweep if none was started."""
    found = sorted((sweep.folder / "cells").glob("*/record.json"))
    return Record(found[0].parent) if found else sweep


def _facts(sweep: Sweep, table: SweepTable, first: Record) -> dict[str, str]:
    seeds = sorted({seed for row in table.rows for seed in row.seeds})
    return {
        say("Model"): say(str(first.about_table("model").get("name") or "")),
        say("Data"): data_title(first.about_table("data").get("title")),
        say("Settings"): f"{sum(not row.is_control for row in table.rows):,}",
        say("Seeds used"): ", ".join(str(seed) for seed in seeds),
        say("Studies done"): say("{some} of {count}", some=table.done, count=table.studies),
        say("Created"): report_parts.creation_time(sweep),
        say("How it ended"): report_parts.ending_label(sweep),
    }


def _table(table: SweepTable) -> str:
    """Return an HTML table of the chosen measure at both epochs and the other measures at the final epoch."""
    asked, *others = table.measures[:MOST_MEASURES]
    shown = [(asked, epoch) for epoch in EPOCHS] + [(name, "last") for name in others]
    heads = [say(", ").join((say(MEASURES[name].label), say(EPOCH_NAMES[epoch]))) for name, epoch in shown]
    heads = [html.escape(head) for head in (say("Seeds used"), *heads)]
    arms = report_parts.arm_heads({row.arm: row.noise for row in table.rows})
    names = arms | {"base": html.escape(arm_words("base"))}
    rows = (
        [
            names[row.arm] + (f" <small>{html.escape(row.cell)}</small>" if row.cell else ""),
            "–" if row.arm == "base" else str(row.counted),
            *(_cell(row, *which) for which in shown),
        ]
        for row in table.shown
    )
    note = html.escape(rounding_note(table.rounding, asked))
    return f"{report_parts.table_html(heads, rows)}<p class='quiet'>{note}</p>"


def _cell(row: TableRow, measure: str, epoch: str) -> str:
    """Return a setting's mean and its difference from the control, with interval, as HTML; bold if significant."""
    value = row.mean(measure, epoch)
    text = "–" if value != value else f"{value:.3g}"
    found = row.effects.get(measure, {}).get(epoch)
    if found is None or not found.seeds:
        return text
    shown = f"{found.difference:+.3g}"
    if found.interval:
        shown = f"<b>{shown}</b>" if row.is_significant(measure, epoch) else shown
        shown += f" [{found.interval.low:+.2g}, {found.interval.high:+.2g}]"
    return f"{text}<br><small>{shown}</small>"
