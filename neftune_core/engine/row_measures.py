"""Measures of every slot on every row of a sample.

This module does not import torch, because the page uses it to read records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CleanMeasures:
    """Measures of one slot on a sample, without noise and dropout.

    Attributes:
        loss: Nats per response token.
        accuracy: Share of response tokens that the model ranks first (teacher forcing).
        exact: Share of rows in which the model ranks every response token first.
    """

    loss: float
    accuracy: float
    exact: float


@dataclass(frozen=True)
class RowMeasures:
    """Measures of each slot on each row of a sample.

    Attributes:
        losses: Nats summed over the row's response tokens, `[slots, rows]`.
        hits: Number of response tokens ranked first, `[slots, rows]`.
        tokens: Number of response tokens, `[rows]`.
    """

    losses: Floats
    hits: Floats
    tokens: Floats

    def of(self, index: int) -> CleanMeasures:
        """Return the measures of one slot over the whole sample; `index` is its index in `losses`."""
        total = max(1.0, float(self.tokens.sum()))
        exact = (self.hits[index] == self.tokens) & (self.tokens > 0)
        return CleanMeasures(
            float(self.losses[index].sum() / total), float(self.hits[index].sum() / total), float(exact.mean())
        )

    def select(self, slots: Sequence[int], rows: int) -> RowMeasures:
        """Select some slots and the first rows.

        Args:
            slots: Indices of the slots.
            rows: Number of rows to keep.

        Returns:
            The measures of these slots and rows.
        """
        chosen = list(slots)
        return RowMeasures(self.losses[chosen, :rows], self.hits[chosen, :rows], self.tokens[:rows])

    def to_record(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the measures in record format: `tokens` by row, and `loss` and `hits` by slot name and row."""
        by_name = {
            name: {"loss": [round(value, 6) for value in losses.tolist()], "hits": hits.astype(int).tolist()}
            for name, losses, hits in zip(names, self.losses, self.hits, strict=True)
        }
        return {"tokens": self.tokens.astype(int).tolist(), "arms": by_name}
