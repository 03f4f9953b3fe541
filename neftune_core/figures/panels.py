"""Figures with panels side by side, or stacked on a narrow screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.figures.base import (
    NOISY,
    Figure,
    Trace,
    axis,
    figure,
    heading,
    in_panel,
    line_trace,
    list_once,
    suffix,
)
from neftune_core.figures.colours import arm_colours, token
from neftune_core.figures.curves import Curve, downsample, mean_of_seeds
from neftune_core.language import later, say
from neftune_core.noise.names import arm_words
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
    """One panel of a figure.

    Attributes:
        heading: Heading above the panel.
        label: Name of its values in the summary and in the hover text.
        title: Title of the vertical axis.
        unit: Unit of the vertical axis.
        noisy: Whether its curves fluctuate from step to step.
    """

    heading: str
    label: str
    title: str
    unit: str = ""
    noisy: bool = False


def steps_of(events: Iterable[Event]) -> Iterator[Event]:
    """Return the step events that have values per arm."""
    return (event for event in events if event["event"] == "step" and isinstance(event.get("arms"), Mapping))


class Points:
    """Steps and values collected by panel, arm and seed."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], dict[Any, Curve]] = {}

    def add(self, panel: str, arm: str, event: Event, value: Any) -> None:
        """Add a value at the step of an event; a value that is not a number is ignored.

        Args:
            panel: Name of the panel.
            arm: Name of the arm.
            event: The step event.
            value: The vertical coordinate, as stored in the record.
        """
        if isinstance(value, int | float):
            steps, values = self.found.setdefault((panel, arm), {}).setdefault(event.get("seed"), ([], []))
            steps.append(event["step"])
            values.append(float(value))

    def means(self, panels: Iterable[str]) -> Curves:
        """Return the means over the seeds that all arms have and that have reached the latest step, downsampled."""
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
    drawn = [arm for arm in (*arms, SHARED) if any(arm in by_arm for by_arm in curves.values())]
    data = [
        _trace(panel, index, key, arm, curves[key][arm], colours[arm])
        for arm in drawn
        for index, (key, panel) in enumerate(panels.items(), start=1)
        if arm in curves[key]
    ]
    list_once(data)
    for trace in data:
        trace["showlegend"] &= trace["legendgroup"] != SHARED
    titles = [(panel.heading, panel.title, panel.unit) for panel in panels.values()]
    layout = side_by_side((later("step"), later("optimizer steps")), titles, WIDE) | {
        "height": 340,
        "margin": {"t": 72},
    }
    for index in range(1, len(panels) + 1):
        layout[f"xaxis{suffix(index)}"] |= {"rangemode": "tozero"} | ({"matches": "x"} if index > 1 else {})
        layout[f"yaxis{suffix(index)}"] |= {"rangemode": "tozero"}
    return figure(name, data, layout, _summary(curves, panels, arms), narrow=stacked(UNDER, 1.05), log=False)


def _trace(panel: Panel, index: int, key: str, arm: str, curve: Curve, colour: str) -> Trace:
    uid, label = f"{arm}/{key}" if arm else key, arm_words(arm) or say(panel.label)
    value = f"%{{y:.3g}}{_unit_text(panel)}"
    more = in_panel(index) | (NOISY if panel.noisy else {})
    return line_trace(uid, label, *curve, colour, value, width=1.6, legendgroup=arm, **more)


Ranges = Sequence[tuple[float, float]]


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
    for index, ((words, title, unit), domain) in enumerate(zip(panels, ranges, strict=True), start=1):
        number = suffix(index)
        layout[f"xaxis{number}"] = axis(*x, domain=list(domain), anchor=f"y{number}", showgrid=False)
        layout[f"yaxis{number}"] = axis(title, unit, anchor=f"x{number}")
        layout["annotations"].append(heading(say(words), f"x{number} domain", f"y{number} domain", size=12))
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


def _summary(curves: Curves, panels: Mapping[str, Panel], arms: Iterable[str]) -> str:
    """Describe the latest values of every arm and of shared curves."""
    parts = []
    for arm in (*arms, SHARED):
        numbers = [
            f"{say(panel.label)} {curves[key][arm][1][-1]:.3g}{_unit_text(panel)}"
            for key, panel in panels.items()
            if arm in curves[key]
        ]
        if numbers:
            parts.append(f"{arm_words(arm)}{say(': ')}{say(', ').join(numbers)}" if arm else say(", ").join(numbers))
    if not parts:
        return say("No step has been taken yet.")
    return say("At the latest step: {numbers}.", numbers=say("; ").join(parts))


def _unit_text(panel: Panel) -> str:
    return "%" if panel.unit == "%" else ""
