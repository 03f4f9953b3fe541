"""Style of the page: Gradio's theme in the lab's colours, and the style sheets."""

from __future__ import annotations

import tomllib

import gradio as gr

from neftune_core.figures.colours import COLOURS, css_variables
from neftune_core.home import assets


def theme() -> gr.themes.Base:
    """Return Gradio's base theme in the lab's colours."""
    values = tomllib.loads((assets() / "theme.toml").read_text(encoding="utf-8"))
    base = gr.themes.Base(**values["base"])
    base.name = "neftune-lab"
    light = {name: COLOURS[colour].light for name, colour in values["colours"].items()}
    dark = {f"{name}_dark": COLOURS[colour].dark for name, colour in values["colours"].items()}
    return base.set(**values["fixed"], **light, **dark)


def css() -> str:
    """Return the colour table as CSS custom properties, followed by the style sheets."""
    variables = f":root, .light {{\n{css_variables('light')}\n}}\n:root.dark, .dark {{\n{css_variables('dark')}\n}}\n"
    sheets = sorted((assets() / "page").glob("*.css"), reverse=True)  # style.css first
    return variables + "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
