"""The norm of every token's embedding, before and after noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neftune_core.figures.base import Figure, axis, figure
from neftune_core.figures.colours import SINGLE_NOISE, token
from neftune_core.language import later, say
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation

Payload = Mapping[str, Any]

PADDED_LENGTH = 512
"""The padded length that is pictured: that of a batch whose longest row has as many tokens."""

MARGIN = {"l": 60, "r": 8, "t": 36, "b": 92}  # fixed: the page sketches bars there before Plotly is loaded
HEIGHT = 380


@dataclass(frozen=True)
class Measured:
    """What a noise does to each token of a preview: its norm before and after, the cosine of the two vectors (NaN
    where there is none), and the norm of the noise over that of the clean vector."""

    before: list[float]
    after: list[float]
    cosines: list[float]
    shares: list[float]


def measured(payload: Payload, noise: NoiseSettings) -> Measured:
    """From |e|^2, e . u and |u|^2 of every token. A special token that gets no noise, and the strength where a
    schedule multiplies it by 1, are as training would have them; the prompt is not told from the response."""
    before = [math.sqrt(value) for value in payload["signal"]]
    changes = [_changed(payload, noise, place) for place in range(payload["length"])]
    after = [math.sqrt(max(0.0, square)) for square, _, _ in changes]
    cosines = [
        dot / (clean * noisy) if clean and noisy else math.nan
        for (_, dot, _), clean, noisy in zip(changes, before, after, strict=True)
    ]
    shares = [added / clean if clean else 0.0 for (_, _, added), clean in zip(changes, before, strict=True)]
    return Measured(before, after, cosines, shares)


def _changed(payload: Payload, noise: NoiseSettings, place: int) -> tuple[float, float, float]:
    """|n|^2, e . n and |n - e| of one token's noisy vector n."""
    signal = payload["signal"][place]
    if not noise.special_tokens and place in payload["special"]:
        return signal, signal, 0.0
    if KINDS[noise.kind].drops:
        gone = payload["dropped_below"][place] < noise.strength
        return (0.0, 0.0, math.sqrt(signal)) if gone else (signal, signal, 0.0)
    draw = payload["draws"][payload["kinds"][noise.kind]]
    s, dot, square = deviation(payload, noise), draw["dot"][place], draw["square"][place]
    return signal + 2 * s * dot + s**2 * square, signal + s * dot, s * math.sqrt(square)


def deviation(payload: Payload, noise: NoiseSettings) -> float:
    """The standard deviation of one coordinate on the sentence of a preview; the padded rule sees `PADDED_LENGTH`."""
    length = payload["length"] if noise.length_rule == "true" else max(payload["length"], PADDED_LENGTH)
    return standard_deviation(noise.strength, noise.unit, length, payload["width"], payload["root_mean_square"])


def token_norms(payload: Payload, noise: NoiseSettings) -> Figure:
    """Two bars a token: its norm as the model reads it without noise, and with this draw of `noise`.

    `payload` is what `neftune_core.noise.preview.preview` gives. The page draws the same from the same numbers in
    the browser (assets/page/noise.js).
    """
    found = measured(payload, noise)
    positions = list(range(payload["length"]))
    layout = token_layout(payload, later("norm"), later("L2"), rangemode="tozero")
    layout["yaxis"]["range"] = [0, 1.15 * max([*found.before, *found.after], default=1.0)]
    data = [
        _bars(say("before noise"), positions, found.before, token("base"), width=0.8),
        _bars(say("after noise"), positions, found.after, SINGLE_NOISE, width=0.44),
    ]
    summary = say(
        "{count} tokens. Mean norm {before:.3g} before noise, {after:.3g} after.",
        count=payload["length"],
        before=_mean(found.before),
        after=_mean(found.after),
    )
    return figure("token-norms", data, layout, summary, narrow=NARROW)


NARROW: dict[str, Any] = {"xaxis": {"tickangle": -60, "tickfont": {"size": 11}}, "margin": {"l": 52, "r": 4}}
"""What changes in `token_layout` on a narrow screen."""


def token_layout(payload: Payload, title: str, unit: str = "", **vertical: Any) -> dict[str, Any]:
    """The tokens named along the lower axis, and `title` along the other."""
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
            ticktext=[shown(word) for word in payload["tokens"][::every]],
            tickangle=-45,
            automargin=False,
            showgrid=False,
            zeroline=False,
            range=[-0.6, length - 0.4],
        ),
        "yaxis": axis(title, unit, automargin=False, **vertical),
        "hovermode": "x",
    }


def _bars(name: str, positions: list[int], heights: list[float], colour: str, width: float) -> dict[str, Any]:
    return {
        "type": "bar",
        "uid": name,
        "name": name,
        "x": positions,
        "y": heights,
        "width": width,
        "marker": {"color": colour, "line": {"width": 0}},
        "hovertemplate": f"{name}: %{{y:.3g}}<extra></extra>",
    }


def shown(word: str) -> str:
    """A token short enough to stand under a bar, its leading space and line breaks made visible."""
    visible = word.strip(" ") or "␣"
    visible = visible.replace("\n", "↵").replace("\t", "⇥").replace("<", "&lt;")
    return visible if len(visible) <= 14 else visible[:13] + "…"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
