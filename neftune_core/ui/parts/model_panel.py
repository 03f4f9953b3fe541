"""The model panel below the strip: choose a model, see its estimated requirements, and load it."""

from __future__ import annotations

import html
import json
import sys
import threading
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from neftune_core.home import assets
from neftune_core.language import later, say, translate_finished
from neftune_core.models.cards import CATALOGUE
from neftune_core.models.estimates import SizedModel, Workload, estimate
from neftune_core.models.settings import ModelSettings
from neftune_core.ui.parts.controls import Form
from neftune_core.ui.parts.markup import bar, duration, facts, quiet
from neftune_core.ui.parts.plot import scripted
from neftune_core.ui.parts.strip import Strip
from neftune_core.ui.parts.wiring import HIDDEN, LATEST, QUIET, events, reports_errors, show_error, visibility

if TYPE_CHECKING:
    from neftune_core.models.loading import LoadedModel

LOOK_SECONDS = 0.2
# The study that a card's estimate assumes: the page's defaults with rows of typical length.
USUAL_WORK = Workload(arms=3, batch_size=4, length=128, steps=100, rank=8, read_tokens=200_000, reads=300)
MORE = ("revision", "precision", "device")
REAL = "smollm2-135m-instruct"
"""The smallest model in the catalogue that can answer general questions."""
USUAL_MEGABITS = 50
"""Network speed assumed for download times, in megabits per second."""

_GATED = later(
    "The hub provides this model only to accounts that have accepted its licence: "
    "set HF_TOKEN to a token of such an account."
)

PASSED = {True: later("yes"), False: later("no"), None: "–"}
# Checks with their own columns; another column shows the number of passed checks.
SHOWN_CHECKS = (later("noise reaches the loss"), later("answers equal generate"))
HOOK_CHECK = later("the common trainer hook has an effect")

stop_signals: dict[str, threading.Event] = {}
"""Stop signals of the models being loaded, by session."""


