"""Robustness of trained arms to noise, and their updates by layer: two panels per figure, one colour per arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neftune_core.figures.base import Figure, Trace, axis, figure, heading
from neftune_core.figures.colours import arm_colours
from neftune_core.language import later, plural, say
from neftune_core.noise.names import arm_label
from neftune_core.noise.settings import NoiseSettings

if TYPE_CHECKING:
    from neftune_core.evaluation.statistics import Interval
    from neftune_core.studies.trained.robustness import Robustness
    from neftune_core.studies.trained.weights import Update

WIDE = ((0.0, 0.45), (0.55, 1.0))
UNDER = ((0.58, 1.0), (0.0, 0.4))
BAND_OPACITY = 0.14


def robustness_figure(found: Robustness, arms: Mapping[str, NoiseSettings]) -> Figure:
    """Plot the held-out loss and the share of correct answers by the strength of the noise at test time.

    Args:
        found: The measurements.
        arms: Noise settings of the arms by name.

    Returns:
        The figure; the bands are 95% intervals over rows.
    """
    colours = arm_colours(arms)
    data: list[Trace] = []
    for name in found.arms:
        for panel, values in enumerate((found.loss(name), found.right(name)), start=1):
            data.append(_band(name, panel, found.strengths, values, colours.get(name, "var(--lab-quiet)")))
            means = [one.estimate for one in values]
            data.append(_line(name, panel, found.strengths, means, colours.get(name, "var(--lab-quiet)")))
    x = (later("strength of the noise at test time"), later("of the signal"))
    layout = _layout(
        x, [(later("Held-out loss"), later("nats per token")), (later("Correct answers"), later("share of rows"))]
    )
    layout["yaxis2"] |= {"range": [-0.03, 1.03], "tickformat": ".0%"}
    for mark in ("", "2"):
        layout[f"xaxis{mark}"] |= {"tickformat": ".0%"}
    return figure("robustness", data, layout, _robustness_words(found), narrow=_narrow())


def _robustness_words(found: Robustness) -> str:
    last = len(found.strengths) - 1
    parts = []
    for name in found.arms:
        loss, right = found.loss(name), found.right(name)
        parts.append(
            say(
                "{arm}: the loss is {clean:.3f} without noise and {noisy:.3f} ({low:.3f} to {high:.3f}) at "
                "{strength:.0%}; the share of correct answers is {before:.0%} without noise and {after:.0%} with it.",
                arm=arm_label(name),
                clean=loss[0].estimate,
                noisy=loss[last].estimate,
                low=loss[last].low,
                high=loss[last].high,
                strength=found.strengths[last],
                before=right[0].estimate,
                after=right[last].estimate,
            )
        )
    words = plural(
        len(found.tokens),
        "{rows} held-out row under Gaussian noise at test time, the same draw for all arms; bands are 95% intervals "
        "over the rows. An answer is correct if each of its tokens is ranked first.",
        "{rows} held-out rows under Gaussian noise at test time, the same draws for all arms; bands are 95% intervals "
        "over the rows. An answer is correct if each of its tokens is ranked first.",
    )
    about = say(words, rows=len(found.tokens))
    return " ".join([about, *parts])


def weights_figure(
    found: Mapping[str, Mapping[str, Update]], layers: Sequence[str], arms: Mapping[str, NoiseSettings]
) -> Figure:
    """Plot the norm of each layer's adapter update, and its angle to that of the control.

    Args:
        found: Updates by arm and layer.
        layers: The layers in their order.
        arms: Noise settings of the arms by name.

    Returns:
        The figure.
    """
    colours = arm_colours(arms)
    data: list[Trace] = []
    for name, own in found.items():
        norms = [own[layer].norm if layer in own else None for layer in layers]
        data.append(_line(name, 1, layers, norms, colours[name]))
        angles = [own[layer].angle if layer in own else None for layer in layers]
        if any(angle is not None for angle in angles):
            data.append(_line(name, 2, layers, angles, colours[name]))
    layout = _layout(
        (later("layer"), ""),
        [(later("Size of the update"), later("Frobenius norm")), (later("Angle to the control"), later("degrees"))],
    )
    for mark in ("", "2"):
        layout[f"xaxis{mark}"] |= {"type": "category"}
        layout[f"yaxis{mark}"] |= {"rangemode": "tozero"}
    return figure("weights", data, layout, _weights_words(found), narrow=_narrow())


def _weights_words(found: Mapping[str, Mapping[str, Update]]) -> str:
    parts = [
        say(
            "Update by the adapters in each layer: scale times B A, where A and B are the matrices of an "
            "adapter, over all adapted modules of the layer."
        )
    ]
    for name, own in found.items():
        layer, largest = max(own.items(), key=lambda item: item[1].norm)
        total = sum(update.norm**2 for update in own.values()) ** 0.5
        parts.append(
            say(
                "{arm}: norm {total:.3g}, largest in layer {layer} ({norm:.3g}).",
                arm=arm_label(name),
                total=total,
                layer=layer,
                norm=largest.norm,
            )
        )
        angles = [update.angle for update in own.values() if update.angle is not None]
        if angles:
            words = say(
                "The angle between this update and the control's is {low:.0f} to {high:.0f} degrees.",
                low=min(angles),
                high=max(angles),
            )
            parts.append(words)
    return " ".join(parts)


def _line(name: str, panel: int, x: Sequence[Any], y: Sequence[float | None], colour: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "uid": f"{name}/{panel}",
        "name": arm_label(name),
        "legendgroup": name,
        "showlegend": panel == 1,
        "x": list(x),
        "y": [None if value is None else round(value, 5) for value in y],
        **_axes(panel),
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": 6},
        "hovertemplate": f"{arm_label(name)}{say(': ')}%{{y:.3g}}<extra></extra>",
    }


def _band(name: str, panel: int, x: Sequence[float], values: Sequence[Interval], colour: str) -> Trace:
    """Return the interval around a line as a closed shape."""
    ends = [one.high for one in values] + [one.low for one in reversed(values)]
    return {
        "type": "scatter",
        "mode": "lines",
        "uid": f"{name}/{panel}/interval",
        "name": say("{arm}, 95% interval", arm=arm_label(name)),
        "legendgroup": name,
        "showlegend": False,
        "x": [*x, *reversed(x)],
        "y": [round(value, 5) for value in ends],
        **_axes(panel),
        "fill": "toself",
        "fillcolor": colour,
        "opacity": BAND_OPACITY,
        "line": {"width": 0, "color": colour},
        "hoverinfo": "skip",
    }


def _axes(panel: int) -> dict[str, str]:
    mark = str(panel) if panel > 1 else ""
    return {"xaxis": f"x{mark}", "yaxis": f"y{mark}"}


def _layout(x: tuple[str, str], panels: Sequence[tuple[str, str]]) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "height": 400,
        "margin": {"t": 84},
        "hovermode": "x unified",
        "legend": {"y": 1.14},
        "annotations": [],
    }
    for panel, (words, unit) in enumerate(panels, start=1):
        mark = str(panel) if panel > 1 else ""
        layout[f"xaxis{mark}"] = axis(*x, domain=list(WIDE[panel - 1]), anchor=f"y{mark}", showgrid=False)
        layout[f"yaxis{mark}"] = axis(unit, anchor=f"x{mark}")
        layout["annotations"].append(heading(say(words), f"x{mark} domain", f"y{mark} domain", size=12))
    return layout


def _narrow() -> dict[str, Any]:
    """Return the layout changes that stack the panels."""
    changes: dict[str, Any] = {"height": 640, "margin": {"l": 48, "r": 8, "t": 96}, "legend": {"y": 1.06}}
    for panel, domain in enumerate(UNDER, start=1):
        mark = str(panel) if panel > 1 else ""
        changes[f"xaxis{mark}"] = {"domain": [0, 1], **({"title": {"text": ""}} if panel == 1 else {})}
        changes[f"yaxis{mark}"] = {"domain": list(domain)}
    return changes
