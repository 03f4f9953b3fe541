"""Matrix multiplication speed of this machine for the shapes of a model."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from neftune_core.bench.table import seconds_of
from neftune_core.data.chat import EncodedExample
from neftune_core.data.examples import Example, Message
from neftune_core.models.architecture.anatomy import linear_maps
from neftune_core.models.loading import LoadedModel

TOKENS = 1024
REPEATS = 7


def weights_of(loaded: LoadedModel) -> tuple[int, int]:
    """Return the number of weights in the linear modules of all layers, and in the head.

    Each weight costs two operations per token in the forward pass, and two in the backward pass to the inputs.
    """
    layers = sum(count * rows * columns for (rows, columns), count in _shapes(loaded).items())
    return layers, loaded.model.get_output_embeddings().weight.numel()


def _shapes(loaded: LoadedModel) -> Counter[tuple[int, int]]:
    """Return the number of linear modules in the layers, by shape."""
    return Counter(tuple(loaded.model.get_submodule(name).weight.shape) for name in linear_maps(loaded.model, "all"))


def own_peak(loaded: LoadedModel) -> float:
    """Measure the operations per second of matrix products of 1,024 tokens with this model's shapes and precision.

    Each shape is timed seven times, and its best time is weighted by the number of modules with this shape.
    """
    operations = seconds = 0.0
    for (rows, columns), count in _shapes(loaded).items():
        left = torch.ones(TOKENS, columns, dtype=loaded.model.dtype, device=loaded.device)
        right = torch.ones(rows, columns, dtype=loaded.model.dtype, device=loaded.device).t()
        # Reading a value waits for the device.
        times = [seconds_of(lambda: (left @ right)[0, 0].item()) for _ in range(REPEATS)]  # noqa: B023 - called at once
        seconds += count * min(times)
        operations += count * 2 * TOKENS * rows * columns
    return operations / seconds


def random_rows(loaded: LoadedModel, count: int, length: int) -> list[EncodedExample]:
    """Return rows of random tokens. The second half of each row is trained on.

    Args:
        loaded: The model, for its vocabulary.
        count: Number of rows.
        length: Tokens per row.

    Returns:
        The encoded rows.
    """
    generator = np.random.default_rng(0)
    example = Example((Message("user", ""), Message("assistant", "")), row=1)
    trained = np.arange(length) >= length // 2
    return [
        EncodedExample(generator.integers(0, loaded.vocabulary, length, dtype=np.int32), trained, example)
        for _ in range(count)
    ]
