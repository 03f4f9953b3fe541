"""The kinds of noise, and the unit draw of one example.

At the same strength, all kinds except token dropout have the same standard deviation. Some papers do not equalise it: a
Gaussian "at alpha 5", drawn as `N(0, 1) * alpha / sqrt(L d)`, is `sqrt(3)` times as strong as the uniform noise of
arXiv 2310.05914.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neftune_core.randomness import Purpose, stream

EMBEDDING_SITE = 0
TABLES_SITE = -1
"""Number of the site at the per-layer embedding table of some models (Gemma 3n and 4), which feeds the clean token to
every layer again."""

Draw = Callable[[np.random.Generator, NDArray[np.float32]], None]


@dataclass(frozen=True)
class Kind:
    """One kind of noise.

    Attributes:
        words: Name shown to users.
        draw: `draw(generator, out)` fills the contiguous float32 array `out`, `[length, width]`, with coordinates of
            mean 0 and standard deviation 1. If `drops` is set, `out` is `[length, 1]` and gets a uniform number in
            `[0, 1)` per token, but 1 for the first token.
        bound: Largest magnitude of a coordinate of the noise at standard deviation 1; infinity if there is none.
        kurtosis: Fourth standardised moment of the draw.
        passes: Passes of a training step, a key of `STEP_MODES`: "one" draw, a "pair" of opposite signs, or an "ascent"
            on the loss.
        drops: Whether the kind sets tokens with a draw below the strength to zero instead of adding noise.
    """

    words: str
    draw: Draw
    bound: float
    kurtosis: float
    passes: str = "one"
    drops: bool = False


@dataclass(frozen=True)
class StepMode:
    """The passes of a training step that a kind of noise needs.

    Attributes:
        extra: Description of the passes that other training loops do not run; "" if there are none.
        passes: `passes(ascent_steps)` returns the number of passes of a step.
    """

    extra: str
    passes: Callable[[int], int]


STEP_MODES = {
    "one": StepMode("", lambda ascent_steps: 1),
    "pair": StepMode("a second pass with the opposite sign", lambda ascent_steps: 2),
    "ascent": StepMode("gradient ascent passes", lambda ascent_steps: ascent_steps + 1),
}
"""Step modes by `Kind.passes`. engine/passes.py implements them in training, and evaluation/sensitivity.py in
evaluation."""


def _uniform(generator: np.random.Generator, out: NDArray[np.float32]) -> None:
    generator.random(out=out, dtype=np.float32)
    out -= np.float32(0.5)
    out *= np.float32(2 * math.sqrt(3))


def _gaussian(generator: np.random.Generator, out: NDArray[np.float32]) -> None:
    generator.standard_normal(out=out, dtype=np.float32)


def _laplace(generator: np.random.Generator, out: NDArray[np.float32]) -> None:
    """Draw exponentials with random signs; the scale `1 / sqrt(2)` gives variance 1."""
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


def _uniform_per_token(generator: np.random.Generator, out: NDArray[np.float32]) -> None:
    """Draw a uniform number per token, except for the first token, which is never dropped.

    The first token attends only to itself. If it were zero, every layer of a model without biases would output zero for
    it, the derivative of each norm would be `1 / sqrt(epsilon)`, and the gradient of SmolLM2-135M would overflow
    (measured: NaN below layer 29).
    """
    generator.random(out=out, dtype=np.float32)
    out[0] = 1.0


KINDS: dict[str, Kind] = {
    "uniform": Kind("Uniform (the paper's)", _uniform, bound=math.sqrt(3), kurtosis=1.8),
    "gaussian": Kind("Gaussian", _gaussian, bound=math.inf, kurtosis=3.0),
    "laplace": Kind("Laplace", _laplace, bound=math.inf, kurtosis=6.0),
    "bernoulli": Kind("Bernoulli (random signs)", _signs, bound=1.0, kurtosis=1.0),
    "symmetric": Kind("Symmetric pairs (SymNoise)", _signs, bound=1.0, kurtosis=1.0, passes="pair"),
    "adversarial": Kind(
        "Adversarial (gradient ascent from a uniform draw)", _uniform, bound=math.inf, kurtosis=1.8, passes="ascent"
    ),
    "token-dropout": Kind(
        "Token dropout (a baseline: sets whole tokens to zero)", _uniform_per_token, bound=1.0, kurtosis=1.8, drops=True
    ),
}


def draw_unit(
    kind: str, key: tuple[int, ...], length: int, width: int, purpose: Purpose = Purpose.NOISE
) -> NDArray[np.float32]:
    """Draw the unit noise of one example.

    The result depends only on the kind, key, shape and purpose; padding, batching, order and resuming do not change it.

    Args:
        kind: Kind of noise, a key of `KINDS`.
        key: Non-negative integers; in the lab's own engine `(study seed, epoch, example, key of the site)`.
        length: Number of tokens.
        width: Embedding width.
        purpose: The random stream to use.

    Returns:
        `[length, width]` float32; `[length, 1]` for kinds that drop tokens.

    Raises:
        InvalidSetting: If a number in `key` is negative.
    """
    out = np.empty((length, 1 if KINDS[kind].drops else width), dtype=np.float32)
    KINDS[kind].draw(stream(purpose, *key), out)
    return out
