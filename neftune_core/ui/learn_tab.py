"""Learn: what NEFTune is, in a few paragraphs."""

from __future__ import annotations

import gradio as gr

from neftune_core.home import assets

FORMULAS: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]


def build() -> None:
    """The tab, inside an open `gr.Tab`."""
    text = (assets() / "lessons" / "neftune.md").read_text(encoding="utf-8")
    gr.Markdown(text, elem_id="learn-text", latex_delimiters=FORMULAS)
