"""Nearest vocabulary token of each noisy vector, expressed as the strengths at which it changes.

Let `e` be the clean vector of a token, `u` its unit noise, `s` the strength and `v` a vocabulary vector. The squared
Euclidean distance is `|e + s u - v|^2 = s^2 |u|^2 + (D - 2 s g)` with `D = |e - v|^2` and `g = u . (v - e)`. The first
term is the same for all `v`. The second is a straight line in `s` for each `v`, and the nearest vector at strength `s`
is the one whose line is lowest there. Without noise, the nearest vector is `e` itself, whose line is 0. The nearest
vector first changes at the smallest `D / (2 g)` over all `v` with `g > 0`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neftune_core.noise.kinds import KINDS
from neftune_core.noise.preview import DRAWN_AS, Sentence, Vectors, plane_axes, points, unit_draw

CHANGES = 3
"""Maximum number of changes of the nearest token that are reported per token."""

NEIGHBOURS = 24
"""Maximum number of vocabulary tokens in the plot of the plane, in addition to those of the sentence."""

EQUAL = 1e-6
"""Vectors are considered equal if their squared distance is at most this share of the sum of their squared norms."""

PRODUCTS_AT_ONCE = 2**24
"""Maximum number of dot products with the vocabulary in memory at once."""

Changes = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Strengths at which the nearest vector changes, `[length, CHANGES]`, ascending and padded with infinity; and the index
of the vocabulary vector that is nearest above that strength."""


def nearest_tokens(sentence: Sentence, seed: int) -> dict[str, Any]:
    """Compute the strengths at which the nearest token of each vector changes, and the tokens near the sentence.

    Args:
        sentence: The sentence, with its vocabulary.
        seed: Study seed of the draws.

    Returns:
        Empty if the site has no vocabulary. Otherwise `changes`: for each draw and token a flat list of strength (std)
        and token text, at most `CHANGES` pairs; and `neighbours`: nearby vocabulary tokens with coordinates in the
        sentence's plane.
    """
    if not sentence.vocabulary_size:
        return {}
    names = [name for name in dict.fromkeys(DRAWN_AS.values()) if not KINDS[name].drops]
    found, closest = changes(sentence, {name: unit_draw(sentence, name, seed) for name in names})
    pairs = {
        name: [_strengths_and_words(*token, sentence) for token in zip(strengths.tolist(), ids.tolist(), strict=True)]
        for name, (strengths, ids) in found.items()
    }
    return {"changes": pairs, "neighbours": _neighbours(sentence, closest)}


def changes(sentence: Sentence, units: Mapping[str, Vectors]) -> tuple[dict[str, Changes], NDArray[np.int64]]:
    """Compute the strengths at which the nearest vocabulary vector changes.

    Args:
        sentence: The sentence, with its vocabulary.
        units: Unit draws by name, each `[length, width]`.

    Returns:
        The changes by name; and `[length]`, for each token the index of the vocabulary vector that is closest to the
        clean vector without being equal to it.
    """
    group = max(1, PRODUCTS_AT_ONCE // (sentence.vocabulary_size * (1 + len(units))))
    parts: dict[str, list[Changes]] = {name: [] for name in units}
    closest = []
    for start in range(0, len(sentence.clean), group):
        tokens = slice(start, start + group)
        few = {name: unit[tokens] for name, unit in units.items()}
        distances, slopes = _lines(sentence.clean[tokens], few, sentence.vocabulary())
        closest.append(distances.argmin(1))
        for name, slope in slopes.items():
            parts[name].append(_lower_envelope(distances, slope))
    joined = {
        name: (np.concatenate([strengths for strengths, _ in part]), np.concatenate([lines for _, lines in part]))
        for name, part in parts.items()
    }
    return joined, np.concatenate(closest)


def _lines(
    clean: Vectors, units: Mapping[str, Vectors], vocabulary: Iterator[Vectors]
) -> tuple[Vectors, dict[str, Vectors]]:
    """Return `D` (infinite for `e` itself) and `g` for each draw, `[length, vocabulary]` each."""
    length = len(clean)
    stacked = np.concatenate([clean, *units.values()])
    found = [(stacked @ piece.T, np.einsum("vw,vw->v", piece, piece)) for piece in vocabulary]
    products = np.concatenate([product for product, _ in found], axis=1)
    squares = np.einsum("lw,lw->l", clean, clean)[:, None] + np.concatenate([norms for _, norms in found])
    distances = squares - 2 * products[:length]
    distances[distances <= EQUAL * squares] = np.inf
    slopes = {}
    for index, (name, unit) in enumerate(units.items(), start=1):
        own = np.einsum("lw,lw->l", clean, unit)
        slopes[name] = products[index * length : (index + 1) * length] - own[:, None]
    return distances, slopes


def _lower_envelope(distances: Vectors, slopes: Vectors) -> Changes:
    """Return the first `CHANGES` changes of the lowest of the lines `D - 2 s g` as `s` grows from 0."""
    length = len(distances)
    strengths, lines = np.full((length, CHANGES), np.inf, np.float32), np.zeros((length, CHANGES), np.int64)
    height, slope = np.zeros(length, np.float32), np.zeros(length, np.float32)
    rows = np.arange(length)
    for change in range(CHANGES):
        steeper = slopes - slope[:, None]
        crossings = np.full_like(distances, np.inf)
        np.divide(distances - height[:, None], 2 * steeper, out=crossings, where=steeper > 0)
        line = lines[:, change] = crossings.argmin(1)
        strengths[:, change] = crossings[rows, line]
        crossed = np.isfinite(strengths[:, change])
        height = np.where(crossed, distances[rows, line], 0)
        slope = np.where(crossed, slopes[rows, line], np.inf)
    return strengths, lines


def _strengths_and_words(strengths: list[float], ids: list[int], sentence: Sentence) -> list[float | str]:
    """Return the finite strengths of one token, each with the text of the token that is nearest above that strength."""
    finite = [(s, number) for s, number in zip(strengths, ids, strict=True) if np.isfinite(s)]
    return [value for s, number in finite for value in (float(f"{s:.4g}"), sentence.word(number))]


def _neighbours(sentence: Sentence, closest: NDArray[np.int64]) -> dict[str, Any]:
    """Return up to `NEIGHBOURS` closest tokens that are not in the sentence, with their coordinates in its plane."""
    words = {number: sentence.word(number) for number in dict.fromkeys(closest.tolist())}
    others = [number for number in words if words[number] not in sentence.tokens][:NEIGHBOURS]
    axes, _ = plane_axes(sentence.clean)
    projected = (_vectors(sentence, others) - sentence.clean.mean(0)) @ axes
    return {"tokens": [words[number] for number in others], **points(projected)}


def _vectors(sentence: Sentence, numbers: list[int]) -> Vectors:
    """Return the vocabulary vectors with these indices, `[numbers, width]`."""
    found, before = np.empty((len(numbers), sentence.clean.shape[1]), np.float32), 0
    for piece in sentence.vocabulary():
        for index, number in enumerate(numbers):
            if before <= number < before + len(piece):
                found[index] = piece[number - before]
        before += len(piece)
    return found
