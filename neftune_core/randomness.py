"""Private random streams, one per purpose; the global generators are never used.

NumPy's `SeedSequence` treats `(0,)` and `(0, 0)` alike. Every key therefore starts with its purpose, which is never 0,
and its length.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from neftune_core.errors import InvalidSetting
from neftune_core.language import say


class Purpose(IntEnum):
    """Purpose of a random stream."""

    NOISE = 1
    ORDER = 2
    SPLIT = 3
    ADAPTER = 4
    DROPOUT = 5
    LIVE_NOISE = 6
    MODEL_DROPOUT = 7
    ANSWER = 8
    TYPOS = 9
    WEIGHT_NOISE = 10
    START_NOISE = 11


def stream(purpose: Purpose, *key: int) -> np.random.Generator:
    """Return a generator that depends only on its arguments.

    Args:
        purpose: Purpose of the stream.
        key: Non-negative integers that select the stream.

    Returns:
        A NumPy generator (Philox).

    Raises:
        InvalidSetting: If a number in `key` is negative.
    """
    return np.random.Generator(np.random.Philox(_sequence(purpose, key)))


def torch_seed(purpose: Purpose, *key: int) -> int:
    """Return a seed for a `torch.Generator` that depends only on the arguments.

    Args:
        purpose: Purpose of the stream.
        key: Non-negative integers that select the stream.

    Returns:
        A 63-bit seed.

    Raises:
        InvalidSetting: If a number in `key` is negative.
    """
    return int(_sequence(purpose, key).generate_state(1, np.uint64)[0] >> 1)


def _sequence(purpose: Purpose, key: tuple[int, ...]) -> np.random.SeedSequence:
    if any(number < 0 for number in key):
        raise InvalidSetting(say("A seed cannot be negative (given {seed}).", seed=min(key)))
    return np.random.SeedSequence((int(purpose), len(key), *key))
