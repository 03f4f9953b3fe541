"""The model's panel under the strip: what is offered, what it needs here, and bringing it with progress and cancel."""

from __future__ import annotations

import html
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from neftune_core.models.catalogue import CATALOGUE, Card, Work
from neftune_core.models.settings import ModelSettings
from neftune_core.ui.controls import Form
from neftune_core.ui.strip import Strip
from neftune_core.ui.wiring import QUIET, events, told

LOOK_SECONDS = 0.2
# The study that a card's estimate speaks of: the page's own defaults on rows of a usual length.
USUAL_WORK = Work(arms=3, batch_size=4, length=128, steps=100, rank=8)
MORE = ("revision", "precision", "device")

_stops: dict[str, threading.Event] = {}


def build(strip: Strip) -> None:
    """The panel; `strip.model` changes only once the model has been loaded."""
    with gr.Row(elem_id="lab-model"):
        with gr.Column(scale=2, min_width=280):
            form = Form(
                ModelSettings,
                prefix="model",
                changes={
                    "source": {
                        "kind": gr.Dropdown,
                        "choices": [(_offer(card), source) for source, card in CATALOGUE.items()],
                        "allow_custom_value": True,
                        "info": "One of the list, or type a hub id, a local folder or a GGUF file.",
                    },
                    **{name: {"render": False} for name in MORE},
                },
            )
            with gr.Accordion("Revision, precision, device", open=False):
                for name in MORE:
                    form.by_name[name].render()
        with gr.Column(scale=3, min_width=300):
            card = gr.HTML(card_html(ModelSettings().source), apply_default_css=False, elem_id="model-card")
            with gr.Row():
                use = gr.Button("Use this model", variant="primary", elem_id="model-use")
                cancel = gr.Button("Cancel", elem_id="model-cancel", visible=False)
            progress = gr.HTML(apply_default_css=False, elem_id="model-progress")
    _connect(strip, form, card, use, cancel, progress)


def _offer(card: Card) -> str:
    return f"{card.source} ({card.parameters / 1e6:,.0f} M)"


def _connect(
    strip: Strip, form: Form[ModelSettings], card: gr.HTML, use: gr.Button, cancel: gr.Button, progress: gr.HTML
) -> None:
    @told
    def show(source: str) -> str:
        return card_html(source or "")

    @told
    def bring(request: gr.Request, words: dict[str, str], *values: Any) -> Iterator[list[Any]]:
        settings = form.settings(values)
        loading = _Loading(settings, _stops.setdefault(str(request.session_hash), threading.Event()))
        while loading.thread.is_alive():
            yield [gr.skip(), gr.skip(), loading.words(), gr.update(visible=True)]
            time.sleep(LOOK_SECONDS)
        _stops.pop(str(request.session_hash), None)
        if loading.error is not None:
            yield [gr.skip(), gr.skip(), "", gr.update(visible=False)]
            raise loading.error
        known = {**(words or {}), "model": loading.loaded.name}
        done = f'<p class="lab-quiet">In use: {html.escape(loading.loaded.name)}.</p>'
        yield [settings, known, done, gr.update(visible=False)]

    def give_up(request: gr.Request) -> None:
        stop = _stops.get(str(request.session_hash))
        if stop is not None:
            stop.set()

    source = events(form.by_name["source"])
    source.change(show, source, card, trigger_mode="always_last", **QUIET)
    use.click(
        bring,
        [strip.words, *form.components],
        [strip.model, strip.words, progress, cancel],
        **QUIET,
    )
    cancel.click(give_up, None, None, **QUIET)


class _Loading:
    """One model being loaded in a thread of its own, so that its progress can be shown and it can be given up."""

    def __init__(self, settings: ModelSettings, stop: threading.Event) -> None:
        self.settings, self.stop = settings, stop
        self.progress: Any = None
        self.loaded: Any = None
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._load, name="load-model", daemon=True)
        self.thread.start()

    def _load(self) -> None:
        from neftune_core.models.loading import load

        try:
            self.loaded = load(self.settings, progress=self._follow, cancelled=self.stop.is_set)
        except Exception as error:
            self.error = error

    def _follow(self, progress: Any) -> None:
        self.progress = progress

    def words(self) -> str:
        """What is happening, with a bar where the size is known."""
        if self.progress is None:
            return '<p class="lab-quiet">Looking for the model</p>'
        what, done, total = html.escape(self.progress.what), self.progress.done_bytes, self.progress.total_bytes
        if not total:
            return f'<p class="lab-quiet">{what}</p>'
        return (
            f'<p class="lab-quiet"><progress max="1" value="{done / total:.3f}" aria-label="Download"></progress> '
            f"{what}, {done / 1e6:,.0f} of {total / 1e6:,.0f} MB</p>"
        )


def card_html(source: str) -> str:
    """What is known of a model before it is fetched, and what a usual study would take here."""
    card = CATALOGUE.get(source)
    if card is None:
        return (
            '<div class="lab-card"><p>Not on the list: its size and licence are seen when it is loaded. Only '
            "safetensors and GGUF files are read, and code of the repository is never run.</p></div>"
        )
    facts = [
        (f"{card.parameters / 1e6:,.1f} M", "parameters"),
        (f"{card.width:,}", "width of an embedding"),
        (f"{card.layers}", "layers"),
        (f"{card.download_megabytes:,.0f} MB" if card.download_megabytes else "none", "download"),
        (html.escape(card.licence), "licence"),
    ]
    cells = "".join(f"<div><dd>{value}</dd><dt>{words}</dt></div>" for value, words in facts)
    note = f"<p>{html.escape(card.note)}</p>" if card.note else ""
    return (
        f'<div class="lab-card"><p><b>{html.escape(card.source)}</b> {html.escape(card.words)}</p><dl>{cells}</dl>'
        f'<p class="lab-quiet">{_estimate(card)}</p>{note}</div>'
    )


def _estimate(card: Card) -> str:
    """The estimate of a usual study; a promise of one while torch is not there yet."""
    if "torch" not in sys.modules:
        return "The memory and time it needs here are measured in a moment: choose it again to see them."
    from neftune_core.models.catalogue import estimate

    work = USUAL_WORK
    found = estimate(card, work)
    return (
        f"A study of {work.arms} arms, {work.steps} steps of {work.batch_size} rows of {work.length} tokens: "
        f"{html.escape(found.sentence[:1].lower() + found.sentence[1:])}"
    )
