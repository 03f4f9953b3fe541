"""Loss and accuracy of the base and of every arm on a fixed sample, with noise off, from one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neftune_core.data.batches import LENGTH_STEP, Batch, collate
from neftune_core.data.chat import Encoded
from neftune_core.engine.armset import ArmSet
from neftune_core.engine.loss import clean_losses
from neftune_core.noise.batch import BatchNoise

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CleanMeasures:
    """What one slot reaches on a sample, noise and dropout off.

    `loss`: nats a response token; `accuracy`: share of response tokens that were the most probable after the true ones
    before them; `exact`: share of rows in which all of them were.
    """

    loss: float
    accuracy: float
    exact: float


@dataclass(frozen=True)
class RowMeasures:
    """What each slot reaches on each row of a sample, in its order.

    losses: nats summed over the row's response tokens, `[slots, rows]`; hits: how many of these tokens were right,
    `[slots, rows]`; tokens: how many there are, `[rows]`.
    """

    losses: Floats
    hits: Floats
    tokens: Floats

    def of(self, place: int) -> CleanMeasures:
        """The measures of the slot in that place, over the whole sample."""
        total = max(1.0, float(self.tokens.sum()))
        exact = (self.hits[place] == self.tokens) & (self.tokens > 0)
        return CleanMeasures(
            float(self.losses[place].sum() / total), float(self.hits[place].sum() / total), float(exact.mean())
        )

    def some(self, slots: Sequence[int], rows: int) -> RowMeasures:
        """Those of the slots at these places, on the first rows."""
        chosen = list(slots)
        return RowMeasures(self.losses[chosen, :rows], self.hits[chosen, :rows], self.tokens[:rows])

    def kept(self, names: Sequence[str]) -> dict[str, Any]:
        """As a record keeps it: the tokens of each row, and by name of slot its `loss` and `hits`, row by row."""
        by_name = {
            name: {"loss": [round(value, 6) for value in losses.tolist()], "hits": hits.astype(int).tolist()}
            for name, losses, hits in zip(names, self.losses, self.hits, strict=True)
        }
        return {"tokens": self.tokens.astype(int).tolist(), "arms": by_name}


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
