"""The kinds of noise: one entry each, and the unit draw of one example.

All kinds but token dropout are matched on their standard deviation. Some papers are not: a Gaussian "at alpha 5" drawn
as N(0, 1) * alpha / sqrt(L d) is sqrt(3) times stronger than the paper's uniform noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neftune_core.randomness import Purpose, stream

EMBEDDING_SITE = 0

Draw = Callable[[np.random.Generator, NDArray[np.float32]], None]


@dataclass(frozen=True)
class Kind:
    """One kind.

    `draw(generator, out)` fills `out`, float32 `[length, width]` and contiguous, with mean 0 and standard deviation 1
    per coordinate; for a kind that `drops`, `[length, 1]` with one number in [0, 1) a token, and the tokens below the
    strength are set to zero; the first token has 1 and stays. `bound` is the largest magnitude of a coordinate,
    `kurtosis` its fourth standardised moment. `passes` says what a training step needs: `one` draw, a `pair` of
    opposite signs, or an `ascent` on the loss from the first draw.
    """

    words: str
    draw: Draw
    bound: float
    kurtosis: float
    passes: str = "one"
    drops: bool = False


def _uniform(generator: np.random.Generator, out: NDArray[np.float32]) -> None:
    generator.random(out=out, dtype=np.float32)
    out -= np.float32(0.5)
    out *= np.float32(2 * math.sqrt(3))


def _gaussian(generator: np.random.Generator, out: NDArray[np.float32]) -> None:
    generator.standard_normal(out=out, dtype=np.float32)


def _laplace(generator: np.random.Generator, out: NDArray[np.float32]) -> None:
    """An exponential with a random sign; its scale 1/sqrt(2) gives a variance of 1."""
    generator.standard_exponential(out=out, dtype=np.float32)
    out *= np.float32(1 / math.sqrt(2))
    signs = np.empty_like(out)
    _signs(generator, signs)
    out *= signs


def _signs(generator: np.random.Generator, out: NDArray[np.float32]) -> None:
    bits = np.unpackbits(generator.integers(0, 256, -(-out.size // 8), dtype=np.uint8))
    out[...] = bits[: out.size].reshape(out.shape)
    out -= np.float32(0.5)
    out *= np.float32(2)


def _by_token(generator: np.random.Generator, out: NDArray[np.float32]) -> None:
    """Even numbers, but for the first token, which is never dropped.

    It sees only itself, so that at zero every layer of a model without biases gives it zero, the derivative of every
    norm there is 1 / sqrt(epsilon), and the gradient of SmolLM2-135M overflows (measured: NaN below layer 29).
    """
    generator.random(out=out, dtype=np.float32)
    out[0] = 1.0


KINDS: dict[str, Kind] = {
    "uniform": Kind("Uniform (the paper's)", _uniform, bound=math.sqrt(3), kurtosis=1.8),
    "gaussian": Kind("Gaussian", _gaussian, bound=math.inf, kurtosis=3.0),
    "laplace": Kind("Laplace", _laplace, bound=math.inf, kurtosis=6.0),
    "bernoulli": Kind("Bernoulli (plus or minus one size)", _signs, bound=1.0, kurtosis=1.0),
    "symmetric": Kind("Symmetric pairs (SymNoise)", _signs, bound=1.0, kurtosis=1.0, passes="pair"),
    "adversarial": Kind(
        "Adversarial (ascent from the uniform draw)", _uniform, bound=math.inf, kurtosis=1.8, passes="ascent"
    ),
    "token-dropout": Kind(
        "Token dropout (a control: whole tokens to zero)", _by_token, bound=1.0, kurtosis=1.8, drops=True
    ),
}


def noise_key(seed: int, epoch: int, example: int, site: int = EMBEDDING_SITE) -> tuple[int, int, int, int]:
    """What a draw of the engine depends on, and nothing else: study seed, epoch, example and site."""
    return (seed, epoch, example, site)


def draw_unit(
    kind: str, key: tuple[int, ...], length: int, width: int, purpose: Purpose = Purpose.NOISE
) -> NDArray[np.float32]:
    """The unit draw of one example, `[length, width]` float32 (`[length, 1]` for a kind that drops tokens).

    It depends on `key` (non-negative integers, see `noise_key`) and the shape alone, so that padding, batching,
    order and resuming change nothing. Raises `InvalidSetting` for a negative number.
    """
    out = np.empty((length, 1 if KINDS[kind].drops else width), dtype=np.float32)
    draw_unit_into(out, kind, key, purpose)
    return out


def draw_unit_into(out: NDArray[np.float32], kind: str, key: tuple[int, ...], purpose: Purpose = Purpose.NOISE) -> None:
    """As `draw_unit`, written into `out` (contiguous), which needs no memory of its own."""
    KINDS[kind].draw(stream(purpose, *key), out)
