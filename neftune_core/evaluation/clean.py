"""Loss and accuracy of the base and of every arm on a fixed sample, with noise off, from one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from neftune_core.arms.armset import ArmSet
from neftune_core.arms.loss import clean_losses
from neftune_core.data.batches import LENGTH_STEP, Batch, collate
from neftune_core.data.chat import Encoded
from neftune_core.evaluation.row_measures import CleanMeasures, RowMeasures
from neftune_core.noise.batch import BatchNoise

PADDED_SHARE = 0.2
"""Of a batch that is measured."""

NoiseOf = Callable[[Sequence[Encoded], Batch, Sequence[int]], BatchNoise]
"""From rows, the batch that they are, and their places in the sample, to the noise of every slot on them."""


def clean_measures(
    stack: ArmSet, sample: Sequence[Encoded], slots: Sequence[int], *, batch_size: int
) -> list[CleanMeasures]:
    """The measures on `sample`, which must have a row, for each of `slots`."""
    found = row_measures(stack, sample, slots, batch_size=batch_size)
    return [found.of(place) for place in range(len(slots))]


def row_measures(
    stack: ArmSet,
    sample: Sequence[Encoded],
    slots: Sequence[int],
    *,
    batch_size: int,
    noise: NoiseOf | None = None,
    should_stop: Callable[[], bool] | None = None,
    between: Callable[[], None] = lambda: None,
) -> RowMeasures:
    """The measures on every row of `sample` for each of `slots`; `between` is called before every batch.

    `noise` is for figures about noise alone.
    """
    losses, hits = (np.zeros((len(slots), len(sample))) for _ in range(2))
    tokens = np.zeros(len(sample))
    loaded = stack.loaded
    for places in batches_by_length([row.length for row in sample], batch_size):
        between()
        rows = [sample[place] for place in places]
        batch = collate(rows, loaded.tokenizer.pad_token_id, LENGTH_STEP, longest=loaded.context).to(loaded.device)
        added = None if noise is None else noise(rows, batch, places)
        found = clean_losses(stack, batch, slots, noise=added, should_stop=should_stop)
        losses[:, places] = found.by_row(found.each, len(rows)).cpu().numpy()
        hits[:, places] = found.by_row(found.hits, len(rows)).cpu().numpy()
        tokens[places] = torch.bincount(found.rows, minlength=len(rows)).cpu().numpy()
    return RowMeasures(losses, hits, tokens)


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """The places of rows in batches, the shortest first: each of at most `batch_size` rows, of which `PADDED_SHARE` at
    most is padding."""
    batches: list[list[int]] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        padded = (len(batches[-1]) + 1) * lengths[place] if batches else 0
        tokens += lengths[place]
        if not batches or len(batches[-1]) == batch_size or tokens < (1 - PADDED_SHARE) * padded:
            batches.append([])
            tokens = lengths[place]
        batches[-1].append(place)
    return batches
