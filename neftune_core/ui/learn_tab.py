"""Learn: what NEFTune is, in a few paragraphs, and a recorded study to see it in."""

from __future__ import annotations

import gradio as gr

from neftune_core.home import assets
from neftune_core.ui.plot import live_figure
from neftune_core.ui.recorded import Recorded
from neftune_core.ui.wiring import QUIET

FORMULAS: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]


def build(shown: Recorded | None) -> None:
    """The tab, inside an open `gr.Tab`."""
    gr.Markdown(_lesson("neftune"), elem_id="learn-text", latex_delimiters=FORMULAS)
    if shown is None:
        return
    gr.HTML(shown.notice(), apply_default_css=False, elem_id="learn-recorded")
    live_figure(shown.curves, elem_id="learn-curves")
    with gr.Row(elem_id="learn-next"):
        noise = gr.Button("Now change the noise", variant="primary", size="md", elem_id="learn-to-noise")
        train = gr.Button("Train a study of your own", size="md", elem_id="learn-to-train")
    gr.Markdown(_lesson("recorded"), elem_id="learn-reading")
    gr.HTML(shown.answers, apply_default_css=False, elem_id="learn-answers")
    noise.click(None, None, None, js="() => Lab.openTab('Noise')", **QUIET)
    train.click(None, None, None, js="() => Lab.openTab('Train')", **QUIET)


def _lesson(name: str) -> str:
    return (assets() / "lessons" / f"{name}.md").read_text(encoding="utf-8")
