"""The norm of every token's embedding, before and after noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neftune_core.figures.base import Figure, axis, figure, hover
from neftune_core.figures.colours import SINGLE_NOISE, token
from neftune_core.language import later, plural, say
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.preview import PADDED_LENGTH
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation

Payload = Mapping[str, Any]

MARGIN = {"l": 60, "r": 8, "t": 36, "b": 92}  # fixed: the page draws placeholder bars before Plotly is loaded
HEIGHT = 380


@dataclass(frozen=True)
class TokenEffects:
    """The effect of noise on each token of a preview.

    Attributes:
        before: L2 norm of each clean vector.
        after: L2 norm of each noisy vector.
        cosines: Cosine between the two vectors; NaN if either is zero.
        shares: Norm of the noise divided by the norm of the clean vector.
    """

    before: list[float]
    after: list[float]
    cosines: list[float]
    shares: list[float]


def token_effects(payload: Payload, noise: NoiseSettings) -> TokenEffects:
    """Compute the effect of noise on each token from `|e|^2`, `e . u` and `|u|^2`.

    Here `e` is the embedding of the token, and `u` is the unit draw.

    As in training, special tokens get noise only if the settings include them. A schedule counts as a factor of 1, and
    prompt and response are not distinguished.

    Args:
        payload: A preview, from `neftune_core.noise.preview.preview`.
        noise: The noise.

    Returns:
        The norms, cosines and shares, one per token.
    """
    before = [math.sqrt(value) for value in payload["signal"]]
    changes = [_noisy_products(payload, noise, index) for index in range(payload["length"])]
    after = [math.sqrt(max(0.0, square)) for square, _, _ in changes]
    cosines = [
        dot / (clean * noisy) if clean and noisy else math.nan
        for (_, dot, _), clean, noisy in zip(changes, before, after, strict=True)
    ]
    shares = [added / clean if clean else 0.0 for (_, _, added), clean in zip(changes, before, strict=True)]
    return TokenEffects(before, after, cosines, shares)


def _noisy_products(payload: Payload, noise: NoiseSettings, index: int) -> tuple[float, float, float]:
    """Return `|n|^2`, `e . n` and `|n - e|` for the clean vector `e` and the noisy vector `n` of one token."""
    signal = payload["signal"][index]
    if not noise.special_tokens and index in payload["special"]:
        return signal, signal, 0.0
    if KINDS[noise.kind].drops:
        dropped = payload["dropped_below"][noise.kind][index] < noise.strength
        return (0.0, 0.0, math.sqrt(signal)) if dropped else (signal, signal, 0.0)
    draw = payload["draws"][payload["kinds"][noise.kind]]
    s, dot, square = deviation(payload, noise), draw["dot"][index], draw["square"][index]
    return signal + 2 * s * dot + s**2 * square, signal + s * dot, s * math.sqrt(square)


def deviation(payload: Payload, noise: NoiseSettings) -> float:
    """Compute the standard deviation of one coordinate of the noise on the sentence of a preview.

    Args:
        payload: A preview.
        noise: The noise; with the padded length rule, the length is at least `PADDED_LENGTH`.

    Returns:
        The standard deviation.
    """
    length = payload["length"] if noise.length_rule == "true" else max(payload["length"], PADDED_LENGTH)
    return standard_deviation(noise.strength, noise.unit, length, payload["width"], payload["root_mean_square"])


def token_norms(payload: Payload, noise: NoiseSettings) -> Figure:
    """Plot two bars per token: its norm without noise, and with one draw of the noise.

    The page draws the same figure from the same numbers in the browser (assets/page/noise.js).

    Args:
        payload: A preview, from `neftune_core.noise.preview.preview`.
        noise: The noise.

    Returns:
        The figure.
    """
    found, count = token_effects(payload, noise), payload["length"]
    positions = list(range(count))
    layout = token_layout(payload, later("norm"), later("L2"), rangemode="tozero")
    layout["yaxis"]["range"] = [0, 1.15 * max([*found.before, *found.after], default=1.0)]
    data = [
        _bars(say("before noise"), positions, found.before, token("base"), width=0.8),
        _bars(say("after noise"), positions, found.after, SINGLE_NOISE, width=0.44),
    ]
    summary = say(
        plural(
            count,
            "{count} token. Mean norm {before:.3g} before noise, {after:.3g} after.",
            "{count} tokens. Mean norm {before:.3g} before noise, {after:.3g} after.",
        ),
        count=count,
        before=sum(found.before) / max(1, count),
        after=sum(found.after) / max(1, count),
    )
    return figure("token-norms", data, layout, summary, narrow=NARROW)


NARROW: dict[str, Any] = {"xaxis": {"tickangle": -60, "tickfont": {"size": 11}}, "margin": {"l": 52, "r": 4}}
"""Changes to `token_layout` on a narrow screen."""


def token_layout(payload: Payload, title: str, unit: str = "", **vertical: Any) -> dict[str, Any]:
    """Build a layout with the tokens along the horizontal axis.

    Args:
        payload: A preview.
        title: Title of the vertical axis.
        unit: Unit of the vertical axis; "" for none.
        **vertical: Further Plotly properties of the vertical axis.

    Returns:
        A Plotly layout.
    """
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
            ticktext=[_axis_label(word) for word in payload["tokens"][::every]],
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
        "hovertemplate": hover(name, "%{y:.3g}"),
    }


def _axis_label(word: str) -> str:
    """Return a token shortened for an axis label; blank tokens, line breaks and tabs become visible symbols."""
    visible = word.strip(" ") or "␣"
    visible = visible.replace("\n", "↵").replace("\t", "⇥").replace("<", "&lt;")
    return visible if len(visible) <= 14 else visible[:13] + "…"
