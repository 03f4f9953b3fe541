"""Components shared by all figures: structure, axes, lines, headings, and changes between two versions.

A figure is a dict of plain lists and strings: `name` (for file names and links), `data` and `layout` as in Plotly,
`narrow` (changes to the layout on a narrow screen) and `summary` (one or more sentences describing the figure). If
the reader can choose between a logarithmic and a linear scale, `log` is the initial choice, and traces marked `NOISY`
can be smoothed. Colours are names from `figures/colours.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neftune_core.figures.colours import token
from neftune_core.language import say

Figure = dict[str, Any]
Trace = dict[str, Any]

NOISY: dict[str, Any] = {"meta": {"noisy": True}}
"""Entries of a trace that fluctuates from step to step."""
LEVEL: dict[str, Any] = {"meta": {"level": True}}
"""Entries of a trace that draws one measured value over the whole axis, as a reference level."""

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
    """Build a figure with the shared layout.

    Args:
        name: Name of the figure, for file names and links.
        data: Plotly traces.
        layout: Layout entries that override the shared layout.
        summary: Sentences that describe the figure.
        narrow: Changes to the layout on a narrow screen.
        log: Whether the initial scale is logarithmic; None if the reader cannot choose the scale.

    Returns:
        The figure.
    """
    return {
        "name": name,
        "data": data,
        "layout": merge_mappings(_shared_layout(), layout),
        "narrow": dict(narrow or {}),
        "summary": summary,
        **({} if log is None else {"log": log}),
    }


def axis(title: str, unit: str = "", **more: Any) -> dict[str, Any]:
    """Build an axis with a title in the current language.

    Args:
        title: Title, translated here.
        unit: Unit, translated here and appended in parentheses; "" for none.
        **more: Further axis entries.

    Returns:
        A Plotly axis.
    """
    text = say("{title} ({name})", title=say(title), name=say(unit)) if unit else say(title)
    return merge_mappings(
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


def line_trace(
    uid: str,
    label: str,
    x: Sequence[Any],
    y: Sequence[Any],
    colour: str,
    value: str,
    *,
    width: float = 2.4,
    **more: Any,
) -> Trace:
    """Build a trace that connects its points with a line.

    Args:
        uid: Id of the trace, unique in its figure.
        label: Name of the trace, in the legend and the hover text.
        x: Horizontal coordinates.
        y: Vertical coordinates.
        colour: Colour of the line.
        value: The value in the hover text, as a Plotly template such as "%{y:.3f}".
        width: Width of the line in pixels.
        **more: Further entries of the trace.

    Returns:
        A Plotly trace.
    """
    trace = {
        "type": "scatter",
        "mode": "lines",
        "uid": uid,
        "name": label,
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "width": width},
        "hovertemplate": hover(label, value),
    }
    return merge_mappings(trace, more)


def in_panel(index: int) -> dict[str, str]:
    """Return the axes of a trace in a panel, counted from 1: `x` and `y`, then `x2` and `y2`."""
    return {"xaxis": f"x{suffix(index)}", "yaxis": f"y{suffix(index)}"}


def suffix(index: int) -> str:
    """Return the suffix of the axes of a panel, counted from 1; the first panel has none."""
    return str(index) if index > 1 else ""


def list_once(data: Sequence[Trace]) -> None:
    """Show only the first trace of each group in the legend."""
    groups: set[str] = set()
    for trace in data:
        trace["showlegend"] = trace["legendgroup"] not in groups
        groups.add(trace["legendgroup"])


def dotted_line(**ends: Any) -> dict[str, Any]:
    """Build a thin dotted line as a Plotly shape; `ends` contains its coordinates and further entries."""
    return {"type": "line", "line": {"color": token("quiet"), "width": 1, "dash": "dot"}, **ends}


def interval_text(interval: Any, scale: float = 1.0) -> str:
    """Format an interval for appending to a number.

    Args:
        interval: An interval with `low` and `high`, or None.
        scale: Factor applied to both ends.

    Returns:
        For example " (-0.1 to +0.2)"; "" if there is no interval.
    """
    if interval is None:
        return ""
    return say(" ({low:+.2g} to {high:+.2g})", low=scale * interval.low, high=scale * interval.high)


def hover(label: str, value: str) -> str:
    """Return the `hovertemplate` of a trace.

    Args:
        label: What the value belongs to, such as the label of an arm.
        value: The value as a Plotly template, such as "%{y:.3f}".

    Returns:
        The template.
    """
    return f"{label}{say(': ')}{value}<extra></extra>"


def merge_mappings(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings without changing either.

    Args:
        under: The base mapping.
        over: Entries that take precedence.

    Returns:
        A new dict.
    """
    both = {
        key for key in under.keys() & over.keys() if isinstance(under[key], Mapping) and isinstance(over[key], Mapping)
    }
    return {**under, **over, **{key: merge_mappings(under[key], over[key]) for key in both}}


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
    """Build the heading of one panel as an annotation above its axes.

    Args:
        text: The heading.
        x_reference: Plotly reference of the horizontal axis, such as "x2 domain".
        y_reference: Plotly reference of the vertical axis.
        size: Font size in pixels.

    Returns:
        A Plotly annotation.
    """
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


Changes = dict[str, Any]
"""Differences between two versions of a figure; `assets/page/growth.js` applies them in the browser."""


def changes(old: Figure, new: Figure) -> Changes | None:
    """Return the changes that turn `old` into `new`.

    Args:
        old: The figure that the browser shows.
        new: The figure to show instead.

    Returns:
        `rest` (changed entries other than the traces), `order` (ids of all traces, if they have changed) and `traces`
        (changes of traces, by id). None if the traces lack distinct ids, or an entry was removed.
    """
    before, after = _by_id(old), _by_id(new)
    if before is None or after is None or old.keys() - new.keys():
        return None
    traces = {uid: _trace_changes(before.get(uid), trace) for uid, trace in after.items()}
    return {
        "rest": {name: part for name, part in new.items() if name != "data" and old.get(name) != part},
        "traces": {uid: change for uid, change in traces.items() if change},
        **({} if [*before] == [*after] else {"order": [*after]}),
    }


def _by_id(figure: Figure) -> dict[str, Trace] | None:
    """Return the traces by id; None unless their ids are distinct."""
    found = {trace["uid"]: trace for trace in figure["data"] if "uid" in trace}
    return found if len(found) == len(figure["data"]) else None


def _trace_changes(old: Trace | None, new: Trace) -> Changes | None:
    """Return the changed entries of a trace, lists as from `_list_changes`, or the whole trace; None if unchanged."""
    if old is None or old.keys() - new.keys():
        return {"whole": new}
    if old == new:
        return None
    changed = [name for name, value in new.items() if name not in old or old[name] != value]
    lists = [name for name in changed if isinstance(new[name], list) and isinstance(old.get(name), list)]
    return {
        "set": {name: new[name] for name in changed if name not in lists},
        "lists": {name: _list_changes(old[name], new[name]) for name in lists},
    }


def _list_changes(old: list[Any], new: list[Any]) -> tuple[int, list[Any]]:
    """Return the length of the unchanged beginning, and the values of `new` after it."""
    pairs = enumerate(zip(old, new, strict=False))
    kept = next((place for place, (before, after) in pairs if before != after), min(len(old), len(new)))
    return kept, new[kept:]
