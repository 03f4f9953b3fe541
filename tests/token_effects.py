"""The effect of noise on the tokens of a preview, computed in Python; the page computes it in JavaScript."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neftune_core.noise.kinds import KINDS
from neftune_core.noise.preview import PADDED_LENGTH
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation

Payload = Mapping[str, Any]


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
