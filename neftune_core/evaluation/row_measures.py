"""What slots reach on each row of a sample, and over all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.evaluation.statistics import Floats


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
