"""Compare: the same prompts answered by the base, the control and the noise arms, side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.errors import DataError, DoesNotFit, RecordError
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.training.record import Record, find, owned_records
from neftune_core.ui.answers import answer_columns
from neftune_core.ui.controls import Form
from neftune_core.ui.lab import Lab, require_key
from neftune_core.ui.recorded import Recorded
from neftune_core.ui.run_views import about_words, when
from neftune_core.ui.train_tab import TrainTab
from neftune_core.ui.views import quiet
from neftune_core.ui.wiring import QUIET, told

REDRAW_SECONDS = 0.2
FIRST_PROMPTS = "Where does the owl live?\nWhy is the sky blue?"
FORM = ("system", "new_tokens", "repetition_penalty")
EMPTY = quiet("Train a study first; then ask it anything here, and its arms answer side by side.")
THEN = "Train a study of your own, and ask it anything here; its arms answer side by side, as these did."
NO_ANSWERS = quiet("This study kept no answers: write prompts, and press Answer.")


@dataclass(frozen=True)
class _Parts:
    """The components of the tab."""

    record: gr.Dropdown
    seed: gr.Dropdown
    prompts: gr.Textbox
    form: Form[AnswerSettings]
    ask: gr.Button
    stop: gr.Button
    answers: gr.HTML


def build(lab: Lab, train: TrainTab, key: gr.Textbox, shown: Recorded | None) -> None:
    """The tab, inside an open `gr.Tab`; `shown` stands where there is nothing to ask yet."""
    with gr.Row(elem_id="compare-tab", elem_classes=["lab-two"]):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            record = gr.Dropdown([], label="Study", info="One of yours with trained arms.", elem_id="compare-record")
            seed = gr.Dropdown([], label="Seed", visible=False, elem_id="compare-seed")
            prompts = gr.Textbox(
                FIRST_PROMPTS, label="Prompts", info="One a line.", lines=3, max_lines=12, elem_id="compare-prompts"
            )
            form = Form(
                AnswerSettings, names=FORM, prefix="compare", changes={name: {"render": False} for name in FORM}
            )
            with gr.Row(elem_id="compare-buttons"):
                ask = gr.Button("Answer", variant="primary", size="md", elem_id="compare-ask")
                stop = gr.Button("Stop", size="md", elem_id="compare-stop", visible=False)
            with gr.Accordion("System prompt, length, repetition", open=False):
                for found in form.components:
                    found.render()
        with gr.Column(scale=5, min_width=320):
            first = shown.notice(THEN) + shown.answers if shown else EMPTY
            answers = gr.HTML(first, elem_id="compare-answers", apply_default_css=False)
    parts = _Parts(record, seed, prompts, form, ask, stop, answers)
    _connect_choice(train, key, parts)
    _connect_answers(lab, key, parts)


def _connect_choice(train: TrainTab, key: gr.Textbox, parts: _Parts) -> None:
    filled = [parts.record, parts.seed, parts.answers]

    @told
    def choices(key: str, wanted: str) -> list[Any]:
        """The studies that can be asked, the wanted one chosen; `wanted` is an id, with more after a #."""
        found = _answerable(require_key(key))
        if not found:
            return [gr.update(choices=[], value=None), gr.update(visible=False), gr.skip()]
        chosen = next((entry for entry in found if entry.id == wanted.partition("#")[0]), found[0])
        named = [(f"{when(entry)}, {about_words(entry)}", entry.id) for entry in found]
        return [gr.update(choices=named, value=chosen.id), *_of_record(chosen)]

    @told
    def choose(key: str, record_id: str) -> list[Any]:
        return _of_record(find(record_id, require_key(key))) if record_id else [gr.skip()] * 2

    @told
    def choose_seed(key: str, record_id: str, seed: int) -> Any:
        return _kept(find(record_id, require_key(key)), seed) if record_id else gr.skip()

    gr.on([key.change, train.finished.change], choices, [key, train.finished], filled, **QUIET)
    train.asked.change(choices, [key, train.asked], filled, **QUIET)
    parts.record.input(choose, [key, parts.record], [parts.seed, parts.answers], **QUIET)
    parts.seed.input(choose_seed, [key, parts.record, parts.seed], parts.answers, **QUIET)


def _of_record(record: Record) -> list[Any]:
    """The choice of seeds, and the answers of the first one."""
    from neftune_core.training.comparison import saved_seeds

    seeds = saved_seeds(record)
    first = seeds[0] if seeds else record.study.seed
    return [gr.update(choices=seeds, value=first, visible=len(seeds) > 1), _kept(record, first)]


def _connect_answers(lab: Lab, key: gr.Textbox, parts: _Parts) -> None:
    @told
    def answer(key: str, record_id: str, seed: int | None, text: str, *values: Any) -> Iterator[str]:
        if not record_id:
            raise RecordError("There is no trained study to ask yet: press Train first.")
        settings = parts.form.settings(values, prompts=_prompts(lab, text))
        chosen = find(record_id, require_key(key))
        arms, shown_at = chosen.study.arms, 0.0
        lines: list[dict[str, Any]] = []
        for lines in lab.compare(chosen, settings, seed=seed):
            if time.monotonic() - shown_at >= REDRAW_SECONDS:
                shown_at = time.monotonic()
                yield answer_columns(lines, arms)
        yield answer_columns(lines, arms)

    def stoppable(visible: bool) -> Any:
        return lambda: gr.update(visible=visible)

    parts.ask.click(stoppable(True), None, parts.stop, **QUIET)
    said = [key, parts.record, parts.seed, parts.prompts, *parts.form.components]
    asking = parts.ask.click(answer, said, parts.answers, **QUIET, concurrency_limit=2)
    asking.then(stoppable(False), None, parts.stop, **QUIET)
    parts.stop.click(stoppable(False), None, parts.stop, cancels=asking, **QUIET)


def _answerable(owner: str) -> list[Record]:
    from neftune_core.training.comparison import saved_seeds

    found = []
    for entry in owned_records(owner):
        try:
            if saved_seeds(entry):
                found.append(entry)
        except RecordError:
            continue
    return found


def _kept(record: Record, seed: int) -> str:
    """The answers that the study itself gave when this seed ended."""
    return answer_columns(record.answers(seed), record.arms) or NO_ANSWERS


def _prompts(lab: Lab, text: str) -> tuple[str, ...]:
    found = tuple(line.strip() for line in (text or "").splitlines() if line.strip())
    if not found:
        raise DataError("There is no prompt: write one a line.")
    if len(found) > lab.limits.prompts or max(map(len, found)) > lab.limits.prompt_characters:
        raise DoesNotFit(
            f"At most {lab.limits.prompts} prompts of {lab.limits.prompt_characters:,} characters are answered at once."
        )
    return found
