"""Loss and accuracy of the base and of every arm on a fixed sample, with noise off, from one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from neftune_core.arms.loss import arm_losses
from neftune_core.arms.stack import AdapterStack
from neftune_core.data.batches import LENGTH_STEP, collate
from neftune_core.data.chat import Encoded


@dataclass(frozen=True)
class CleanMeasures:
    """What one slot reaches on a sample, noise and dropout off.

    `loss`: nats a response token; `accuracy`: share of response tokens that were the most probable after the true ones
    before them; `exact`: share of rows in which all of them were.
    """

    loss: float
    accuracy: float
    exact: float


def clean_measures(
    stack: AdapterStack,
    sample: Sequence[Encoded],
    slots: Sequence[int],
    *,
    batch_size: int,
    should_stop: Callable[[], bool] | None = None,
    between: Callable[[], None] = lambda: None,
) -> list[CleanMeasures]:
    """The measures on `sample`, which must have a row, for each of `slots`; `between` is called before every batch."""
    sums, hits, exact = (torch.zeros(len(slots), dtype=torch.float64) for _ in range(3))
    tokens = 0
    by_length = sorted(sample, key=lambda encoded: encoded.length)
    loaded = stack.loaded
    for start in range(0, len(by_length), batch_size):
        between()
        rows = by_length[start : start + batch_size]
        batch = collate(rows, loaded.tokenizer.pad_token_id, LENGTH_STEP, longest=loaded.context).to(loaded.device)
        with stack.running(slots, should_stop=should_stop) as tree:
            losses = arm_losses(tree, batch, len(slots))
        sums += losses.sums.cpu().double()
        hits += losses.hits.sum(1).cpu().double()
        exact += losses.exact_rows.cpu().double()
        tokens += losses.tokens
    return [
        CleanMeasures(float(total / tokens), float(right / tokens), float(whole / len(sample)))
        for total, right, whole in zip(sums, hits, exact, strict=True)
    ]
