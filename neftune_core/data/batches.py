"""Batch order of an epoch, and collation into padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neftune_core.data.chat import EncodedExample
from neftune_core.randomness import Purpose, stream

if TYPE_CHECKING:
    import torch

# Lengths are rounded up to a multiple of this, because the first step with a new shape takes about twice as long.
# Lengths up to twice this are rounded up to a multiple of a quarter of it, because short rows would be mostly padding.
LENGTH_STEP = 32
# Rows are sorted by length within windows of this many batches, which groups similar lengths in a random order.
WINDOW_BATCHES = 16


@dataclass(frozen=True)
class Batch:
    """Rows right-padded to one length.

    For an encoder-decoder, the source fields contain the encoder's tokens, and the other fields the decoder's.

    Attributes:
        ids: `[batch, length]`, int64.
        lengths: Lengths without padding, `[batch]`, int64.
        trained: `[batch, length]`, bool; True for loss targets, False on padding.
        special: `[batch, length]`, bool; True for the tokenizer's special tokens, False on padding.
        predicting: Flat indices into `[batch, length]` of the tokens before loss targets, `[targets]`, int64.
        source: `[batch, source_length]`, int64, right-padded; None for a causal model.
        source_lengths: Like `lengths`, for `source`; None for a causal model.
        source_special: Like `special`, for `source`; None for a causal model.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    trained: torch.Tensor
    special: torch.Tensor
    predicting: torch.Tensor
    source: torch.Tensor | None = None
    source_lengths: torch.Tensor | None = None
    source_special: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        from neftune_core.noise.batch import to_device

        return replace(
            self, **{name: to_device(value, device) for name, value in vars(self).items() if value is not None}
        )


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch.

    Args:
        lengths: Row lengths in tokens.
        batch_size: Rows per batch; only the last batch may be smaller.
        seed: Seed of the order.
        epoch: Index of the epoch, from 0.

    Returns:
        Batches of indices into `lengths`. Every index occurs exactly once, and the order depends only on the arguments.

    Raises:
        InvalidSetting: If `seed` or `epoch` is negative.
    """
    generator = stream(Purpose.ORDER, seed, epoch)
    order = generator.permutation(len(lengths))
    full, short = np.split(order, [len(order) - len(order) % batch_size])
    sizes = np.asarray(lengths)
    batches: list[list[int]] = []
    window_rows = WINDOW_BATCHES * batch_size
    for window in np.split(full, range(window_rows, len(full), window_rows)):
        by_length = window[np.argsort(sizes[window], kind="stable")]
        batches += by_length.reshape(-1, batch_size).tolist()
    shuffled = [batches[position] for position in generator.permutation(len(batches))]
    return shuffled + ([short.tolist()] if len(short) else [])


def round_up(length: int, round_to: int) -> int:
    """Round a length up.

    Args:
        length: Length in tokens.
        round_to: Step; for lengths up to twice the step, a quarter of it is used.

    Returns:
        The smallest multiple of the step that is at least `length`.
    """
    step = max(1, round_to // 4) if length <= 2 * round_to else round_to
    return -(-length // step) * step


def collate(
    encoded: Sequence[EncodedExample], pad_id: int | None, round_to: int = 1, *, longest: int | None = None
) -> Batch:
    """Combine rows into one right-padded batch.

    Args:
        encoded: The rows.
        pad_id: Padding token id; None is treated as 0.
        round_to: Lengths are rounded up by `round_up`.
        longest: Upper bound on rounding, such as the model's context; None for no bound. Rows are never cut.

    Returns:
        The batch. The source and the target of an encoder-decoder are padded separately.
    """
    import torch

    padding = (pad_id or 0, round_to, longest)
    ids, lengths = _padded([row.ids for row in encoded], *padding)
    trained, _ = _padded([row.trained for row in encoded], 0, round_to, longest)
    special = _special(ids, lengths, encoded[0].special)
    indices, columns = np.nonzero(trained[:, 1:])
    tables = {"ids": ids, "lengths": lengths, "trained": trained, "special": special}
    tables["predicting"] = indices * ids.shape[1] + columns
    sources = [row.source for row in encoded if row.source is not None]
    if sources:
        source, source_lengths = _padded(sources, *padding)
        source_special = _special(source, source_lengths, encoded[0].special)
        tables |= {"source": source, "source_lengths": source_lengths, "source_special": source_special}
    return Batch(**{name: torch.from_numpy(table) for name, table in tables.items()})


def _padded(
    rows: Sequence[NDArray[Any]], padding: int, round_to: int, bound: int | None
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the rows as one padded table `[batch, length]`, int64 or bool, and their lengths."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    longest = int(lengths.max())
    length = round_up(longest, round_to)
    if bound is not None:
        length = max(min(length, bound), longest)
    dtype = np.bool_ if rows[0].dtype == np.bool_ else np.int64
    table: NDArray[Any] = np.full((len(rows), length), padding, dtype=dtype)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table, lengths


def _special(ids: NDArray[np.int64], lengths: NDArray[np.int64], special: frozenset[int]) -> NDArray[np.bool_]:
    """Return a mask of the tokens, excluding padding, that are in `special`."""
    within = np.arange(ids.shape[1]) < lengths[:, None]
    return within & np.isin(ids, sorted(special))