def build(strip: Strip, allowed: Collection[str] | None = None) -> Form[ModelSettings]:
    """Build the panel.

    Args:
        strip: The strip; `strip.model` changes only once a model has been loaded.
        allowed: Models that visitors may use; None for any.

    Returns:
        The form of the model settings.
    """
    with gr.Row(elem_id="lab-model", elem_classes=["lab-two"]):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            form = Form(ModelSettings, prefix="model", changes=_component_options(allowed))
            with gr.Accordion(say("Revision, precision, device"), open=False):
                for name in MORE:
                    form.by_name[name].render()
        with gr.Column(scale=5, min_width=300):
            card = gr.HTML(_card_html(ModelSettings().source), apply_default_css=False, elem_id="model-card")
            with gr.Row(elem_id="model-buttons"):
                use = gr.Button(say("Use this model"), variant="primary", size="md", elem_id="model-use")
                cancel = gr.Button(say("Cancel"), size="md", elem_id="model-cancel", visible=HIDDEN)
                progress = gr.HTML(apply_default_css=False, elem_id="model-progress")
            gr.HTML(families_html(), apply_default_css=False, elem_id="model-families")

    @reports_errors
    def show(source: str) -> str:
        return _card_html(source or "")

    @reports_errors
    def load_model(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        """Load the model that the form describes.

        Args:
            request: Gradio's request.
            *values: Values of the form.

        Yields:
            Updates of the outputs.
        """
        yield from _load_with_progress(str(request.session_hash), form.settings(values))

    def cancel_loading(request: gr.Request) -> None:
        stop = stop_signals.get(str(request.session_hash))
        if stop is not None:
            stop.set()

    source = events(form.by_name["source"])
    # The strip's tools fire `click` when the panel opens. By then torch, which an estimate needs, is usually loaded.
    gr.on([source.change, strip.tools.click], show, source, card, **LATEST)
    real = scripted("real-model")
    chosen = events(real).click(lambda: REAL, None, source, **QUIET)
    chosen.success(None, None, None, js="() => document.getElementById('model-use').click()")
    use.click(
        load_model, form.components, [strip.model, strip.words, card, progress, cancel], **QUIET, concurrency_limit=4
    )
    cancel.click(cancel_loading, None, None, **QUIET)
    return form


def bundled_hint(allowed: Collection[str] | None = None) -> None:
    """Build the note about the bundled model, shown next to inputs for the visitor's text.

    Args:
        allowed: Models that visitors may use; None for any.
    """
    card = CATALOGUE[REAL]
    words = say("The bundled model knows only one invented village.")
    button = ""
    if allowed is None or REAL in allowed:
        label = say(
            "Use {model} ({size:,.0f} MB, about {duration} at {speed} Mbit/s)",
            model=REAL,
            size=card.download_megabytes,
            duration=duration(8 * card.download_megabytes / USUAL_MEGABITS),
            speed=USUAL_MEGABITS,
        )
        words += " " + say("For your own text, choose a general-purpose model:")
        button = f' <button type="button" data-do="real-model">{html.escape(label)}</button>'
    gr.HTML(f'<p class="lab-quiet lab-hint">{html.escape(words)}{button}</p>', apply_default_css=False)


def _component_options(allowed: Collection[str] | None) -> dict[str, dict[str, Any]]:
    offered = list(CATALOGUE) if allowed is None else list(allowed)
    source = {
        "kind": gr.Dropdown,
        "choices": [(_choice_label(source), source) for source in offered],
        "allow_custom_value": allowed is None,
        "info": say("Choose from the list, or enter a hub id or the path of a local folder or GGUF file.")
        if allowed is None
        else say("The models available on this public server."),
    }
    return {"source": source, **{name: {"render": False} for name in MORE}}


def _choice_label(source: str) -> str:
    card = CATALOGUE.get(source)
    return f"{source} ({card.parameters / 1e6:,.0f} M)" if card else source


def _load_with_progress(session: str, settings: ModelSettings) -> Iterator[list[Any]]:
    """Load a model; yield updates of settings, words of the strip, card, progress and Cancel button."""
    stop = stop_signals.setdefault(session, threading.Event())
    loading = _Loading(settings, stop)
    try:
        while loading.wait_briefly():
            yield [gr.skip(), gr.skip(), gr.skip(), loading.words(), visibility(True)]
    finally:  # if the page disconnects, Gradio closes this generator while the thread is still running
        if loading.thread.is_alive():
            stop.set()
        stop_signals.pop(session, None)
    if loading.error is not None:
        show_error(loading.error)
        yield [gr.skip(), gr.skip(), gr.skip(), "", visibility(False)]
        return
    name, card = say(loading.loaded.name), _card_html(settings.source, loading.loaded)
    yield [settings, {"model": name}, card, quiet(say("In use: {data}", data=name)), visibility(False)]


class _Loading:
    """Loads a model in a thread, so that the page can show progress and cancel the load.

    Args:
        settings: The model settings.
        stop: Event that cancels the load.
    """

    def __init__(self, settings: ModelSettings, stop: threading.Event) -> None:
        self.settings, self.stop = settings, stop
        self.progress: Any = None
        self.loaded: Any = None
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._load, name="load-model", daemon=True)
        self.thread.start()

    def wait_briefly(self) -> bool:
        """Wait briefly for the model, and return whether it is still being loaded."""
        self.thread.join(LOOK_SECONDS)
        return self.thread.is_alive()

    def _load(self) -> None:
        from neftune_core.models.loading import load

        try:
            self.loaded = load(self.settings, progress=self._set_progress, cancelled=self.stop.is_set)
        except Exception as error:
            self.error = error

    def _set_progress(self, progress: Any) -> None:
        self.progress = progress

    def words(self) -> str:
        """Return the current activity as HTML, with a progress bar if the size of the work is known."""
        if self.progress is None:
            return quiet(say("Looking for the model"))
        what, done, total = self.progress.what, self.progress.done_bytes, self.progress.total_bytes
        if not total:
            return quiet(say(what))
        words = say("{what}, {done:,.0f} of {total:,.0f} MB", what=say(what), done=done / 1e6, total=total / 1e6)
        return bar(done / total, say("Download")) + quiet(words)


