"""Figures with three panels over the same steps and one colour per arm, used by `dynamics`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.figures.base import NOISY, Figure, Trace, axis, figure, heading
from neftune_core.figures.colours import arm_colours, token
from neftune_core.figures.curves import downsample, mean_of_seeds, select_seeds
from neftune_core.language import later, say
from neftune_core.noise.names import arm_label
from neftune_core.noise.settings import NoiseSettings

Event = Mapping[str, Any]
Curve = tuple[list[int], list[float]]
Curves = dict[str, dict[str, Curve]]
"""Curves by panel, then by arm; a curve that all arms share is under `SHARED`."""

SHARED = ""
WIDE = ((0.0, 0.29), (0.355, 0.645), (0.71, 1.0))
UNDER = ((0.74, 1.0), (0.39, 0.64), (0.0, 0.29))


@dataclass(frozen=True)
class Panel:
    """One panel of a figure.

    Attributes:
        words: Heading of the panel.
        said: Name in the summary and in the hover text of a curve that all arms share.
        title: Title of the vertical axis.
        unit: Unit of the vertical axis; "" for none.
        noisy: Whether its curves fluctuate from step to step.
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
            curves[panel][arm] = downsample(*mean_of_seeds(select_seeds(by_seed, shared)))
        return curves


def panel_figure(
    name: str, curves: Curves, panels: Mapping[str, Panel], arms: Mapping[str, NoiseSettings], summary: str
) -> Figure:
    """Build a figure with three panels.

    Args:
        name: Name of the figure.
        curves: Steps and values, by panel and arm.
        panels: The three panels by name.
        arms: Noise settings of the arms by name.
        summary: Sentences that describe the figure.

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
    return figure(name, data, _layout(panels), summary, narrow=_narrow(), log=False)


def _trace(panel: Panel, index: int, number: str, arm: str, curve: Curve, colour: str) -> Trace:
    return {
        **(NOISY if panel.noisy else {}),
        "type": "scatter",
        "mode": "lines",
        "uid": f"{arm}/{number}" if arm else number,
        "name": arm_label(arm) or say(panel.said),
        "legendgroup": arm,
        "x": curve[0],
        "y": curve[1],
        "xaxis": f"x{index}" if index > 1 else "x",
        "yaxis": f"y{index}" if index > 1 else "y",
        "line": {"color": colour, "width": 1.6},
        "hovertemplate": (arm_label(arm) or say(panel.said))
        + f"{say(': ')}%{{y:.3g}}{_unit_text(panel)}<extra></extra>",
    }


def _layout(panels: Mapping[str, Panel]) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "height": 340,
        "margin": {"t": 72},
        "hovermode": "x unified",
        "legend": {"y": 1.14},
        "annotations": [],
    }
    for index, panel in enumerate(panels.values(), start=1):
        mark = str(index) if index > 1 else ""
        shared = {"matches": "x"} if index > 1 else {}
        steps = axis(
            later("step"), later("optimizer steps"), domain=list(WIDE[index - 1]), anchor=f"y{mark}", showgrid=False
        )
        layout[f"xaxis{mark}"] = {**steps, "rangemode": "tozero", **shared}
        layout[f"yaxis{mark}"] = axis(panel.title, panel.unit, anchor=f"x{mark}", rangemode="tozero")
        layout["annotations"].append(heading(say(panel.words), f"x{mark} domain", f"y{mark} domain", size=12))
    return layout


def _narrow() -> dict[str, Any]:
    """Return the layout changes that stack the panels."""
    changes: dict[str, Any] = {"height": 640, "margin": {"l": 48, "r": 8, "t": 96}, "legend": {"y": 1.05}}
    for index, domain in enumerate(UNDER, start=1):
        mark = str(index) if index > 1 else ""
        last = index == len(UNDER)
        changes[f"xaxis{mark}"] = {"domain": [0, 1], **({} if last else {"title": {"text": ""}})}
        changes[f"yaxis{mark}"] = {"domain": list(domain)}
    return changes


def last_numbers(curves: Curves, panels: Mapping[str, Panel], arms: Sequence[str]) -> str:
    """Describe the last values of every arm and of shared curves.

    Args:
        curves: Steps and values, by panel and arm.
        panels: The panels by name.
        arms: Names of the arms.

    Returns:
        One or more sentences.
    """
    parts = []
    for arm in (*arms, SHARED):
        numbers = [
            f"{say(panel.said)} {curves[number][arm][1][-1]:.3g}{_unit_text(panel)}"
            for number, panel in panels.items()
            if arm in curves[number]
        ]
        if numbers:
            parts.append(f"{arm_label(arm)}{say(': ')}{say(', ').join(numbers)}" if arm else say(", ").join(numbers))
    return (
        say("At the last step: {numbers}.", numbers=say("; ").join(parts))
        if parts
        else say("No step has been taken yet.")
    )


def _unit_text(panel: Panel) -> str:
    return "%" if panel.unit == "%" else ""
