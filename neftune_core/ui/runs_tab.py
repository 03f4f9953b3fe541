"""Runs: the visitor's records, on disk and here after a restart."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from neftune_core.errors import RecordError
from neftune_core.figures.curves import loss_curves
from neftune_core.training.record import Record, find, owned_records
from neftune_core.ui.answers import answer_columns
from neftune_core.ui.lab import Lab
from neftune_core.ui.plot import live_figure
from neftune_core.ui.train_tab import TrainTab, require_key, state_words
from neftune_core.ui.wiring import QUIET, told

COLUMNS = ["When", "Study", "Arms", "State"]
EMPTY = '<p class="lab-quiet">No study yet. What you train is kept here, also when the lab is closed.</p>'


def build(lab: Lab, train: TrainTab, key: gr.Textbox, tab: gr.Tab) -> None:
    """The tab, inside an open `gr.Tab`."""
    ids = gr.State([])
    table = gr.Dataframe(
        headers=COLUMNS, interactive=False, wrap=True, elem_id="runs-table", show_label=False, max_height=320
    )
    state = gr.HTML(EMPTY, elem_id="runs-state", apply_default_css=False)
    curves = live_figure(elem_id="runs-curves", height=420)
    answers = gr.HTML(elem_id="runs-answers", apply_default_css=False)
    with gr.Accordion("Settings (study.toml)", open=False):
        settings = gr.Code(language=None, elem_id="runs-settings", show_label=False, interactive=False)

    @told
    def fill(key: str) -> list[Any]:
        found = owned_records(require_key(key))
        rows = [_row(lab, record) for record in found]
        return [rows, [record.id for record in found], gr.skip() if rows else EMPTY]

    @told
    def open_record(key: str, ids: list[str], chosen: gr.SelectData) -> list[Any]:
        record = find(ids[chosen.index[0]], require_key(key))
        arms = record.study.arms
        return [
            state_words(record, lab.jobs.status(record)),
            loss_curves(record.events()[0], arms),
            answer_columns(record.answers(), arms),
            (record.folder / "study.toml").read_text(encoding="utf-8"),
        ]

    gr.on(
        [key.change, train.finished.change, train.watched.change, tab.select], fill, key, [table, ids, state], **QUIET
    )
    table.select(open_record, [key, ids], [state, curves, answers, settings], **QUIET)


def _row(lab: Lab, record: Record) -> list[str]:
    from neftune_core.training.jobs import WORDS

    try:
        arms = ", ".join(record.study.arms)
    except RecordError as error:
        return [_when(record), str(error), "", "Unreadable"]
    return [_when(record), _about(record), arms, WORDS[lab.jobs.status(record).state]]


def _when(record: Record) -> str:
    created = record.about.get("created")
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(created)) if isinstance(created, int | float) else record.id


def _about(record: Record) -> str:
    study, about = record.study, record.about
    model = about.get("model", {}).get("name", study.model.source)
    data = about.get("data", {}).get("title", study.data.source)
    return f"{study.title or model} on {data}"


def record_words(record: Record) -> str:
    """A record in one line: what, on what, when."""
    return f"{_about(record)}, {_when(record)}"
