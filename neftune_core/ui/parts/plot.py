"""The live figure: one persistent Plotly node in a `gr.HTML`, redrawn in the browser with `Plotly.react`.

`gr.Plot` creates a new node for every value, which loses zoom and legend choices and leaks WebGL contexts. Here the
template does not contain the value, so that Gradio does not modify the node; assets/page/plot.js watches the value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from neftune_core.figures import Figure
from neftune_core.ui.parts.markup import page_html


def part(name: str) -> str:
    """Return the `js_on_load` code that passes a `gr.HTML` to a named part of the scripts in assets/page."""
    return (
        "(window.labWaiting = window.labWaiting || [])"
        f".push({{part: {name!r}, element, props, watch, trigger, server}});"
    )


def scripted(name: str, template: str = "", value: Any = None, elem_id: str | None = None, **options: Any) -> gr.HTML:
    """Build a component that a part of the scripts in assets/page fills.

    Args:
        name: Name of the part.
        template: HTML that the part fills; "" if it shows nothing.
        value: Initial value, which the part watches.
        elem_id: Element id.
        **options: Further arguments of `gr.HTML`.

    Returns:
        The component.
    """
    options |= {"html_template": template, "js_on_load": part(name), "apply_default_css": False}
    return gr.HTML(value, elem_id=elem_id, **options)


def live_figure(
    value: Figure | Callable[[], Figure | None] | None = None, *, elem_id: str | None = None, height: int = 0
) -> gr.HTML:
    """Build a component that shows a figure from `neftune_core.figures`.

    A new value is drawn in place; zoom and legend choices are kept. Events that set it need `show_progress="hidden"`.

    The browser computes the traces of a figure with a `source`: they are the result of
    `Lab.sources[source](payload, values of the controls)`, computed again whenever a control changes. `controls` maps
    the name of each control to its `id` and its initial `value`, as `Form.control_values` does.

    Args:
        value: The initial figure, or a function that returns it.
        elem_id: Element id.
        height: Minimum height in pixels, reserved before the first value; 0 for none.

    Returns:
        The component.
    """
    css = f".lab-figure-plot {{ min-height: {height}px; }}" if height else ""
    return scripted("figure", page_html("figure"), value, elem_id, css_template=css, elem_classes=["lab-figure-block"])
