"""Runs: the visitor's records, on disk and here after a restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.errors import RecordError
from neftune_core.figures.colours import arm_colours
from neftune_core.figures.curves import loss_curves
from neftune_core.training.record import Record, find, owned_records
from neftune_core.ui.answers import answer_columns
from neftune_core.ui.lab import Lab
from neftune_core.ui.plot import live_figure, part
from neftune_core.ui.run_views import about_words, state_words, when
from neftune_core.ui.strip import Strip
from neftune_core.ui.train_tab import TrainTab, require_key
from neftune_core.ui.wiring import QUIET, told

EMPTY = "No study yet. What you train is kept here, on this machine, also when the lab is closed."
LIST = f'<ul class="lab-runs" aria-label="Your studies"></ul><p class="lab-quiet lab-runs-empty">{EMPTY}</p>'


@dataclass(frozen=True)
class _Opened:
    """The components that show one record."""

    state: gr.HTML
    curves: gr.HTML
    answers: gr.HTML
    settings: gr.Code
    box: gr.Accordion

    def components(self) -> list[Any]:
        return [self.state, self.curves, self.answers, self.settings, self.box]


def build(lab: Lab, strip: Strip, train: TrainTab, key: gr.Textbox, place: gr.Tab) -> None:
    """The tab, inside an open `gr.Tab`."""
    runs = gr.HTML([], html_template=LIST, js_on_load=part("runs"), apply_default_css=False, elem_id="runs-list")
    state = gr.HTML(elem_id="runs-state", apply_default_css=False)
    curves = live_figure(elem_id="runs-curves")
    answers = gr.HTML(elem_id="runs-answers", apply_default_css=False)
    with gr.Accordion("Its settings (study.toml)", open=False, visible=False) as box:
        settings = gr.Code(language=None, elem_id="runs-settings", show_label=False, interactive=False)
    opened = _Opened(state, curves, answers, settings, box)

    @told
    def fill(key: str) -> list[dict[str, Any]]:
        return [_row(lab, record) for record in owned_records(require_key(key))]

    @told
    def open_record(key: str, chosen: gr.EventData) -> list[Any]:
        """Show one record; one that is not over becomes the study that the page watches."""
        record = find(str(chosen.id), require_key(key))
        arms, status = record.study.arms, lab.jobs.status(record)
        watch = [gr.skip()] * 3 if status.is_over else [record.id, -1, gr.Timer(active=True)]
        return [
            *watch,
            state_words(record, status),
            loss_curves(lab.log(record).events, arms),
            answer_columns(record.answers(), arms),
            (record.folder / "study.toml").read_text(encoding="utf-8"),
            gr.update(visible=True),
        ]

    gr.on([train.finished.change, strip.watched.change, place.select], fill, key, runs, **QUIET)
    watching = [strip.watched, train.seen, strip.timer]
    runs.click(open_record, key, [*watching, *opened.components()], **QUIET)


def _row(lab: Lab, record: Record) -> dict[str, Any]:
    """What the list tells of a record."""
    from neftune_core.training.progress import WORDS

    try:
        arms = record.study.arms
        status = lab.jobs.status(record)
    except RecordError as error:
        return {"id": record.id, "when": when(record), "about": str(error), "arms": [], "word": "Unreadable"}
    colours = arm_colours(arms)
    return {
        "id": record.id,
        "when": when(record),
        "about": about_words(record),
        "arms": [{"name": name, "colour": colours[name]} for name in arms],
        "state": status.state,
        "word": WORDS[status.state],
    }
