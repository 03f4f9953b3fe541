"""Matrix multiplication speed of this machine for the shapes of a model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neftune_core.data.chat import EncodedExample
    from neftune_core.models.loading import LoadedModel

TOKENS = 1024
REPEATS = 7


def weights_of(loaded: LoadedModel) -> tuple[int, int]:
    """Return the number of weights in the linear maps of all layers, and in the head.

    Each weight costs two operations per token in the forward pass, and two in the backward pass to the inputs.
    """
    shapes, head = _shapes(loaded)
    return sum(count * rows * columns for (rows, columns), count in shapes.items()), head[0] * head[1]


def _shapes(loaded: LoadedModel) -> tuple[dict[tuple[int, int], int], tuple[int, int]]:
    """Return the number of linear maps per shape in the layers, and the shape of the head."""
    from neftune_core.models.architecture.anatomy import linear_maps

    found: dict[tuple[int, int], int] = {}
    for name in linear_maps(loaded.model, "all"):
        shape = tuple(loaded.model.get_submodule(name).weight.shape)
        found[shape] = found.get(shape, 0) + 1
    return found, tuple(loaded.model.get_output_embeddings().weight.shape)


def own_peak(loaded: LoadedModel) -> float:
    """Measure the operations per second of matrix products of 1,024 tokens with this model's shapes and precision.

    The result uses the best of seven runs per shape, weighted by the number of maps with that shape.
    """
    import torch

    shapes, _ = _shapes(loaded)
    operations = seconds = 0.0
    for (rows, columns), count in shapes.items():
        left = torch.ones(TOKENS, columns, dtype=loaded.model.dtype, device=loaded.device)
        right = torch.ones(rows, columns, dtype=loaded.model.dtype, device=loaded.device)
        best = min(_seconds(left, right.t()) for _ in range(REPEATS))
        operations += count * 2 * TOKENS * rows * columns
        seconds += count * best
    return operations / seconds


def _seconds(left: object, right: object) -> float:
    import torch

    started = time.perf_counter()
    with torch.no_grad():
        (left @ right)[0, 0].item()  # type: ignore[operator]  # reading a value waits for the device
    return time.perf_counter() - started


def random_rows(loaded: LoadedModel, count: int, length: int) -> list[EncodedExample]:
    """Return rows of random tokens. The second half of each row is trained on.

    Args:
        loaded: The model, for its vocabulary.
        count: Number of rows.
        length: Tokens per row.

    Returns:
        The encoded rows.
    """
    import numpy as np

    from neftune_core.data.chat import EncodedExample
    from neftune_core.data.examples import Example, Message

    generator = np.random.default_rng(0)
    example = Example((Message("user", ""), Message("assistant", "")), row=1)
    trained = np.arange(length) >= length // 2
    return [
        EncodedExample(generator.integers(0, loaded.vocabulary, length, dtype=np.int32), trained, example)
        for _ in range(count)
    ]