def _card_html(source: str, loaded: LoadedModel | None = None) -> str:
    """Describe a model, with estimated memory and time of a typical study, as HTML."""
    card = CATALOGUE.get(source)
    known = loaded or card
    if known is None:
        words = say(
            "The size and licence of this model are shown once it is loaded. Only safetensors and GGUF files are read; "
            "code from the repository is never run."
        )
        return f'<div class="lab-card"><h3>{say("Not on the list")}</h3>{quiet(words)}</div>'
    notes = [card.words, card.note, _GATED if card.gated else ""] if card else []
    if loaded:
        notes += [text for text in (loaded.note, *loaded.reach) if text not in notes]
    words = "".join(f"<p>{html.escape(translate_finished(text))}</p>" for text in notes if text)
    download = card.download_megabytes if card else 0
    numbers = [
        (f"{known.parameters / 1e6:,.1f} M", say("parameters")),
        (known.width and f"{known.width:,}", say("embedding width")),
        (known.layers and f"{known.layers:,}", say("layers")),
        (known.licence, say("licence")),
        (download and f"{download:,.0f} MB", say("download")),
    ]
    shown = [(str(value), label) for value, label in numbers if value]
    title = html.escape(say(loaded.name) if loaded else source)
    cost = say("Memory and time on this machine are estimated once the model is loaded.")
    if loaded or (card and card.is_sized):
        cost = _estimate(known, source)
    return f'<div class="lab-card"><h3>{title}</h3>{words}{facts(shown)}{quiet(cost)}</div>'


def _estimate(model: SizedModel, source: str) -> str:
    """Return the estimate for a typical study, or a placeholder while torch is not loaded."""
    if "torch" not in sys.modules:
        return say("Memory and time on this machine are estimated once the lab has warmed up.")
    work, found = USUAL_WORK, estimate(model, USUAL_WORK, ModelSettings(source=source))
    return say(
        "A study of {arms} arms and {steps} steps, with {rows} rows of {tokens} tokens per step: {estimate}",
        arms=work.arms,
        steps=work.steps,
        rows=work.batch_size,
        tokens=work.length,
        estimate=found.sentence[:1].lower() + found.sentence[1:],
    )


def families_html() -> str:
    """Return a collapsed HTML table of supported model families, with results of `python -m tests.stress families`."""
    found = json.loads((assets() / "docs" / "families.json").read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    rows = "".join(_family_row(family, found["ours"]) for family in found["families"].values())
    heads = (later("family"), *SHOWN_CHECKS, later("checks passed"), HOOK_CHECK)
    about = say(
        "The lab supports causal language models, encoder-decoders, and encoders used as decoders. Each family was "
        "tested with a small, randomly initialised model of its architecture. A model on which noise would have no "
        "effect is refused when it is loaded."
    )
    source = say(
        "Measured with {versions}; {command} runs every check.",
        versions=html.escape(versions),
        command="<code>python -m tests.stress families</code>",
    )
    row = "".join(f"<th>{say(head)}</th>" for head in heads)
    return (
        f'<details class="lab-more lab-families"><summary>{say("Supported models")}</summary><p>{about}</p>'
        f"<table><thead><tr>{row}</tr></thead><tbody>{rows}</tbody></table>"
        f"<p>{source}</p></details>"
    )


def _family_row(family: dict[str, Any], ours: list[str]) -> str:
    checks = family["checks"]
    applying = [checks[name] for name in ours if checks[name] is not None]
    note = "" if family["pretrained_for_this"] else say(" (not pre-trained to generate text)")
    cells = [
        html.escape(say(family["words"])) + note,
        *(say(PASSED[checks[name]]) for name in SHOWN_CHECKS),
        say("{some} of {count}", some=sum(applying), count=len(applying)),
        say(PASSED[checks[HOOK_CHECK]]),
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
