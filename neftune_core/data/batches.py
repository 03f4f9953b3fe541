"""The order of an epoch, and rows side by side as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neftune_core.data.chat import Encoded
from neftune_core.randomness import Purpose, stream

if TYPE_CHECKING:
    import torch

# Lengths are rounded up to a multiple of this: the first step with a new shape costs about two later ones.
LENGTH_STEP = 32
# Rows are sorted by length within windows of this many batches: similar lengths meet, the order stays random.
WINDOW_BATCHES = 16


@dataclass(frozen=True)
class Batch:
    """Rows right-padded to one length.

    ids: int64 `[batch, length]`; lengths: int64 `[batch]`, true lengths; trained: bool `[batch, length]`, True
    where the token is a loss target, never on padding.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    trained: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        return Batch(self.ids.to(device), self.lengths.to(device), self.trained.to(device))


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch as lists of positions in `lengths`; every position exactly once.

    Only the last batch may be smaller. The order depends on the arguments alone.
    """
    generator = stream(Purpose.ORDER, seed, epoch)
    order = generator.permutation(len(lengths))
    short = order[len(order) - len(order) % batch_size :]
    full = order[: len(order) - len(short)]
    sizes = np.asarray(lengths)
    batches: list[list[int]] = []
    window_rows = WINDOW_BATCHES * batch_size
    for start in range(0, len(full), window_rows):
        window = full[start : start + window_rows]
        by_length = window[np.argsort(sizes[window], kind="stable")]
        batches += by_length.reshape(-1, batch_size).tolist()
    shuffled = [batches[position] for position in generator.permutation(len(batches))]
    return shuffled + ([short.tolist()] if len(short) else [])


def rounded(length: int, round_to: int) -> int:
    """`length` rounded up to a multiple of `round_to`."""
    return -(-length // round_to) * round_to


def collate(encoded: Sequence[Encoded], pad_id: int | None, round_to: int = 1, *, longest: int | None = None) -> Batch:
    """Rows as one batch, right-padded with `pad_id` (0 where a tokenizer has none) to a rounded length.

    `longest` bounds the rounding (a model's context), never the rows themselves.
    """
    import torch

    lengths = [len(row.ids) for row in encoded]
    length = rounded(max(lengths), round_to)
    if longest is not None:
        length = max(min(length, longest), max(lengths))
    ids = np.full((len(encoded), length), pad_id or 0, dtype=np.int64)
    trained = np.zeros((len(encoded), length), dtype=np.bool_)
    for place, row in enumerate(encoded):
        ids[place, : len(row.ids)] = row.ids
        trained[place, : len(row.ids)] = row.trained
    return Batch(torch.from_numpy(ids), torch.tensor(lengths, dtype=torch.int64), torch.from_numpy(trained))
