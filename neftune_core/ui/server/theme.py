"""Style of the page: Gradio's theme variables from the colour table, with system fonts."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.themes.utils import colors, sizes

from neftune_core.figures.colours import COLOURS, css_variables
from neftune_core.home import assets

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "Noto Sans SC", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


def theme() -> gr.themes.Base:
    """Return Gradio's base theme in the lab's colours."""
    base = gr.themes.Base(
        primary_hue=colors.blue,
        secondary_hue=colors.blue,
        neutral_hue=colors.slate,
        radius_size=sizes.radius_md,
        text_size=sizes.text_md,
        font=FONTS,
        font_mono=MONO,
    )
    base.name = "neftune-lab"
    chosen: dict[str, Any] = dict(_PLAIN)
    for variable, colour in _VARIABLES.items():
        chosen |= {variable: COLOURS[colour].light, f"{variable}_dark": COLOURS[colour].dark}
    return base.set(**chosen)


_VARIABLES = {
    "body_background_fill": "background",
    "body_text_color": "text",
    "body_text_color_subdued": "quiet",
    "background_fill_primary": "background",
    "background_fill_secondary": "surface",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "color_accent_soft": "surface",
    "link_text_color": "accent",
    "block_background_fill": "background",
    "block_border_color": "line",
    "block_info_text_color": "quiet",
    "block_label_background_fill": "background",
    "block_label_text_color": "text",
    "block_title_text_color": "text",
    "input_background_fill": "background",
    "input_border_color": "line",
    "input_border_color_focus": "accent",
    "input_placeholder_color": "quiet",
    "slider_color": "accent",
    "loader_color": "accent",
    "checkbox_background_color": "background",
    "checkbox_background_color_selected": "accent",
    "checkbox_border_color": "quiet",
    "checkbox_border_color_selected": "accent",
    "checkbox_label_background_fill": "background",
    "checkbox_label_background_fill_hover": "surface",
    "checkbox_label_background_fill_selected": "surface",
    "checkbox_label_border_color": "line",
    "checkbox_label_border_color_selected": "accent",
    "checkbox_label_text_color": "text",
    "checkbox_label_text_color_selected": "text",
    "button_primary_background_fill": "accent",
    "button_primary_text_color": "background",
    "button_primary_background_fill_hover": "accent",
    "button_secondary_background_fill": "background",
    "button_secondary_background_fill_hover": "surface",
    "button_secondary_border_color": "line",
    "button_secondary_text_color": "text",
    "table_even_background_fill": "background",
    "table_odd_background_fill": "background",
    "table_border_color": "line",
}

_PLAIN = {
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_padding": "0px",
    "block_label_border_width": "0px",
    "block_title_text_weight": "600",
    "block_info_text_size": "*text_sm",
    "input_border_width": "1px",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "button_border_width": "1px",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "checkbox_label_border_width": "1px",
    "checkbox_label_shadow": "none",
    "checkbox_shadow": "none",
    "layout_gap": "20px",
    "form_gap_width": "0px",
    "body_text_size": "*text_md",
}


def css() -> str:
    """Return the colour table as CSS custom properties, followed by the style sheets."""
    variables = f":root, .light {{\n{css_variables('light')}\n}}\n:root.dark, .dark {{\n{css_variables('dark')}\n}}\n"
    sheets = sorted((assets() / "page").glob("*.css"), reverse=True)  # style.css first
    return variables + "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
