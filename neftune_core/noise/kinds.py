"""The kinds of noise: one entry each. Every draw has mean 0 and standard deviation 1 per coordinate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neftune_core.randomness import Purpose, stream

EMBEDDING_SITE = 0

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float32]]


@dataclass(frozen=True)
class Kind:
    """One distribution.

    `draw(generator, (length, width))` gives float32 of that shape, mean 0, standard deviation 1.
    `bound` is the largest magnitude it can give; `kurtosis` its fourth standardised moment.
    """

    words: str
    draw: Draw
    bound: float
    kurtosis: float


def _uniform(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    draw = generator.random(shape, dtype=np.float32)
    draw -= np.float32(0.5)
    draw *= np.float32(2 * math.sqrt(3))
    return draw


def _gaussian(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    return generator.standard_normal(shape, dtype=np.float32)


def _laplace(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """An exponential with a random sign; its scale 1/sqrt(2) gives a variance of 1."""
    draw = generator.standard_exponential(shape, dtype=np.float32)
    draw *= np.float32(1 / math.sqrt(2))
    signs = generator.integers(0, 2, shape, dtype=np.int8)
    return np.where(signs == 0, draw, -draw)


KINDS: dict[str, Kind] = {
    "uniform": Kind("Uniform (the paper's)", _uniform, bound=math.sqrt(3), kurtosis=1.8),
    "gaussian": Kind("Gaussian", _gaussian, bound=math.inf, kurtosis=3.0),
    "laplace": Kind("Laplace", _laplace, bound=math.inf, kurtosis=6.0),
}


def noise_key(seed: int, epoch: int, example: int, site: int = EMBEDDING_SITE) -> tuple[int, int, int, int]:
    """What a draw of the engine depends on, and nothing else: study seed, epoch, example and site."""
    return (seed, epoch, example, site)


def draw_unit(
    kind: str, key: tuple[int, ...], length: int, width: int, purpose: Purpose = Purpose.NOISE
) -> NDArray[np.float32]:
    """The unit draw of one example, shape `[length, width]`, float32.

    It depends on `key` (non-negative integers, see `noise_key`) and the shape alone, so that padding, batching,
    order and resuming change nothing. Raises `InvalidSetting` for a negative number.
    """
    return KINDS[kind].draw(stream(purpose, *key), (length, width))
