"""Noise: the person's own sentence, and what the chosen noise does to its tokens.

Everything that the strength, the unit and the kind move is redrawn in the browser (assets/page/noise.js); the server is
asked for another sentence, another model or another draw only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.figures import Figure
from neftune_core.figures.colours import SINGLE_NOISE, token
from neftune_core.figures.norms import token_norms_shell
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import controls, from_query
from neftune_core.ui.controls import Form
from neftune_core.ui.plot import computed, live_figure, part
from neftune_core.ui.previews import FIRST_SENTENCE, FirstPreview, Payload
from neftune_core.ui.strip import Strip
from neftune_core.ui.wiring import QUIET, events, told

# What the slider offers in each unit: its end and its step. All reach about as far on a short sentence.
SLIDERS = {"alpha": {"maximum": 100, "step": 0.5}, "std": {"maximum": 1.0, "step": 0.001}}

SETTINGS = ("strength", "unit", "kind")
LONGEST_TEXT = 2000

Places = dict[str, dict[str, Any]]

CHIPS = '<ol class="lab-chips" aria-label="The sentence as tokens"></ol>'

WORDS = """<div class="lab-noise-words"><p class="lab-verdict" data-word="verdict" aria-live="polite"></p>
<h3>What it does to the median token</h3>
<dl><div><dt>turned by</dt><dd data-word="angle"></dd></div>
<div><dt>signal to noise</dt><dd data-word="snr"></dd></div></dl>
<h3>The same strength in other units</h3>
<dl><div><dt>alpha</dt><dd data-word="alpha"></dd></div>
<div><dt>std of a coordinate</dt><dd data-word="std"></dd></div>
<div><dt>share of a clean coordinate</dt><dd data-word="relative"></dd></div></dl>
<p class="lab-quiet">for <span data-word="length"></span> tokens of width <span data-word="width"></span>
(<span data-word="model"></span>)</p></div>"""


def _help() -> str:
    """The help of the settings, one click away."""
    rows = "".join(
        f"<p><b>{found.label}.</b> {found.help}</p>" for found in controls(NoiseSettings) if found.name in SETTINGS
    )
    return f'<details class="lab-more"><summary>What do these mean?</summary>{rows}</details>'


@dataclass(frozen=True)
class NoiseTab:
    """What other tabs use: the form of the noise, and the sentence."""

    noise: Form[NoiseSettings]
    text: gr.Textbox
    figure: gr.HTML
    draw: gr.State


def build(strip: Strip, first: FirstPreview) -> NoiseTab:
    """The tab, inside an open `gr.Tab`."""
    with gr.Row(elem_id="noise-tab"):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            noise = Form(NoiseSettings, names=SETTINGS, prefix="noise", changes=_changes())
            _part(WORDS, "noise-words")
            again = gr.Button("Draw the noise again", elem_id="noise-again", size="md")
            gr.HTML(_help(), apply_default_css=False, elem_id="noise-help")
        with gr.Column(scale=5, min_width=320):
            text = gr.Textbox(
                FIRST_SENTENCE,
                label="Your sentence",
                lines=1,
                max_lines=4,
                max_length=LONGEST_TEXT,
                elem_id="noise-text",
            )
            _part(CHIPS, "noise-chips")
            opening = figure_of(first.payload, noise.places()) if first.payload else None
            figure = live_figure(opening, elem_id="noise-figure", height=380)
    tab = NoiseTab(noise=noise, text=text, figure=figure, draw=gr.State(0))
    _connect(tab, strip, first, again)
    return tab


def _part(template: str, name: str) -> gr.HTML:
    return gr.HTML(html_template=template, js_on_load=part(name), apply_default_css=False, elem_id=name)


def _changes() -> dict[str, dict[str, Any]]:
    return {
        "strength": {"info": None, **SLIDERS["alpha"]},
        "unit": {"info": None},
        "kind": {"info": None},
    }


def figure_of(payload: Payload, places: Places) -> Figure:
    """The live figure of a preview, moved by the controls at `places`."""
    colours = [token("base"), SINGLE_NOISE]
    return computed(token_norms_shell(payload), "tokenNorms", {**payload, "colours": colours}, places)


def link_parameters(tab: NoiseTab) -> Places:
    """What a link says of this tab: `noise.strength`, `noise.unit`, `noise.kind` and `text`."""
    parameters = {f"noise.{name}": place for name, place in tab.noise.places().items()}
    return {**parameters, "text": {"id": "noise-text", "value": FIRST_SENTENCE}}


def _connect(tab: NoiseTab, strip: Strip, first: FirstPreview, again: gr.Button) -> None:
    count = len(tab.noise.components)

    @told
    def redraw(text: str, draw: int, *values: Any) -> Figure:
        noise, model = tab.noise.settings(values[:count]), values[count]
        return figure_of(first.previewer(text, model, draw), tab.noise.places(noise))

    inputs = [tab.text, tab.draw, *tab.noise.components, strip.model]
    # `change`: the `input` of a text box follows keys only, and misses what is pasted, deleted or composed.
    changed = [tab.text.change, events(strip.model).change]
    gr.on(changed, redraw, inputs, tab.figure, trigger_mode="always_last", **QUIET)
    drawn = again.click(lambda draw: draw + 1, tab.draw, tab.draw, **QUIET)
    drawn.then(redraw, inputs, tab.figure, **QUIET)

    strength, unit, _ = tab.noise.components
    convert = f"(strength, unit) => Lab.changeUnit(strength, unit, {json.dumps(SLIDERS)})"
    events(unit).input(None, [strength, unit], strength, js=convert)


def on_load(page: gr.Blocks, tab: NoiseTab, first: FirstPreview) -> None:
    """Open with what the link asks for, else with the first preview where the page was served without it."""

    served_empty = first.payload is None

    @told
    def opened(request: gr.Request) -> list[Any]:
        query = dict(request.query_params)
        asked = {name.removeprefix("noise."): value for name, value in query.items() if name.startswith("noise.")}
        text = query.get("text", FIRST_SENTENCE)[:LONGEST_TEXT]
        if not asked and text == FIRST_SENTENCE:
            figure = figure_of(first.get(), tab.noise.places()) if served_empty else gr.skip()
            return [*[gr.skip()] * 4, figure]
        noise = from_query(NoiseSettings, asked)
        payload = first.get() if text == FIRST_SENTENCE else first.previewer(text, ModelSettings(), 0)
        values = tab.noise.values(noise)
        slider = {**gr.update(value=values[0]), **SLIDERS[noise.unit]}
        return [slider, *values[1:], text, figure_of(payload, tab.noise.places(noise))]

    page.load(opened, None, [*tab.noise.components, tab.text, tab.figure], **QUIET)
