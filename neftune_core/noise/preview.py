"""The few numbers from which a browser redraws noise on a sentence at any strength.

For unit noise u on a clean vector e and a standard deviation s, |e + s u|^2 = |e|^2 + 2 s (e . u) + s^2 |u|^2
and cos(e, e + s u) = (|e|^2 + s e . u) / (|e| |e + s u|): three numbers a token and kind are enough. In a plane
with orthonormal axes P the noised vector lies at P e + s P u.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neftune_core.noise.kinds import EMBEDDING_SITE, KINDS, draw_unit, noise_key

Vectors = NDArray[np.float32]

DRAWN_AS = {
    name: next(other for other, first in KINDS.items() if first.draw is kind.draw) for name, kind in KINDS.items()
}
"""The kind whose draw each one begins with: a symmetric pair with Bernoulli's, an ascent with the uniform."""

DRAWS = 16
"""Repeated draws of the spread; the first one is the draw that is shown."""

BINS_A_DEVIATION, DEVIATIONS_SHOWN = 8, 4.5
"""Histograms have this many bins a standard deviation, and reach that many to each side."""

FINENESS = 4000
"""The spread is sent in whole numbers of this part of a standard deviation: two bytes reach to eight of them."""

REALISED_AT = tuple(10 ** (power / 2 - 5) for power in range(11))
"""Standard deviations, as multiples of the clean coordinates' root mean square, at which rounding is measured."""


