"""Three panels over the same steps, an arm a colour: the frame that `moves` and `rates` fill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.figures.base import NOISY, Figure, Trace, axis, figure, heading
from neftune_core.figures.colours import arm_colours, token
from neftune_core.figures.curves import among, mean_of_seeds, thinned
from neftune_core.language import later, say
from neftune_core.noise.settings import NoiseSettings

Event = Mapping[str, Any]
Curve = tuple[list[int], list[float]]
Curves = dict[str, dict[str, Curve]]
"""By panel, then by arm; what all arms share is under `SHARED`."""

SHARED = ""
WIDE = ((0.0, 0.29), (0.355, 0.645), (0.71, 1.0))
UNDER = ((0.74, 1.0), (0.39, 0.64), (0.0, 0.29))


@dataclass(frozen=True)
class Panel:
    """One of the panels: the words over it and in its summary, and its axis."""

    words: str
    said: str
    title: str
    unit: str = ""
    noisy: bool = False


def steps_of(events: Iterable[Event]) -> Iterator[Event]:
    """The events that are steps with numbers of arms."""
    return (event for event in events if event["event"] == "step" and isinstance(event.get("arms"), Mapping))


class Points:
    """Steps and values by panel, arm and seed, as they come."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], dict[Any, Curve]] = {}

    def add(self, panel: str, arm: str, event: Event, value: Any) -> None:
        """One value at the step of `event`; what is no number is left out."""
        if isinstance(value, int | float):
            steps, values = self.found.setdefault((panel, arm), {}).setdefault(event.get("seed"), ([], []))
            steps.append(event["step"])
            values.append(float(value))

    def means(self, panels: Iterable[str]) -> Curves:
        """The mean of the seeds that came as far as any and that all arms have; of a long curve its means."""
        curves: Curves = {panel: {} for panel in panels}
        for (panel, arm), by_seed in self.found.items():
            shared = set.intersection(*(set(seeds) for (own, _), seeds in self.found.items() if own == panel))
            curves[panel][arm] = thinned(*mean_of_seeds(among(by_seed, shared)))
        return curves


def panel_figure(
    name: str, curves: Curves, panels: Mapping[str, Panel], arms: Mapping[str, NoiseSettings], summary: str
) -> Figure:
    """`curves` in `panels`, which are three."""
    colours = {**arm_colours(arms), SHARED: token("text")}
    names = [arm for arm in (*arms, SHARED) if any(arm in panel for panel in curves.values())]
    data = []
    for arm in names:
        own = [(place, number) for place, number in enumerate(panels, start=1) if arm in curves[number]]
        data += [_trace(panels[number], place, number, arm, curves[number][arm], colours[arm]) for place, number in own]
    for trace in data:
        first = next(other for other in data if other["legendgroup"] == trace["legendgroup"])
        trace["showlegend"] = trace is first and trace["legendgroup"] != SHARED
    return figure(name, data, _layout(panels), summary, narrow=_narrow(), log=False)


def _trace(panel: Panel, place: int, number: str, arm: str, curve: Curve, colour: str) -> Trace:
    return {
        **(NOISY if panel.noisy else {}),
        "type": "scatter",
        "mode": "lines",
        "uid": f"{arm}/{number}" if arm else number,
        "name": arm or say(panel.said),
        "legendgroup": arm,
        "x": curve[0],
        "y": curve[1],
        "xaxis": f"x{place}" if place > 1 else "x",
        "yaxis": f"y{place}" if place > 1 else "y",
        "line": {"color": colour, "width": 1.6},
        "hovertemplate": f"{arm or say(panel.said)}: %{{y:.3g}}{_unit_said(panel)}<extra></extra>",
    }


def _layout(panels: Mapping[str, Panel]) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "height": 340,
        "margin": {"t": 72},
        "hovermode": "x unified",
        "legend": {"y": 1.14},
        "annotations": [],
    }
    for place, panel in enumerate(panels.values(), start=1):
        mark = str(place) if place > 1 else ""
        shared = {"matches": "x"} if place > 1 else {}
        steps = axis(
            later("step"), later("optimizer steps"), domain=list(WIDE[place - 1]), anchor=f"y{mark}", showgrid=False
        )
        layout[f"xaxis{mark}"] = {**steps, "rangemode": "tozero", **shared}
        layout[f"yaxis{mark}"] = axis(panel.title, panel.unit, anchor=f"x{mark}", rangemode="tozero")
        layout["annotations"].append(heading(say(panel.words), f"x{mark} domain", f"y{mark} domain", size=12))
    return layout


def _narrow() -> dict[str, Any]:
    """The panels under each other."""
    changes: dict[str, Any] = {"height": 640, "margin": {"l": 48, "r": 8, "t": 96}, "legend": {"y": 1.05}}
    for place, domain in enumerate(UNDER, start=1):
        mark = str(place) if place > 1 else ""
        last = place == len(UNDER)
        changes[f"xaxis{mark}"] = {"domain": [0, 1], **({} if last else {"title": {"text": ""}})}
        changes[f"yaxis{mark}"] = {"domain": list(domain)}
    return changes


def last_numbers(curves: Curves, panels: Mapping[str, Panel], arms: Sequence[str]) -> str:
    """The last numbers of every arm, and of what they share, in words."""
    parts = []
    for arm in (*arms, SHARED):
        numbers = [
            f"{say(panel.said)} {curves[number][arm][1][-1]:.3g}{_unit_said(panel)}"
            for number, panel in panels.items()
            if arm in curves[number]
        ]
        if numbers:
            parts.append(f"{arm}: {', '.join(numbers)}" if arm else ", ".join(numbers))
    return say("At the last step: {numbers}.", numbers="; ".join(parts)) if parts else say("No step has been made yet.")


def _unit_said(panel: Panel) -> str:
    return " %" if panel.unit == "%" else ""
