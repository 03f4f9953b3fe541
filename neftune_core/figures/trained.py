"""Robustness of trained arms to noise, and their updates by layer: two panels per figure, one colour per arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neftune_core.figures.base import Figure, Trace, figure, in_panel, line_trace
from neftune_core.figures.colours import arm_colours, token
from neftune_core.figures.panels import side_by_side, stacked
from neftune_core.language import later, plural, say
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings

if TYPE_CHECKING:
    from neftune_core.evaluation.statistics import Interval
    from neftune_core.studies.trained.robustness import Robustness
    from neftune_core.studies.trained.weights import Update

WIDE = ((0.0, 0.45), (0.55, 1.0))
UNDER = ((0.58, 1.0), (0.0, 0.4))
SIZE = {"height": 400, "margin": {"t": 84}}
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
        colour = colours.get(name, token("quiet"))
        for panel, values in enumerate((found.loss(name), found.right(name)), start=1):
            data.append(_band(name, panel, found.strengths, values, colour))
            data.append(_line(name, panel, found.strengths, [one.estimate for one in values], colour))
    titles = (
        (later("Held-out loss"), later("nats per token"), ""),
        (later("Correct answers"), later("share of rows"), ""),
    )
    layout = side_by_side((later("strength of the noise at test time"), later("of the signal")), titles, WIDE) | SIZE
    layout["yaxis2"] |= {"range": [-0.03, 1.03], "tickformat": ".0%"}
    for number in ("", "2"):
        layout[f"xaxis{number}"] |= {"tickformat": ".0%"}
    return figure("robustness", data, layout, _robustness_words(found), narrow=stacked(UNDER, 1.06))


def _robustness_words(found: Robustness) -> str:
    parts = []
    for name in found.arms:
        loss, right = found.loss(name), found.right(name)
        parts.append(
            say(
                "{arm}: the loss is {clean:.3f} without noise and {noisy:.3f} ({low:.3f} to {high:.3f}) at "
                "{strength:.0%}; the share of correct answers is {before:.0%} without noise and {after:.0%} with it.",
                arm=arm_words(name),
                clean=loss[0].estimate,
                noisy=loss[-1].estimate,
                low=loss[-1].low,
                high=loss[-1].high,
                strength=found.strengths[-1],
                before=right[0].estimate,
                after=right[-1].estimate,
            )
        )
    words = plural(
        len(found.tokens),
        "{rows} held-out row under Gaussian noise at test time, the same draw for all arms; bands are 95% intervals "
        "over the rows. An answer is correct if each of its tokens is ranked first.",
        "{rows} held-out rows under Gaussian noise at test time, the same draws for all arms; bands are 95% intervals "
        "over the rows. An answer is correct if each of its tokens is ranked first.",
    )
    return " ".join([say(words, rows=len(found.tokens)), *parts])


def weights_figure(
    found: Mapping[str, Mapping[str, Update]], layers: Sequence[str], arms: Mapping[str, NoiseSettings]
) -> Figure:
    """Plot the norm of each layer's adapter update, and its angle to the control's update.

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
        for panel, part in enumerate(("norm", "angle"), start=1):
            values = [getattr(own.get(layer), part, None) for layer in layers]
            if panel == 1 or any(value is not None for value in values):
                data.append(_line(name, panel, layers, values, colours[name]))
    titles = (
        (later("Size of the update"), later("Frobenius norm"), ""),
        (later("Angle to the control"), later("degrees"), ""),
    )
    layout = side_by_side((later("layer"), ""), titles, WIDE) | SIZE
    for number in ("", "2"):
        layout[f"xaxis{number}"] |= {"type": "category"}
        layout[f"yaxis{number}"] |= {"rangemode": "tozero"}
    return figure("weights", data, layout, _weights_words(found), narrow=stacked(UNDER, 1.06))


def _weights_words(found: Mapping[str, Mapping[str, Update]]) -> str:
    parts = [
        say(
            "The update that the adapters make to each layer, over all its adapted modules. The update of a module is "
            "scale times B A, where A and B are the matrices of its adapter."
        )
    ]
    for name, own in found.items():
        layer, largest = max(own.items(), key=lambda item: item[1].norm)
        total = sum(update.norm**2 for update in own.values()) ** 0.5
        parts.append(
            say(
                "{arm}: norm {total:.3g}, largest in layer {layer} ({norm:.3g}).",
                arm=arm_words(name),
                total=total,
                layer=layer,
                norm=largest.norm,
            )
        )
        angles = [update.angle for update in own.values() if update.angle is not None]
        if angles:
            words = later("The angle between this update and the control's is {low:.0f} to {high:.0f} degrees.")
            parts.append(say(words, low=min(angles), high=max(angles)))
    return " ".join(parts)


def _line(name: str, panel: int, x: Sequence[Any], y: Sequence[float | None], colour: str) -> Trace:
    rounded = [None if value is None else round(value, 5) for value in y]
    style = {"mode": "lines+markers", "showlegend": panel == 1, "marker": {"color": colour, "size": 6}}
    more = style | in_panel(panel) | {"legendgroup": name}
    return line_trace(f"{name}/{panel}", arm_words(name), x, rounded, colour, "%{y:.3g}", width=2, **more)


def _band(name: str, panel: int, x: Sequence[float], values: Sequence[Interval], colour: str) -> Trace:
    """Return the interval around a line as a closed shape."""
    ends = [*(one.high for one in values), *(one.low for one in reversed(values))]
    return {
        **in_panel(panel),
        "type": "scatter",
        "mode": "lines",
        "uid": f"{name}/{panel}/interval",
        "legendgroup": name,
        "name": say("{arm}, 95% interval", arm=arm_words(name)),
        "showlegend": False,
        "x": [*x, *reversed(x)],
        "y": [round(value, 5) for value in ends],
        "fill": "toself",
        "fillcolor": colour,
        "opacity": BAND_OPACITY,
        "line": {"width": 0, "color": colour},
        "hoverinfo": "skip",
    }
