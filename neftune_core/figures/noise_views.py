"""Names and axes of the views on the Noise tab; the browser computes their curves.

All views show the same preview (`neftune_core.noise.preview`). The `views.NAME` functions in assets/page draw
them, under the same names; noise.js lists the modules that define them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neftune_core.figures.base import axis, merge_mappings
from neftune_core.language import later
from neftune_core.noise.schedules import AdaptiveSchedule

Payload = Mapping[str, Any]
PlotlyLayout = dict[str, Any]

HEIGHT, INSIDE_HEIGHT = 380, 440
MARGIN = {"l": 60, "r": 8, "t": 36, "b": 92}  # fixed: the page draws placeholder bars before Plotly is loaded
NARROW: dict[str, Any] = {"xaxis": {"tickangle": -60, "tickfont": {"size": 11}}, "margin": {"l": 52, "r": 4}}
"""Changes to `token_layout` on a narrow screen."""

ILLUSTRATED_STEPS = 100
"""Number of steps of the fictitious run that illustrates the adaptive schedule."""


GROUPS = {
    "sentence": later("One sentence"),
    "table": later("Embedding table"),
    "inside": later("Inside the model"),
    "training": later("While training"),
}
"""Questions by which the page groups the views: where the effect of the noise is shown."""


@dataclass(frozen=True)
class View:
    """One view on the Noise tab.

    Attributes:
        words: Label of the view.
        group: The question that the view answers, a key of `GROUPS`.
        layout: Returns the Plotly layout for a preview.
    """

    words: str
    group: str
    layout: Callable[[Payload], PlotlyLayout]


def token_layout(payload: Payload, title: str, unit: str = "", **vertical: Any) -> PlotlyLayout:
    """Build a layout with the tokens along the horizontal axis.

    Args:
        payload: A preview.
        title: Title of the vertical axis.
        unit: Unit of the vertical axis; "" for none.
        **vertical: Further Plotly properties of the vertical axis.

    Returns:
        A Plotly layout.
    """
    length = payload["length"]
    every = max(1, math.ceil(length / 48))
    return {
        "barmode": "overlay",
        "bargap": 0.2,
        "height": HEIGHT,
        "margin": MARGIN,
        "xaxis": axis(
            later("token"),
            tickvals=list(range(0, length, every)),
            ticktext=[_axis_label(word) for word in payload["tokens"][::every]],
            tickangle=-45,
            automargin=False,
            showgrid=False,
            zeroline=False,
            range=[-0.6, length - 0.4],
        ),
        "yaxis": axis(title, unit, automargin=False, **vertical),
        "hovermode": "x",
    }


def _axis_label(word: str) -> str:
    """Return a token shortened for an axis label; blank tokens, line breaks and tabs become visible symbols."""
    visible = word.strip(" ") or "␣"
    visible = visible.replace("\n", "↵").replace("\t", "⇥").replace("<", "&lt;")
    return visible if len(visible) <= 14 else visible[:13] + "…"


def _angles(payload: Payload) -> PlotlyLayout:
    cosine = token_layout(payload, later("cosine to clean"), domain=[0.46, 1], range=[0, 1.02], zeroline=True)
    ratio = axis(later("SNR"), later("dB"), domain=[0, 0.36], automargin=False, zeroline=True)
    return {**cosine, "yaxis2": ratio, "xaxis": {**cosine["xaxis"], "anchor": "y2"}}


def _map(payload: Payload) -> PlotlyLayout:
    plain: dict[str, Any] = {"zeroline": False, "automargin": False, "showticklabels": False}
    return _numeric_layout(
        axis(later("first principal component"), **plain),
        axis(later("second principal component"), **plain, scaleanchor="x"),
        hovermode="closest",
        margin={**MARGIN, "l": 36, "b": 40},
    )


def _depth(payload: Payload) -> PlotlyLayout:
    """Return axes for a map of tokens and layers on the left, and for the mean over the tokens on the right."""
    plain: dict[str, Any] = {"automargin": False, "zeroline": False, "showgrid": False}
    means: dict[str, Any] = {"automargin": False, "zeroline": True}
    return {
        "height": INSIDE_HEIGHT,
        "margin": {**MARGIN, "l": 66, "t": 72},
        "hovermode": "closest",
        "legend": {"orientation": "v", "x": 0.72, "xanchor": "left"},
        "xaxis": axis(later("token"), **plain, domain=[0, 0.66], tickangle=-45),
        "yaxis": merge_mappings(axis(later("layer"), **plain), {"title": {"standoff": 4}}),
        "xaxis2": merge_mappings(
            axis(later("mean (1 is 100%)"), **means, domain=[0.72, 1]), {"title": {"standoff": 24}}
        ),
    }


def _next(payload: Payload) -> PlotlyLayout:
    plain: dict[str, Any] = {"automargin": False, "rangemode": "tozero", "zeroline": True}
    return {
        "barmode": "overlay",
        "height": INSIDE_HEIGHT,
        "margin": MARGIN,
        "hovermode": "x",
        "xaxis": axis(
            later("after the token"), automargin=False, showgrid=False, zeroline=False, tickangle=-45, anchor="y2"
        ),
        "yaxis": axis(later("KL"), later("nats"), **plain, domain=[0.54, 1]),
        "yaxis2": axis(later("entropy"), later("nats"), **plain, domain=[0, 0.4]),
    }


def _numeric_layout(horizontal: PlotlyLayout, vertical: PlotlyLayout, **more: Any) -> PlotlyLayout:
    """Return a layout with numeric axes instead of a horizontal axis of tokens."""
    given = {"height": HEIGHT, "margin": {**MARGIN, "b": 56}, "hovermode": "x"}
    return merge_mappings(given, {"xaxis": {**horizontal, "automargin": False}, "yaxis": vertical, **more})


NOISE_VIEWS = {
    "norms": View(
        later("Norms"),
        "sentence",
        lambda payload: token_layout(payload, later("norm"), later("L2"), rangemode="tozero"),
    ),
    "angles": View(later("Angles"), "sentence", _angles),
    "density": View(
        later("Density"),
        "sentence",
        lambda _: _numeric_layout(
            axis(later("value of a coordinate"), zeroline=False),
            axis(later("density"), rangemode="tozero", automargin=False),
            barmode="overlay",
            bargap=0,
        ),
    ),
    "map": View(later("Map"), "table", _map),
    "nearest": View(
        later("Nearest"),
        "table",
        lambda payload: (
            token_layout(payload, later("strength of the first change"), type="log", exponentformat="power")
            | {"hovermode": "closest"}
        ),
    ),
    "depth": View(later("Depth"), "inside", _depth),
    "next": View(later("Next word"), "inside", _next),
    "loss": View(
        later("Loss"),
        "inside",
        lambda _: _numeric_layout(
            axis(later("strength"), zeroline=False),
            axis(later("response loss"), later("nats per token"), automargin=False),
        ),
    ),
    "length": View(
        later("Length"),
        "training",
        lambda _: _numeric_layout(
            axis(later("sequence length"), later("tokens"), type="log", tickvals=[1, 10, 100, 1000], zeroline=False),
            axis(later("std of a coordinate"), type="log", exponentformat="power", automargin=False),
        ),
    ),
    "schedule": View(
        later("Schedule"),
        "training",
        lambda _: _numeric_layout(
            axis(later("share of the run"), later("%"), range=[0, 100], zeroline=False),
            axis(later("strength"), rangemode="tozero"),
        ),
    ),
}
"""The views by name, ordered by group; links and stored states contain the names."""


def view_layouts(payload: Payload) -> dict[str, dict[str, Any]]:
    """Return, by view, the Plotly `layout`, its changes on a `narrow` screen, and the `name` of exported files."""
    return {name: _frame(name, view.layout(payload)) for name, view in NOISE_VIEWS.items()}


def _frame(name: str, layout: PlotlyLayout) -> dict[str, Any]:
    names_tokens = "tickangle" in layout["xaxis"]
    margin = {**NARROW["margin"], "l": max(NARROW["margin"]["l"], layout["margin"]["l"] - 8)}
    narrow = {**(NARROW if names_tokens else {}), "margin": margin}
    return {"name": f"noise-{name}", "layout": {**layout, "uirevision": name}, "narrow": narrow}


def adaptive_illustration() -> list[float]:
    """Return the multipliers of the adaptive schedule for a fictitious loss that falls by half, fastest at first."""
    schedule, found = AdaptiveSchedule(), []
    for step in range(ILLUSTRATED_STEPS + 1):
        found.append(round(schedule.multiplier, 4))
        schedule.follow(1 / (1 + step / (ILLUSTRATED_STEPS / 2)) ** 0.63 if step else 1.0)
    return found
