"""Loss and accuracy of the base and of every arm on a fixed sample, usually without noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from neftune_core.data.batches import LENGTH_STEP, Batch, collate
from neftune_core.data.chat import EncodedExample
from neftune_core.engine.armset import ArmSet
from neftune_core.engine.loss import clean_losses
from neftune_core.engine.row_measures import RowMeasures
from neftune_core.models.accelerator import accelerator
from neftune_core.noise.batch import BatchNoise

PADDED_SHARE = 0.2
"""Largest share of padding in an evaluation batch, before `collate` rounds up the length of the batch."""

NoiseOf = Callable[[Sequence[EncodedExample], Batch, Sequence[int]], BatchNoise]
"""Returns the noise of every slot, given rows, their collated batch and their indices in the sample."""


def row_measures(
    stack: ArmSet,
    sample: Sequence[EncodedExample],
    slots: Sequence[int],
    *,
    batch_size: int,
    noise: NoiseOf | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RowMeasures:
    """Measure loss and accuracy of the given slots on every row of a sample.

    Between batches, other threads that wait for the accelerator get their turn.

    Args:
        stack: The arms.
        sample: The rows.
        slots: The slots to measure.
        batch_size: Maximum number of rows per batch.
        noise: Returns the noise to add to a batch; None adds none.
        should_stop: Polled before every layer.

    Returns:
        The measures of every slot and row.
    """
    losses, hits = (np.zeros((len(slots), len(sample))) for _ in range(2))
    tokens = np.zeros(len(sample))
    loaded = stack.loaded
    for indices in batches_by_length([row.length for row in sample], batch_size):
        accelerator.yield_turn()
        rows = [sample[index] for index in indices]
        batch = collate(rows, loaded.tokenizer.pad_token_id, LENGTH_STEP, longest=loaded.context).to(loaded.device)
        added = None if noise is None else noise(rows, batch, indices)
        found = clean_losses(stack, batch, slots, noise=added, should_stop=should_stop)
        losses[:, indices] = found.by_row(found.each, len(rows)).cpu().numpy()
        hits[:, indices] = found.by_row(found.hits, len(rows)).cpu().numpy()
        tokens[indices] = torch.bincount(found.rows, minlength=len(rows)).cpu().numpy()
    return RowMeasures(losses, hits, tokens)


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Group rows of similar length into batches, shortest first.

    Args:
        lengths: Length of each row.
        batch_size: Maximum number of rows per batch.

    Returns:
        Row indices per batch; at most `PADDED_SHARE` of a batch is padding.
    """
    batches: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        padded = (len(batches[-1]) + 1) * lengths[index] if batches else 0
        tokens += lengths[index]
        if not batches or len(batches[-1]) == batch_size or tokens < (1 - PADDED_SHARE) * padded:
            batches.append([])
            tokens = lengths[index]
        batches[-1].append(index)
    return batches
