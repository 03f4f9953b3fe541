"""The order of an epoch, and rows side by side as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neftune_core.data.chat import Encoded
from neftune_core.randomness import Purpose, stream

if TYPE_CHECKING:
    import torch

# Lengths are rounded up to a multiple of this: the first step with a new shape costs about two later ones. Up to twice
# of it a quarter is enough: of short rows, padding would be the greater part.
LENGTH_STEP = 32
# Rows are sorted by length within windows of this many batches: similar lengths meet, the order stays random.
WINDOW_BATCHES = 16


@dataclass(frozen=True)
class Batch:
    """Rows right-padded to one length.

    ids: int64 `[batch, length]`; lengths: int64 `[batch]`, true lengths; trained: bool `[batch, length]`, True
    where the token is a loss target; special: bool `[batch, length]`, True where it is one of the tokenizer's special
    tokens; neither is ever True on padding.

    Of an encoder-decoder these are the decoder's tokens. The encoder's are source (int64 `[batch, source_length]`,
    right-padded), source_lengths (int64 `[batch]`) and source_special; all three are None for a causal model.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    trained: torch.Tensor
    special: torch.Tensor
    source: torch.Tensor | None = None
    source_lengths: torch.Tensor | None = None
    source_special: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items() if value is not None})


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
    """`length` rounded up to a multiple of `round_to`; up to twice `round_to`, to a multiple of its quarter."""
    step = max(1, round_to // 4) if length <= 2 * round_to else round_to
    return -(-length // step) * step


def collate(encoded: Sequence[Encoded], pad_id: int | None, round_to: int = 1, *, longest: int | None = None) -> Batch:
    """Rows as one batch, right-padded with `pad_id` (0 where a tokenizer has none) to a rounded length.

    `longest` bounds the rounding (a model's context), never the rows themselves. The source and the target of an
    encoder-decoder are each as long as they need.
    """
    import torch

    padding = (pad_id or 0, round_to, longest)
    ids, lengths = _side_by_side([row.ids for row in encoded], *padding)
    trained, _ = _side_by_side([row.trained for row in encoded], 0, round_to, longest)
    special = _special(ids, lengths, encoded[0].special)
    tables = {"ids": ids, "lengths": lengths, "trained": trained, "special": special}
    sources = [row.source for row in encoded if row.source is not None]
    if sources:
        source, source_lengths = _side_by_side(sources, *padding)
        source_special = _special(source, source_lengths, encoded[0].special)
        tables |= {"source": source, "source_lengths": source_lengths, "source_special": source_special}
    return Batch(**{name: torch.from_numpy(table) for name, table in tables.items()})


def _side_by_side(
    rows: Sequence[NDArray[Any]], filling: int, round_to: int, longest: int | None
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The rows as one table `[batch, length]`, int64 or bool, and their true lengths."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    most = int(lengths.max())
    length = rounded(most, round_to)
    if longest is not None:
        length = max(min(length, longest), most)
    kind = np.bool_ if rows[0].dtype == np.bool_ else np.int64
    table: NDArray[Any] = np.full((len(rows), length), filling, dtype=kind)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table, lengths


def _special(ids: NDArray[np.int64], lengths: NDArray[np.int64], special: frozenset[int]) -> NDArray[np.bool_]:
    """Where a true token is one of `special`."""
    within = np.arange(ids.shape[1]) < lengths[:, None]
    return within & np.isin(ids, sorted(special))
