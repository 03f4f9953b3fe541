"""How the arms move, step by step: the norm of the gradient, how often it is clipped, how far the weights have come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.figures.base import Figure, Trace, axis, figure, heading
from neftune_core.figures.colours import arm_colours, token
from neftune_core.figures.curves import mean_of_seeds, thinned
from neftune_core.language import later, say
from neftune_core.noise.settings import NoiseSettings

Event = Mapping[str, Any]
Curve = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Panel:
    """One of the panels: its number in the log, the words over it and in its summary, and its axis."""

    words: str
    said: str
    title: str
    unit: str = ""
    factor: float = 1.0


PANELS = {
    "gradient_norm": Panel(later("Gradient norm, before clipping"), later("gradient norm"), later("norm")),
    "clipped": Panel(
        later("Share of the steps so far that were clipped"), later("clipped"), later("share"), "%", 100.0
    ),
    "weight_distance": Panel(
        later("Distance of the adapter from its start"),
        later("distance from the start"),
        later("distance"),
        later("norm"),
    ),
}
WIDE = ((0.0, 0.29), (0.355, 0.645), (0.71, 1.0))
UNDER = ((0.74, 1.0), (0.39, 0.64), (0.0, 0.29))


def move_curves(events: Iterable[Event], arms: Mapping[str, NoiseSettings], clip_norm: float = 0.0) -> Figure:
    """Three panels over the same steps, an arm a colour; of several seeds the mean of those that came as far as any.

    `events` are those of one record; `clip_norm` is where the gradient is clipped, drawn as a line where it is not 0.
    """
    curves = _gather(events)
    colours = arm_colours(arms)
    names = [arm for arm in arms if any(arm == known for panel in curves.values() for known in panel)]
    data = [
        _trace(number, place, arm, curves[number][arm], colours[arm])
        for arm in names
        for place, number in enumerate(PANELS, start=1)
        if arm in curves[number]
    ]
    layout, narrow = _layout(clip_norm if names else 0.0), _narrow()
    return figure("moves", data, layout, _summary(curves, names), narrow=narrow)


def _gather(events: Iterable[Event]) -> dict[str, dict[str, Curve]]:
    """Steps and values by panel and arm; `clipped` becomes the share of the steps so far."""
    found: dict[str, dict[str, dict[Any, Curve]]] = {number: {} for number in PANELS}
    for event in events:
        if event["event"] != "step":
            continue
        for arm, numbers in event.get("arms", {}).items():
            for number in PANELS:
                value = numbers.get(number)
                if isinstance(value, int | float):
                    steps, values = found[number].setdefault(arm, {}).setdefault(event.get("seed"), ([], []))
                    steps.append(event["step"])
                    values.append(PANELS[number].factor * value)
    for by_seed in found["clipped"].values():
        for seed, (steps, values) in by_seed.items():
            by_seed[seed] = (steps, _running_means(values))
    return {
        number: {arm: thinned(*mean_of_seeds(by_seed)) for arm, by_seed in panel.items()}
        for number, panel in found.items()
    }


def _running_means(values: Sequence[float]) -> list[float]:
    means, total = [], 0.0
    for count, value in enumerate(values, start=1):
        total += value
        means.append(total / count)
    return means


def _trace(number: str, place: int, arm: str, curve: Curve, colour: str) -> Trace:
    panel = PANELS[number]
    return {
        "type": "scatter",
        "mode": "lines",
        "uid": f"{arm}/{number}",
        "name": arm,
        "legendgroup": arm,
        "showlegend": place == 1,
        "x": curve[0],
        "y": curve[1],
        "xaxis": f"x{place}" if place > 1 else "x",
        "yaxis": f"y{place}" if place > 1 else "y",
        "line": {"color": colour, "width": 1.6},
        "hovertemplate": f"{arm}: %{{y:.3g}}{panel.unit if panel.unit == '%' else ''}<extra></extra>",
    }


def _layout(clip_norm: float) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "height": 340,
        "margin": {"t": 72},
        "hovermode": "x unified",
        "legend": {"y": 1.14},
        "annotations": [],
    }
    for place, panel in enumerate(PANELS.values(), start=1):
        mark = str(place) if place > 1 else ""
        shared = {"matches": "x"} if place > 1 else {}
        steps = axis(
            later("step"), later("optimizer steps"), domain=list(WIDE[place - 1]), anchor=f"y{mark}", showgrid=False
        )
        layout[f"xaxis{mark}"] = {**steps, "rangemode": "tozero", **shared}
        layout[f"yaxis{mark}"] = axis(panel.title, panel.unit, anchor=f"x{mark}", rangemode="tozero")
        layout["annotations"].append(heading(say(panel.words), f"x{mark} domain", f"y{mark} domain", size=12))
    if clip_norm:
        line = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": clip_norm, "y1": clip_norm}
        layout["shapes"] = [{**line, "line": {"color": token("quiet"), "width": 1, "dash": "dot"}}]
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


def _summary(curves: Mapping[str, Mapping[str, Curve]], names: Sequence[str]) -> str:
    """The last numbers of every arm in words."""
    parts = []
    for arm in names:
        numbers = [
            f"{say(panel.said)} {curves[number][arm][1][-1]:.3g}{' %' if panel.unit == '%' else ''}"
            for number, panel in PANELS.items()
            if arm in curves[number]
        ]
        parts.append(f"{arm}: {', '.join(numbers)}")
    return say("At the last step: {numbers}.", numbers="; ".join(parts)) if parts else say("No step has been made yet.")
