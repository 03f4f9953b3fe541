"""The loss of the base and of every arm on a fixed sample, with noise off."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from neftune_core.arms.loss import arm_losses
from neftune_core.arms.stack import AdapterStack
from neftune_core.data.batches import LENGTH_STEP, collate
from neftune_core.data.chat import Encoded


def clean_losses(
    stack: AdapterStack,
    sample: Sequence[Encoded],
    slots: Sequence[int],
    *,
    batch_size: int,
    should_stop: Callable[[], bool] | None = None,
) -> list[float]:
    """Nats a response token on `sample` for each of `slots`, noise and dropout off; NaN for an empty sample."""
    sums = torch.zeros(len(slots), dtype=torch.float64)
    tokens = 0
    by_length = sorted(sample, key=lambda encoded: len(encoded.ids))
    loaded = stack.loaded
    for start in range(0, len(by_length), batch_size):
        rows = by_length[start : start + batch_size]
        batch = collate(rows, loaded.tokenizer.pad_token_id, LENGTH_STEP, longest=loaded.context).to(loaded.device)
        with stack.running(slots, should_stop=should_stop) as tree:
            losses = arm_losses(tree, batch, len(slots))
        sums += losses.sums.double().cpu()
        tokens += losses.tokens
    return [float(total) / tokens if tokens else float("nan") for total in sums]
