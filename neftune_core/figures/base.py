"""What every figure shares: its shape as JSON, its quiet axes, its summary in words.

A figure is a dict of plain lists and texts: `name` (for files and links), `data` and `layout` as Plotly has
them, `narrow` (what changes in the layout on a narrow screen) and `summary`, one or more sentences that say what is
to be seen. Where the reader may choose between a logarithmic scale and a plain one, `log` says which it opens with;
then traces marked as `NOISY` can be smoothed. Colours are names of `figures/colours.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neftune_core.figures.colours import token
from neftune_core.language import say

Figure = dict[str, Any]
Trace = dict[str, Any]

NOISY: dict[str, Any] = {"meta": {"noisy": True}}
"""Laid over a trace that scatters from step to step."""
LEVEL: dict[str, Any] = {"meta": {"level": True}}
"""Laid over a trace whose first point was measured, and drawn on for comparison."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Noto Sans SC', sans-serif"


def figure(
    name: str,
    data: list[Trace],
    layout: Mapping[str, Any],
    summary: str,
    *,
    narrow: Mapping[str, Any] | None = None,
    log: bool | None = None,
) -> Figure:
    """A figure of `data` under the shared layout, with `layout` laid over it."""
    return {
        "name": name,
        "data": data,
        "layout": merged(_shared_layout(), layout),
        "narrow": dict(narrow or {}),
        "summary": summary,
        **({} if log is None else {"log": log}),
    }


def axis(title: str, unit: str = "", **more: Any) -> dict[str, Any]:
    """An axis whose title, in the current language, carries its unit."""
    text = f"{say(title)} ({say(unit)})" if unit else say(title)
    return merged(
        {
            "title": {"text": text, "standoff": 8, "font": {"size": 13, "color": token("quiet")}},
            "gridcolor": token("line"),
            "zerolinecolor": token("line"),
            "linecolor": token("line"),
            "tickfont": {"color": token("quiet"), "size": 12},
            "automargin": True,
        },
        more,
    )


def interval_words(interval: Any, scale: float = 1.0) -> str:
    """The ends of an interval, times `scale`, in parentheses, to stand behind a number; nothing where there is none."""
    if interval is None:
        return ""
    return say(" ({low:+.2g} to {high:+.2g})", low=scale * interval.low, high=scale * interval.high)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `under`, table by table; neither is changed."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _shared_layout() -> dict[str, Any]:
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": token("text")},
        "margin": {"l": 56, "r": 16, "t": 36, "b": 48},
        "height": 360,
        "hoverlabel": {
            "bgcolor": token("surface"),
            "bordercolor": token("line"),
            "font": {"color": token("text"), "family": FONT},
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        "dragmode": "zoom",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": token("quiet"), "activecolor": token("text")},
        "uirevision": "kept",
    }


def heading(text: str, x_reference: str, y_reference: str, size: int = 13) -> dict[str, Any]:
    """The heading of one panel, above its axes, as an annotation."""
    return {
        "text": text,
        "xref": x_reference,
        "yref": y_reference,
        "x": 0,
        "y": 1.0,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": size, "color": token("quiet")},
    }
