"""Compare: the same prompts answered by the base, the control and the noise arms, side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from neftune_core.errors import DataError, DoesNotFit, RecordError
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.training.record import Record, find, owned_records
from neftune_core.ui.answers import answer_columns
from neftune_core.ui.controls import Form
from neftune_core.ui.lab import Lab
from neftune_core.ui.runs_tab import record_words
from neftune_core.ui.train_tab import TrainTab, require_key
from neftune_core.ui.wiring import QUIET, told

REDRAW_SECONDS = 0.2
FIRST_PROMPTS = "Name three ways to save water at home.\nWhy is the sky blue?"
EMPTY = '<p class="lab-quiet">Train a study first; then ask it anything here.</p>'


def build(lab: Lab, train: TrainTab, key: gr.Textbox) -> None:
    """The tab, inside an open `gr.Tab`."""
    with gr.Row(elem_id="compare-tab"):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            record = gr.Dropdown([], label="Study", info="One of yours with trained arms.", elem_id="compare-record")
            prompts = gr.Textbox(
                FIRST_PROMPTS, label="Prompts", info="One a line.", lines=4, max_lines=12, elem_id="compare-prompts"
            )
            form = Form(AnswerSettings, names=("system", "new_tokens", "repetition_penalty"), prefix="compare")
            with gr.Row():
                ask = gr.Button("Answer", variant="primary", elem_id="compare-ask")
                stop = gr.Button("Stop", elem_id="compare-stop")
        with gr.Column(scale=5, min_width=320):
            answers = gr.HTML(EMPTY, elem_id="compare-answers", apply_default_css=False)
    _connect(lab, train, key, record, prompts, form, ask, stop, answers)


def _connect(  # noqa: PLR0913 - the components of one small tab
    lab: Lab,
    train: TrainTab,
    key: gr.Textbox,
    record: gr.Dropdown,
    prompts: gr.Textbox,
    form: Form[AnswerSettings],
    ask: gr.Button,
    stop: gr.Button,
    answers: gr.HTML,
) -> None:
    @told
    def choices(key: str, finished: str) -> list[Any]:
        found = _answerable(require_key(key))
        chosen = next((entry for entry in found if entry.id == finished), found[0] if found else None)
        update = gr.update(choices=[(record_words(entry), entry.id) for entry in found], value=chosen and chosen.id)
        return [update, _kept(chosen) if chosen else EMPTY]

    @told
    def show(key: str, record_id: str) -> str:
        return _kept(find(record_id, require_key(key))) if record_id else EMPTY

    @told
    def answer(key: str, record_id: str, text: str, *values: Any) -> Iterator[str]:
        from neftune_core.training.comparison import compare

        if not record_id:
            raise RecordError("There is no trained study to ask yet: press Train first.")
        asked = _prompts(lab, text)
        settings = form.settings(values, prompts=asked)
        chosen = find(record_id, require_key(key))
        arms, shown_at = chosen.study.arms, 0.0
        lines: list[dict[str, Any]] = []
        for lines in compare(chosen, settings):
            if time.monotonic() - shown_at >= REDRAW_SECONDS:
                shown_at = time.monotonic()
                yield answer_columns(lines, arms)
        yield answer_columns(lines, arms)

    gr.on([key.change, train.finished.change], choices, [key, train.finished], [record, answers], **QUIET)
    record.input(show, [key, record], answers, **QUIET)
    asking = ask.click(answer, [key, record, prompts, *form.components], answers, **QUIET, concurrency_limit=2)
    stop.click(None, None, None, cancels=asking)


def _answerable(owner: str) -> list[Record]:
    from neftune_core.training.comparison import saved_arms

    found = []
    for entry in owned_records(owner):
        try:
            if saved_arms(entry):
                found.append(entry)
        except RecordError:
            continue
    return found


def _kept(record: Record) -> str:
    """The answers that the study itself gave when it ended."""
    return answer_columns(record.answers(), record.study.arms) or EMPTY


def _prompts(lab: Lab, text: str) -> tuple[str, ...]:
    found = tuple(line.strip() for line in (text or "").splitlines() if line.strip())
    if not found:
        raise DataError("There is no prompt: write one a line.")
    if len(found) > lab.limits.prompts or max(map(len, found)) > lab.limits.prompt_characters:
        raise DoesNotFit(
            f"At most {lab.limits.prompts} prompts of {lab.limits.prompt_characters:,} characters are answered at once."
        )
    return found
