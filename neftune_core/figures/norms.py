"""The norm of every token's embedding, before and after noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from neftune_core.figures.base import Figure, axis, figure
from neftune_core.figures.colours import SINGLE_NOISE, token
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation

Payload = Mapping[str, Any]


def token_norms(payload: Payload, noise: NoiseSettings) -> Figure:
    """Two bars a token: its norm as the model reads it without noise, and with this draw of `noise`.

    `payload` is what `neftune_core.noise.preview.preview` gives. The page draws the same from the same numbers in
    the browser (assets/page/noise.js).
    """
    after = noisy_norms(payload, noise)
    before = [math.sqrt(value) for value in payload["signal"]]
    positions = list(range(payload["length"]))
    shell = token_norms_shell(payload)
    shell["data"] = [
        _bars("before noise", positions, before, token("base"), width=0.8),
        _bars("after noise", positions, after, SINGLE_NOISE, width=0.44),
    ]
    shell["layout"]["yaxis"]["range"] = [0, 1.15 * max([*before, *after], default=1.0)]
    shell["summary"] = (
        f"{payload['length']} tokens. Mean norm {_mean(before):.3g} before noise, {_mean(after):.3g} after."
    )
    return shell


def noisy_norms(payload: Payload, noise: NoiseSettings) -> list[float]:
    """|e + s u| of every token, from |e|^2, e . u and |u|^2."""
    deviation = standard_deviation(noise.strength, noise.unit, payload["length"], payload["width"])
    draw = payload["kinds"][noise.kind]
    return [
        math.sqrt(max(0.0, signal + 2 * deviation * dot + deviation**2 * square))
        for signal, dot, square in zip(payload["signal"], draw["dot"], draw["square"], strict=True)
    ]


def token_norms_shell(payload: Payload) -> Figure:
    """The figure without its bars: the axes, with the tokens named along the lower one."""
    length = payload["length"]
    every = max(1, math.ceil(length / 48))
    layout = {
        "barmode": "overlay",
        "bargap": 0.2,
        "height": 380,
        "margin": {
            "l": 60,
            "r": 8,
            "t": 36,
            "b": 92,
        },  # fixed: the page sketches the bars there before Plotly is loaded
        "xaxis": axis(
            "token",
            tickvals=list(range(0, length, every)),
            ticktext=[_shown(word) for word in payload["tokens"][::every]],
            tickangle=-45,
            automargin=False,
            showgrid=False,
            zeroline=False,
            range=[-0.6, length - 0.4],
        ),
        "yaxis": axis("norm of the embedding", "L2", rangemode="tozero", automargin=False),
        "hovermode": "x",
    }
    narrow = {"xaxis": {"tickangle": -60, "tickfont": {"size": 11}}, "margin": {"l": 52, "r": 4}}
    return figure("token-norms", [], layout, "", narrow=narrow)


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


def _shown(word: str) -> str:
    """A token short enough to stand under a bar, its leading space and line breaks made visible."""
    visible = word.strip(" ") or "␣"
    visible = visible.replace("\n", "↵").replace("\t", "⇥").replace("<", "&lt;")
    return visible if len(visible) <= 14 else visible[:13] + "…"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
