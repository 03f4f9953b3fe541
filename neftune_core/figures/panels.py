"""Figures with panels side by side, or stacked on a narrow screen; `dynamics` draws three of them over the steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.figures.base import NOISY, Figure, Trace, axis, figure, heading, hover
from neftune_core.figures.colours import arm_colours, token
from neftune_core.figures.curves import Curve, downsample, mean_of_seeds
from neftune_core.language import later, say
from neftune_core.noise.names import arm_label
from neftune_core.noise.settings import NoiseSettings

Event = Mapping[str, Any]
Curves = dict[str, dict[str, Curve]]
"""Curves by panel, then by arm; a curve that all arms share is under `SHARED`."""

SHARED = ""
WIDE = ((0.0, 0.29), (0.355, 0.645), (0.71, 1.0))
UNDER = ((0.74, 1.0), (0.39, 0.64), (0.0, 0.29))
"""Ranges of the three panels, side by side and stacked, as shares of the width or height."""


@dataclass(frozen=True)
class Panel:
    """One panel of a figure: its heading `words`, and `title` and `unit` of its vertical axis.

    `said` names its numbers in the summary and in the hover text. The curves of a `noisy` panel fluctuate from step to
    step.
    """

    words: str
    said: str
    title: str
    unit: str = ""
    noisy: bool = False


def steps_of(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the step events that have numbers per arm."""
    return (event for event in events if event["event"] == "step" and isinstance(event.get("arms"), Mapping))


class Points:
    """Steps and values collected by panel, arm and seed."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], dict[Any, Curve]] = {}

    def add(self, panel: str, arm: str, event: Event, value: Any) -> None:
        """Add one value at the step of an event; a value that is not a number is ignored.

        Args:
            panel: Name of the panel.
            arm: Name of the arm.
            event: The step event.
            value: The value.
        """
        if isinstance(value, int | float):
            steps, values = self.found.setdefault((panel, arm), {}).setdefault(event.get("seed"), ([], []))
            steps.append(event["step"])
            values.append(float(value))

    def means(self, panels: Iterable[str]) -> Curves:
        """Return the means over the seeds that all arms have and that reached the last step, downsampled if long."""
        curves: Curves = {panel: {} for panel in panels}
        for (panel, arm), by_seed in self.found.items():
            shared = set.intersection(*(set(seeds) for (own, _), seeds in self.found.items() if own == panel))
            curves[panel][arm] = downsample(*mean_of_seeds(by_seed, shared))
        return curves


def panel_figure(name: str, curves: Curves, panels: Mapping[str, Panel], arms: Mapping[str, NoiseSettings]) -> Figure:
    """Build a figure with three panels.

    Args:
        name: Name of the figure.
        curves: Steps and values, by panel and arm.
        panels: The three panels by name.
        arms: Noise settings of the arms by name.

    Returns:
        The figure.
    """
    colours = {**arm_colours(arms), SHARED: token("text")}
    names = [arm for arm in (*arms, SHARED) if any(arm in panel for panel in curves.values())]
    data = []
    for arm in names:
        own = [(index, number) for index, number in enumerate(panels, start=1) if arm in curves[number]]
        data += [_trace(panels[number], index, number, arm, curves[number][arm], colours[arm]) for index, number in own]
    for trace in data:
        first = next(other for other in data if other["legendgroup"] == trace["legendgroup"])
        trace["showlegend"] = trace is first and trace["legendgroup"] != SHARED
    titles = [(panel.words, panel.title, panel.unit) for panel in panels.values()]
    layout = side_by_side((later("step"), later("optimizer steps")), titles, WIDE) | {
        "height": 340,
        "margin": {"t": 72},
    }
    for index in range(1, len(panels) + 1):
        layout[f"xaxis{suffix(index)}"] |= {"rangemode": "tozero", **({"matches": "x"} if index > 1 else {})}
        layout[f"yaxis{suffix(index)}"] |= {"rangemode": "tozero"}
    return figure(name, data, layout, _last_numbers(curves, panels, arms), narrow=stacked(UNDER, 1.05), log=False)


def _trace(panel: Panel, index: int, number: str, arm: str, curve: Curve, colour: str) -> Trace:
    label = arm_label(arm) or say(panel.said)
    return {
        **(NOISY if panel.noisy else {}),
        "type": "scatter",
        "mode": "lines",
        "uid": f"{arm}/{number}" if arm else number,
        "name": label,
        "legendgroup": arm,
        "x": curve[0],
        "y": curve[1],
        "xaxis": f"x{suffix(index)}",
        "yaxis": f"y{suffix(index)}",
        "line": {"color": colour, "width": 1.6},
        "hovertemplate": hover(label, f"%{{y:.3g}}{_unit_text(panel)}"),
    }


Ranges = Sequence[tuple[float, float]]


def suffix(index: int) -> str:
    """Return the suffix of the axes of a panel, counted from 1: `x` and `y`, then `x2` and `y2`."""
    return str(index) if index > 1 else ""


def side_by_side(x: tuple[str, str], panels: Sequence[tuple[str, str, str]], ranges: Ranges) -> dict[str, Any]:
    """Build the layout of panels side by side.

    Args:
        x: Title and unit of the horizontal axes.
        panels: Heading of each panel, and title and unit of its vertical axis.
        ranges: Horizontal range of each panel, as shares of the width.

    Returns:
        A Plotly layout without height and margin.
    """
    layout: dict[str, Any] = {"hovermode": "x unified", "legend": {"y": 1.14}, "annotations": []}
    for index, ((words, *title), domain) in enumerate(zip(panels, ranges, strict=True), start=1):
        x_name, y_name = f"x{suffix(index)}", f"y{suffix(index)}"
        layout[x_name.replace("x", "xaxis")] = axis(*x, domain=list(domain), anchor=y_name, showgrid=False)
        layout[y_name.replace("y", "yaxis")] = axis(*title, anchor=x_name)
        layout["annotations"].append(heading(say(words), f"{x_name} domain", f"{y_name} domain", size=12))
    return layout


def stacked(ranges: Ranges, legend: float) -> dict[str, Any]:
    """Build the layout changes that stack panels on a narrow screen; only the last one names its horizontal axis.

    Args:
        ranges: Vertical range of each panel, as shares of the height.
        legend: Vertical position of the legend, as a share of the height.

    Returns:
        Changes to a layout from `side_by_side`.
    """
    changes: dict[str, Any] = {"height": 640, "margin": {"l": 48, "r": 8, "t": 96}, "legend": {"y": legend}}
    for index, domain in enumerate(ranges, start=1):
        untitled = {"title": {"text": ""}} if index < len(ranges) else {}
        changes[f"xaxis{suffix(index)}"] = {"domain": [0, 1], **untitled}
        changes[f"yaxis{suffix(index)}"] = {"domain": list(domain)}
    return changes


def _last_numbers(curves: Curves, panels: Mapping[str, Panel], arms: Iterable[str]) -> str:
    """Describe the last values of every arm and of shared curves."""
    parts = []
    for arm in (*arms, SHARED):
        numbers = [
            f"{say(panel.said)} {curves[number][arm][1][-1]:.3g}{_unit_text(panel)}"
            for number, panel in panels.items()
            if arm in curves[number]
        ]
        if numbers:
            parts.append(f"{arm_label(arm)}{say(': ')}{say(', ').join(numbers)}" if arm else say(", ").join(numbers))
    if not parts:
        return say("No step has been taken yet.")
    return say("At the last step: {numbers}.", numbers=say("; ").join(parts))


def _unit_text(panel: Panel) -> str:
    return "%" if panel.unit == "%" else ""
