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
from neftune_core.noise.settings import NoiseSettings
from neftune_core.ui.controls import Form
from neftune_core.ui.plot import computed, live_figure, part
from neftune_core.ui.previews import FIRST_SENTENCE, FirstPreview, Payload
from neftune_core.ui.strip import Strip
from neftune_core.ui.wiring import QUIET, told

# What the slider offers in each unit: its end and its step. All reach about as far on a short sentence.
SLIDERS = {"alpha": {"maximum": 100, "step": 0.5}, "std": {"maximum": 1.0, "step": 0.001}}

SETTINGS = ("strength", "unit", "kind")

CHIPS = '<ol class="lab-chips" aria-label="The sentence as tokens"></ol>'

WORDS = """<div class="lab-noise-words"><p class="lab-verdict" data-word="verdict" aria-live="polite"></p>
<dl><div><dt>alpha</dt><dd data-word="alpha"></dd></div>
<div><dt>std of a coordinate</dt><dd data-word="std"></dd></div>
<div><dt>of the embedding's size</dt><dd data-word="relative"></dd></div>
<div><dt>median turn</dt><dd data-word="angle"></dd></div>
<div><dt>signal to noise</dt><dd data-word="snr"></dd></div></dl>
<p class="lab-quiet">The same strength in other units, for this text of <span data-word="length"></span> tokens and the vectors of
width <span data-word="width"></span> of <span data-word="model"></span>.</p></div>"""


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
            gr.HTML(html_template=WORDS, js_on_load=part("noise-words"), apply_default_css=False)
            again = gr.Button("Another draw", elem_id="noise-again", size="sm")
        with gr.Column(scale=5, min_width=320):
            text = gr.Textbox(
                FIRST_SENTENCE,
                label="Your sentence",
                lines=1,
                max_lines=4,
                max_length=2000,
                elem_id="noise-text",
            )
            gr.HTML(html_template=CHIPS, js_on_load=part("token-chips"), apply_default_css=False)
            opening = figure_of(first.payload, noise) if first.payload else None
            figure = live_figure(opening, elem_id="noise-figure", height=340)
    tab = NoiseTab(noise=noise, text=text, figure=figure, draw=gr.State(0))
    _connect(tab, strip, first, again)
    return tab


def _changes() -> dict[str, dict[str, Any]]:
    return {
        "strength": {"info": None, **SLIDERS["alpha"]},
        "unit": {"info": None, "elem_classes": ["lab-segments"]},
        "kind": {"info": None, "elem_classes": ["lab-segments"]},
    }


def figure_of(payload: Payload, noise: Form[NoiseSettings]) -> Figure:
    """The live figure of a preview, moved by the components of `noise`."""
    colours = [token("base"), SINGLE_NOISE]
    return computed(token_norms_shell(payload), "tokenNorms", {**payload, "colours": colours}, noise.places())


def _connect(tab: NoiseTab, strip: Strip, first: FirstPreview, again: gr.Button) -> None:
    @told
    def redraw(text: str, draw: int, *model: Any) -> Figure:
        return figure_of(first.previewer(text, strip.model.settings(model), draw), tab.noise)

    def another(draw: int) -> int:
        return draw + 1

    inputs = [tab.text, tab.draw, *strip.model.components]
    gr.on(
        [tab.text.input, *(part.change for part in strip.model.components)],
        redraw,
        inputs,
        tab.figure,
        trigger_mode="always_last",
        **QUIET,
    )
    again.click(another, tab.draw, tab.draw, **QUIET).then(redraw, inputs, tab.figure, **QUIET)
    strength, unit, _ = tab.noise.components
    unit.input(None, [strength, unit], strength, js=f"(strength, unit) => Lab.changeUnit(strength, unit, {json.dumps(SLIDERS)})")
    if first.payload is None:
        told_first = told(lambda: figure_of(first.get(), tab.noise))
        gr.on(None, told_first, None, tab.figure, **QUIET)
