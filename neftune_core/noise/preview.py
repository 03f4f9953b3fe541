"""Statistics of the noise on a sentence, which allow the browser to draw it at any strength.

For unit noise `u` on a clean vector `e` and a standard deviation `s`, `|e + s u|^2 = |e|^2 + 2 s (e . u) + s^2 |u|^2`
and `cos(e, e + s u) = (|e|^2 + s e . u) / (|e| |e + s u|)`, so `|e|^2`, `e . u` and `|u|^2` are enough. In a plane
whose orthonormal axes are the rows of `P`, the noisy vector is at `P e + s P u`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neftune_core.noise.kinds import EMBEDDING_SITE, KINDS, draw_unit

Vectors = NDArray[np.float32]

DRAWN_AS = {
    name: next(other for other, first in KINDS.items() if first.draw is kind.draw) for name, kind in KINDS.items()
}
"""Maps each kind to the first kind with the same draw: "symmetric" to "bernoulli", "adversarial" to "uniform"."""

DRAWS = 16
"""Number of draws in `spread`; the first is the draw of `preview`."""

PADDED_LENGTH = 512
"""Length of the longest row in the batch, in tokens, that the Noise tab assumes for the padded length rule."""

BINS_PER_DEVIATION, DEVIATIONS_SHOWN = 8, 4.5
"""Histogram bins per standard deviation, and half-width of a histogram in standard deviations."""

RESOLUTION = 4000
"""Integer steps per standard deviation in `spread`; int16 covers more than eight standard deviations on each side."""

REALISED_AT = tuple(10 ** (power / 2 - 5) for power in range(11))
"""Standard deviations at which rounding is measured, as multiples of the clean root-mean-square coordinate."""


@dataclass(frozen=True, eq=False)
class Sentence:
    """A text and its vectors at one site of a model.

    Attributes:
        clean: Clean vectors, `[length, width]`.
        special: True on special tokens, `[length]`.
        precision: dtype in which the model computes.
        site: Key of the site, part of the key of each draw.
        vocabulary: Yields the vectors of all tokens in chunks ordered by id; empty if the site is not an embedding.
        vocabulary_size: Number of tokens in the vocabulary.
        word: Returns the text of a token id.
        about: Further entries of the payload of `preview`.
    """

    tokens: list[str]
    clean: Vectors
    special: NDArray[np.bool_]
    precision: str = "float32"
    site: int = EMBEDDING_SITE
    vocabulary: Callable[[], Iterator[Vectors]] = lambda: iter(())
    vocabulary_size: int = 0
    word: Callable[[int], str] = str
    about: dict[str, Any] = field(default_factory=dict)


def preview(sentence: Sentence, seed: int) -> dict[str, Any]:
    """Compute the statistics of a sentence's noise as JSON-compatible values.

    Args:
        sentence: Sentence at one site of a model.
        seed: Study seed of the draws.

    Returns:
        A dict that contains, among others:

        * `signal`: `|e|^2` per token.
        * `root_mean_square`: root mean square of all clean coordinates.
        * `realised`: pairs of a standard deviation and the share of such noise that survives rounding to bfloat16;
          empty for other precisions.
        * `kinds`: `DRAWN_AS` without kinds that drop tokens.
        * `dropped_below`: for each kind that drops tokens, the strength above which each token is dropped.
        * `draws`: for each draw `u`, which has standard deviation 1 per coordinate, `dot` (`e . u`), `square` (`|u|^2`)
          and `plane` (`P u`) per token, and `histogram` of all coordinates.
    """
    clean = sentence.clean
    length, width = clean.shape
    signal = _by_token(clean, clean)
    root_mean_square = float(np.sqrt(signal.sum() / (length * width)))
    axes, share = plane_axes(clean)
    mean = clean.mean(0)
    origin = ((np.zeros_like(clean[:1]) - mean) @ axes)[0]
    shown = {name: drawn for name, drawn in DRAWN_AS.items() if not KINDS[name].drops}
    units = {drawn: unit_draw(sentence, drawn, seed) for drawn in dict.fromkeys(shown.values())}
    return {
        "tokens": list(sentence.tokens),
        "length": length,
        "width": width,
        "special": np.flatnonzero(sentence.special).tolist(),
        "signal": rounded(signal),
        "root_mean_square": root_mean_square,
        "precision": sentence.precision,
        "realised": _realised_noise(sentence, units["uniform"], root_mean_square),
        "clean_histogram": _histogram(clean / np.float32(root_mean_square or 1.0)),
        "plane": {**points((clean - mean) @ axes), "origin": rounded(origin), "share": share},
        "kinds": shown,
        "dropped_below": {
            name: rounded(unit_draw(sentence, name, seed)[:, 0]) for name, kind in KINDS.items() if kind.drops
        },
        "draws": {
            name: {
                "dot": rounded(_by_token(clean, unit)),
                "square": rounded(_by_token(unit, unit)),
                "histogram": _histogram(unit),
                "plane": points(unit @ axes),
            }
            for name, unit in units.items()
        },
        **sentence.about,
    }


def unit_draw(sentence: Sentence, kind: str, seed: int, epoch: int = 0) -> Vectors:
    """Return the draw that training would use if the sentence were its first example.

    Args:
        sentence: Sentence; its shape and site determine the draw.
        kind: Kind of noise, a key of `KINDS`.
        seed: Study seed.
        epoch: Epoch, from 0.

    Returns:
        `[length, width]` float32; `[length, 1]` for kinds that drop tokens.

    Raises:
        InvalidSetting: If `seed` or `epoch` is negative.
    """
    length, width = sentence.clean.shape
    return draw_unit(kind, (seed, epoch, 0, sentence.site), length, width)


def spread(sentence: Sentence, seed: int) -> dict[str, Any]:
    """Compute per-token statistics of `DRAWS` draws, quantised to int16 for the browser.

    Args:
        sentence: Sentence at one site of a model.
        seed: Study seed of the draws.

    Returns:
        A dict with three entries:

        * `kinds`: names of the kinds, in the order of `numbers`.
        * `draws`: number of draws per kind.
        * `numbers`: base64 of little-endian int16 `[kinds, draws, 4, length]`. The four values are `e . u / |e|`,
          `(|u|^2 - width) / sqrt(width)` and the two plane coordinates of `u`, each times `RESOLUTION`.
    """
    clean = sentence.clean
    axes, _ = plane_axes(clean)
    names = [name for name, drawn in DRAWN_AS.items() if name == drawn and not KINDS[name].drops]
    norms = np.sqrt(_by_token(clean, clean))
    numbers = [
        [_draw_numbers(clean, norms, axes, unit_draw(sentence, name, seed, epoch)) for epoch in range(DRAWS)]
        for name in names
    ]
    limit = np.iinfo(np.int16).max
    quantised = np.rint(np.array(numbers) * RESOLUTION).clip(-limit, limit).astype("<i2")
    return {"kinds": names, "draws": DRAWS, "numbers": base64.b64encode(quantised.tobytes()).decode()}


def plane_axes(clean: Vectors) -> tuple[Vectors, float]:
    """Return the first two principal axes, `[width, 2]` orthonormal, and the share of variance that they explain."""
    centred = clean - clean.mean(0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    components = centred.T @ vectors[:, ::-1][:, :2]
    missing = np.eye(len(components), 2 - components.shape[1], dtype=np.float32)  # for a text of one token
    axes = np.linalg.qr(np.column_stack([components, missing]))[0]
    total = float(values.sum())
    return axes.astype(np.float32), float(values[::-1][:2].sum()) / total if total > 0 else 0.0


def to_bfloat16(values: Vectors) -> Vectors:
    """Round to the nearest bfloat16 (ties to even), and return the result as float32."""
    import torch

    return torch.from_numpy(values).bfloat16().float().numpy()


def surviving_share(clean: Vectors, noise: Vectors) -> float:
    """Return the share of the noise that survives when clean vector plus noise is rounded to bfloat16.

    Args:
        clean: Clean vectors.
        noise: Noise of the same shape.

    Returns:
        Coefficient of the projection of the change after rounding onto `noise`: about 1 if rounding is unbiased, 0 if
        the rounded vectors do not change.
    """
    added = to_bfloat16(clean + noise) - to_bfloat16(clean)
    intended = float(np.vdot(noise, noise))
    return float(np.vdot(added, noise)) / intended if intended else 1.0


def _realised_noise(sentence: Sentence, unit: Vectors, root_mean_square: float) -> list[list[float]]:
    """Return pairs of a standard deviation and the share of such uniform noise that survives rounding to bfloat16.

    Return an empty list unless the model computes in bfloat16.
    """
    if sentence.precision != "bfloat16":
        return []
    deviations = np.multiply(REALISED_AT, root_mean_square)
    shares = [round(surviving_share(sentence.clean, unit * np.float32(deviation)), 3) for deviation in deviations]
    return [list(pair) for pair in zip(rounded(deviations, 4), shares, strict=True)]


def _draw_numbers(clean: Vectors, norms: NDArray[np.float64], axes: Vectors, unit: Vectors) -> NDArray[np.float64]:
    """Return the numbers of one draw, `[4, length]`; see `spread`."""
    width = clean.shape[1]
    dot = _by_token(clean, unit) / np.where(norms > 0, norms, 1.0)
    square = (_by_token(unit, unit) - width) / np.sqrt(width)
    return np.vstack([dot, square, (unit @ axes).T])


def _by_token(one: Vectors, other: Vectors) -> NDArray[np.float64]:
    return np.einsum("lw,lw->l", one, other, dtype=np.float64)


def _histogram(values: Vectors) -> list[int]:
    """Count the values per bin; values beyond the outermost bins are ignored."""
    count = round(2 * BINS_PER_DEVIATION * DEVIATIONS_SHOWN)
    bins = np.floor(values.ravel() * np.float32(BINS_PER_DEVIATION)).astype(np.int64) + count // 2
    return np.bincount(bins[(bins >= 0) & (bins < count)], minlength=count).tolist()


def points(coordinates: Vectors) -> dict[str, list[float]]:
    """Return plane coordinates `[points, 2]` as lists `x` and `y`."""
    return {"x": rounded(coordinates[:, 0], 4), "y": rounded(coordinates[:, 1], 4)}


def rounded(values: NDArray[Any], digits: int = 6) -> list[float]:
    """Round to significant digits.

    Args:
        values: Numbers to round.
        digits: Number of digits; the default of six is finer than any screen resolution.

    Returns:
        The rounded numbers.
    """
    return [float(f"{value:.{digits}g}") for value in values]
