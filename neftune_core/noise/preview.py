"""The few numbers from which a browser redraws noise on a sentence at any strength.

For unit noise u on a clean vector e and a standard deviation s, |e + s u|^2 = |e|^2 + 2 s (e . u) + s^2 |u|^2
and cos(e, e + s u) = (|e|^2 + s e . u) / (|e| |e + s u|): three numbers a token and kind are enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neftune_core.noise.kinds import KINDS, draw_unit, noise_key


def preview(clean: NDArray[np.float32], tokens: list[str], seed: int) -> dict[str, Any]:
    """Numbers of a sentence's noise, ready for JSON.

    `clean` is `[length, width]`, the sentence's embeddings, and `tokens` their texts. Comes back with `signal`
    (|e|^2 by token), `root_mean_square` (of one clean coordinate) and, for each kind, `dot` (e . u by token)
    and `square` (|u|^2 by token), where u has a standard deviation of 1 per coordinate.
    """
    length, width = clean.shape
    signal = np.einsum("lw,lw->l", clean, clean, dtype=np.float64)
    kinds = {}
    for name in KINDS:
        unit = draw_unit(name, noise_key(seed, 0, 0), length, width)
        dot = np.einsum("lw,lw->l", clean, unit, dtype=np.float64)
        square = np.einsum("lw,lw->l", unit, unit, dtype=np.float64)
        kinds[name] = {"dot": _rounded(dot), "square": _rounded(square)}
    return {
        "tokens": list(tokens),
        "length": length,
        "width": width,
        "signal": _rounded(signal),
        "root_mean_square": float(np.sqrt(signal.sum() / (length * width))),
        "kinds": kinds,
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    """Six significant digits: finer than any screen, and half the bytes."""
    return [float(f"{value:.6g}") for value in values]
