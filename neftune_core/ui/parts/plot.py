"""The live figure: one persistent Plotly node in a `gr.HTML`, redrawn in the browser with `Plotly.react`.

`gr.Plot` creates a new node for every value, which loses zoom and legend choices and leaks WebGL contexts. Here the
template does not contain the value, so that Gradio does not modify the node; assets/page/plot.js watches the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from neftune_core.figures import Figure
from neftune_core.language import say

CORNERS = """<svg viewBox="0 0 16 16" width="13" height="13" aria-hidden="true" fill="none" stroke="currentColor"
stroke-width="1.8"><path d="M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4"/></svg>"""


def part(name: str) -> str:
    """Return the `js_on_load` code that passes a `gr.HTML` to a named part of the scripts in assets/page."""
    return (
        "(window.labWaiting = window.labWaiting || [])"
        f".push({{part: {name!r}, element, props, watch, trigger, server}});"
    )


def scripted(name: str, template: str = "", value: Any = None, elem_id: str | None = None) -> gr.HTML:
    """Build a component that a part of the scripts in assets/page fills.

    Args:
        name: Name of the part.
        template: HTML that the part fills; "" if it shows nothing.
        value: Initial value, which the part watches.
        elem_id: Element id.

    Returns:
        The component.
    """
    return gr.HTML(value, html_template=template, js_on_load=part(name), apply_default_css=False, elem_id=elem_id)


def _template() -> str:
    full = say("Full screen")
    return f"""<figure class="lab-figure lab-empty">
<div class="lab-figure-choices" hidden>
<label><input type="checkbox" data-choice="log"> {say("Logarithmic scale")}</label>
<label>{say("Smoothing")} <input type="range" min="0" max="0.95" step="0.05" value="0" data-choice="smoothing"></label>
</div>
<div class="lab-figure-plot" role="group" aria-label=""></div>
<figcaption><span class="lab-figure-summary" aria-live="off"></span><span class="lab-figure-tools">
<button type="button" data-do="full" aria-pressed="false" title="{full}" aria-label="{full}">{CORNERS}</button>
<button type="button" data-format="png" aria-label="{say("Save the figure as PNG")}">PNG</button>
<button type="button" data-format="svg" aria-label="{say("Save the figure as SVG")}">SVG</button>
<button type="button" data-format="csv" aria-label="{say("Save the numbers as CSV")}">CSV</button></span></figcaption>
</figure>"""


def live_figure(
    value: Figure | Callable[[], Figure | None] | None = None, *, elem_id: str | None = None, height: int = 0
) -> gr.HTML:
    """Build a component that shows a figure from `neftune_core.figures` or `browser_figure`.

    A new value is drawn in place and keeps zoom and legend choices. Events that set it need `show_progress="hidden"`.

    Args:
        value: The initial figure, or a function that returns it.
        elem_id: Element id.
        height: Minimum height in pixels, reserved before the first value; 0 for none.

    Returns:
        The component.
    """
    return gr.HTML(
        value,
        html_template=_template(),
        js_on_load=part("figure"),
        css_template=f".lab-figure-plot {{ min-height: {height}px; }}" if height else "",
        apply_default_css=False,
        container=False,
        padding=False,
        elem_id=elem_id,
        elem_classes=["lab-figure-block"],
    )


def browser_figure(
    shell: Figure, source: str, payload: Mapping[str, Any], controls: Mapping[str, Mapping[str, Any]]
) -> Figure:
    """Build a figure with traces from `Lab.sources[source](payload, values of controls)` in the browser.

    The traces are recomputed whenever a control changes, without a call to the server.

    Args:
        shell: The figure without traces.
        source: Name of the function in the browser.
        payload: First argument of the function.
        controls: `{"id": elem_id, "value": initial value}` of each control, by its name in the function, as returned by
            `Form.places`.

    Returns:
        The figure.
    """
    return {**shell, "source": source, "payload": dict(payload), "controls": dict(controls)}
