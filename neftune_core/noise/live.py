"""Noise for one site in one forward call of a model, drawn per row and document."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neftune_core.errors import InvalidSetting
from neftune_core.noise.hooks import Call, Documents
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import Site, require_one_stream
from neftune_core.noise.strength import standard_deviation
from neftune_core.randomness import Purpose, stream


@dataclass(frozen=True)
class LiveNoise:
    """Noise in a training loop that the lab does not control.

    A draw depends on `key`, the call number, the site, the row and the document within the row. If `names` is given,
    the draw depends on the name of the row, the site and the document instead, as in the lab's own engine.

    Attributes:
        key: Seed and rank.
        multipliers: Noise schedule, one value per training call; the last value applies to all later calls.
        names: Returns one `(study seed, epoch, example)` per row of the current call.
    """

    settings: NoiseSettings
    key: tuple[int, int]
    multipliers: Sequence[float]
    special: Sequence[int] = ()
    names: Callable[[], Sequence[tuple[int, int, int]]] | None = None

    def add_to(self, clean: Tensor, site: Site, call: Call) -> Tensor:
        """Return `clean` with noise, added in float32.

        Args:
            clean: Clean vectors, `[batch, length, width]`.
            site: The site that outputs `clean`.
            call: The current forward call.

        Returns:
            The noisy vectors, with the shape and dtype of `clean`.

        Raises:
            NoEffect: If the site outputs several vectors per token.
            InvalidSetting: If `names` does not return one name per row.
        """
        multiplier = self.multipliers[min(call.number, len(self.multipliers)) - 1]
        if multiplier == 0:
            return clean
        require_one_stream(clean)
        batch, length, width = clean.shape
        is_padded = self.settings.length_rule == "padded"  # each row counts as one document
        rows = [[np.arange(length)]] * batch if is_padded else call.documents(site.part, batch, length)
        excluded = self._excluded(site, call, batch, length)
        if KINDS[self.settings.kind].drops:
            draws = np.full((batch, length, 1), math.inf, dtype=np.float32)
            self._draw(draws, rows, (site.key, call.number), factors=None)
            dropped = draws[..., 0] < min(1.0, self.settings.strength * multiplier)
            if excluded is not None:
                dropped &= ~excluded
            return clean.masked_fill(torch.from_numpy(dropped).unsqueeze(-1).to(clean.device), 0)
        noise = np.zeros((batch, length, width), dtype=np.float32)
        self._draw(noise, rows, (site.key, call.number), self._deviations(clean, rows, multiplier))
        if excluded is not None:
            noise[excluded] = 0
        wide = torch.promote_types(clean.dtype, torch.float32)
        return torch.from_numpy(noise).to(clean.device, wide).add_(clean).to(clean.dtype)

    def _excluded(self, site: Site, call: Call, batch: int, length: int) -> NDArray[np.bool_] | None:
        """Return a mask of the tokens excluded by the settings, `[batch, length]`; None if none are."""
        masks: list[NDArray[np.bool_]] = []
        if self.settings.tokens != "all":
            masks.append(~call.side(site.part, self.settings.tokens, batch, length))
        if self.special:
            masks.append(np.isin(call.ids(site.part, batch, length), self.special))
        return np.logical_or.reduce(masks) if masks else None

    def _deviations(self, clean: Tensor, rows: Documents, multiplier: float) -> list[list[float]]:
        """Return the standard deviation of the noise on every document, by row."""
        strength, unit, width = self.settings.strength, self.settings.unit, clean.shape[2]
        norms: NDArray[np.float32] | None = None
        if unit == "relative":
            norms = torch.linalg.vector_norm(clean.detach(), dim=-1, dtype=torch.float32).cpu().numpy()

        def deviation(row: int, positions: NDArray[np.intp]) -> float:
            """Return the standard deviation of the noise on one document.

            Args:
                row: Index of the row.
                positions: Positions of the document in the row.

            Returns:
                The standard deviation per coordinate.
            """
            signal = 1.0 if norms is None else math.sqrt(float(np.square(norms[row, positions]).mean()) / width)
            return multiplier * standard_deviation(strength, unit, len(positions), width, signal)

        return [[deviation(row, positions) for positions in documents] for row, documents in enumerate(rows)]

    def _draw(
        self, out: NDArray[np.float32], rows: Documents, key: tuple[int, int], factors: Sequence[Sequence[float]] | None
    ) -> None:
        """Write the draw of every document to its positions in `out`, multiplied by its factor if `factors` is given.

        `key` is the key of the site and the number of the call.

        Raises:
            InvalidSetting: If `names` does not return one name per row.
        """
        names = None if self.names is None else self.names()
        if names is not None and len(names) != len(rows):
            raise InvalidSetting(
                f"The number of names, {len(names)}, is not the batch size, {len(rows)}: return one name per row."
            )
        for row, documents in enumerate(rows):
            for number, positions in enumerate(documents):
                first, last = positions[0], positions[-1] + 1
                contiguous = last - first == len(positions)
                drawn = out[row, first:last] if contiguous else np.empty((len(positions), out.shape[2]), np.float32)
                if names is None:
                    generator = stream(Purpose.LIVE_NOISE, *self.key, *key, row, number)
                else:
                    generator = stream(Purpose.NOISE, *names[row], key[0], *([number] if number else []))
                KINDS[self.settings.kind].draw(generator, drawn)
                if factors is not None:
                    drawn *= np.float32(factors[row][number])
                if not contiguous:
                    out[row, positions] = drawn