@dataclass(frozen=True, eq=False)
class Sentence:
    """A text as a model reads it at one place.

    `clean` is `[length, width]`; `special` marks the tokenizer's special tokens, `[length]`. `site` is the key of
    the place in a draw. `vocabulary()` gives the vectors of all `vocabulary_size` tokens in pieces, in the order of
    their numbers (none where the place is no embedding), and `word` the text of a number. `about` is told with the
    numbers.
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
    """Numbers of a sentence's noise, ready for JSON.

    `signal` (|e|^2) by token, `root_mean_square` (of one clean coordinate), `special` (places), `precision` and
    `realised` (what bfloat16 leaves of the noise, else empty), `clean_histogram`, `plane`, `kinds` (`DRAWN_AS`
    without the dropping ones), `dropped_below` (the share from which token dropout takes each token) and `draws`:
    for each draw `dot` (e . u) and `square` (|u|^2) by token, `histogram` and `plane`, where u has a standard
    deviation of 1 per coordinate.
    """
    clean = sentence.clean
    length, width = clean.shape
    signal = _by_token(clean, clean)
    root_mean_square = float(np.sqrt(signal.sum() / (length * width)))
    axes, share = plane_axes(clean)
    shown = {name: drawn for name, drawn in DRAWN_AS.items() if not KINDS[name].drops}
    units = {drawn: unit_draw(sentence, drawn, seed) for drawn in dict.fromkeys(shown.values())}
    return {
        "tokens": list(sentence.tokens),
        "length": length,
        "width": width,
        "special": np.flatnonzero(sentence.special).tolist(),
        "signal": _rounded(signal),
        "root_mean_square": root_mean_square,
        "precision": sentence.precision,
        "realised": _realised(sentence, units["uniform"], root_mean_square),
        "clean_histogram": _histogram(clean / np.float32(root_mean_square or 1.0)),
        "plane": _plane(clean, axes) | {"share": share},
        "kinds": shown,
        "dropped_below": _rounded(unit_draw(sentence, "token-dropout", seed)[:, 0]),
        "draws": {name: _numbers(clean, unit, axes) for name, unit in units.items()},
        **sentence.about,
    }


def unit_draw(sentence: Sentence, kind: str, seed: int, epoch: int = 0) -> Vectors:
    """What training would draw for the sentence in that epoch, were it the first example of its data."""
    length, width = sentence.clean.shape
    return draw_unit(kind, noise_key(seed, epoch, 0, sentence.site), length, width)


def spread(sentence: Sentence, seed: int) -> dict[str, Any]:
    """The same numbers over `DRAWS` draws, in two bytes each, to be read in the browser.

    `kinds` names the draws in order; `numbers` is base64 of little-endian int16 `[kinds, draws, 4, length]`: e . u
    over |e|, |u|^2 less the width over its root, and the two coordinates in the plane, times `FINENESS`.
    """
    clean = sentence.clean
    axes, _ = plane_axes(clean)
    names = [name for name, drawn in DRAWN_AS.items() if name == drawn and not KINDS[name].drops]
    norms = np.sqrt(_by_token(clean, clean))
    numbers = [
        [_standardised(clean, norms, axes, unit_draw(sentence, name, seed, epoch)) for epoch in range(DRAWS)]
        for name in names
    ]
    limit = np.iinfo(np.int16).max
    whole = np.rint(np.array(numbers) * FINENESS).clip(-limit, limit).astype("<i2")
    return {"kinds": names, "draws": DRAWS, "numbers": base64.b64encode(whole.tobytes()).decode()}


def plane_axes(clean: Vectors) -> tuple[Vectors, float]:
    """The plane of the sentence's two principal components, `[width, 2]` orthonormal, and its share of the variance."""
    centred = clean - clean.mean(0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    components = centred.T @ vectors[:, ::-1][:, :2]
    missing = np.eye(len(components), 2 - components.shape[1], dtype=np.float32)  # of a text of one token
    axes = np.linalg.qr(np.column_stack([components, missing]))[0]
    total = float(values.sum())
    return axes.astype(np.float32), float(values[::-1][:2].sum()) / total if total > 0 else 0.0


def in_plane(vectors: Vectors, clean: Vectors, axes: Vectors) -> Vectors:
    """Where `vectors` lie in the plane whose middle is the mean of `clean`, `[..., 2]`."""
    return (vectors - clean.mean(0)) @ axes


def to_bfloat16(values: Vectors) -> Vectors:
    """The nearest bfloat16 numbers, ties to even, as float32."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def realised_share(clean: Vectors, noise: Vectors) -> float:
    """How much of `noise` is left when it is added to `clean` and the sum kept in bfloat16.

    1 where rounding is fair to it, 0 where the vectors stay as they were: the projection of what was added in
    fact on what was to be added.
    """
    added = to_bfloat16(clean + noise) - to_bfloat16(clean)
    wanted = float(np.vdot(noise, noise))
    return float(np.vdot(added, noise)) / wanted if wanted else 1.0


def _realised(sentence: Sentence, unit: Vectors, root_mean_square: float) -> list[list[float]]:
    """Standard deviation and realised share, measured on the uniform draw, in a model that computes in bfloat16."""
    if sentence.precision != "bfloat16":
        return []
    deviations = [root_mean_square * multiple for multiple in REALISED_AT]
    return [
        [float(f"{deviation:.4g}"), round(realised_share(sentence.clean, unit * np.float32(deviation)), 3)]
        for deviation in deviations
    ]


def _numbers(clean: Vectors, unit: Vectors, axes: Vectors) -> dict[str, Any]:
    return {
        "dot": _rounded(_by_token(clean, unit)),
        "square": _rounded(_by_token(unit, unit)),
        "histogram": _histogram(unit),
        "plane": _points(unit @ axes),
    }


def _standardised(clean: Vectors, norms: NDArray[np.float64], axes: Vectors, unit: Vectors) -> NDArray[np.float64]:
    """`[4, length]`; see `spread`."""
    width = clean.shape[1]
    dot = _by_token(clean, unit) / np.where(norms > 0, norms, 1.0)
    square = (_by_token(unit, unit) - width) / np.sqrt(width)
    return np.vstack([dot, square, (unit @ axes).T])


def _by_token(one: Vectors, other: Vectors) -> NDArray[np.float64]:
    """The dot product of each row with its counterpart."""
    return np.einsum("lw,lw->l", one, other, dtype=np.float64)


def _histogram(values: Vectors) -> list[int]:
    """How many of `values` fall into each bin; those beyond the last bins are in none."""
    count = round(2 * BINS_A_DEVIATION * DEVIATIONS_SHOWN)
    places = np.floor(values.ravel() * np.float32(BINS_A_DEVIATION)).astype(np.int64) + count // 2
    return np.bincount(places[(places >= 0) & (places < count)], minlength=count).tolist()


def _plane(clean: Vectors, axes: Vectors) -> dict[str, Any]:
    """Where the tokens lie, and where the zero vector does."""
    origin = in_plane(np.zeros((1, clean.shape[1]), dtype=np.float32), clean, axes)
    return _points(in_plane(clean, clean, axes)) | {"origin": _rounded(origin[0])}


def _points(places: Vectors) -> dict[str, list[float]]:
    return {"x": _rounded(places[:, 0], 4), "y": _rounded(places[:, 1], 4)}


def _rounded(values: NDArray[Any], digits: int = 6) -> list[float]:
    """Six significant digits: finer than any screen, and half the bytes."""
    return [float(f"{value:.{digits}g}") for value in values]
