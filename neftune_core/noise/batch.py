"""Noise of a whole batch, shared by all arms: one unit draw a kind, one scale an arm and row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neftune_core.noise.kinds import draw_unit
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation


@dataclass(frozen=True)
class BatchNoise:
    """What is added to one batch of every arm.

    `units[kind]` is `[batch, length, width]`, float32, zero on padding; `scales[arm]` holds `[batch]`, the
    standard deviation for each row, or None for an arm without noise.
    """

    units: dict[str, Tensor]
    kinds: tuple[str, ...]
    scales: tuple[Tensor | None, ...]

    def add_to(self, vectors: Tensor) -> Tensor:
        """`vectors` `[arms * batch, length, width]`, arm by arm, with each arm's noise added in float32."""
        arms = len(self.scales)
        rows, length, width = vectors.shape
        by_arm = vectors.view(arms, rows // arms, length, width)
        noisy = []
        for arm, scale in enumerate(self.scales):
            clean = by_arm[arm]
            if scale is not None:
                noise = self.units[self.kinds[arm]] * scale[:, None, None]
                clean = noise.add_(clean).to(clean.dtype)
            noisy.append(clean)
        return torch.cat(noisy) if any(scale is not None for scale in self.scales) else vectors


def draw_batch(
    arms: Sequence[NoiseSettings],
    keys: Sequence[tuple[int, ...]],
    lengths: Sequence[int],
    padded: int,
    width: int,
) -> BatchNoise:
    """The noise of a right-padded batch on the CPU: `keys` and true `lengths` name its rows, `padded` is its length."""
    units = {}
    for kind in sorted({noise.kind for noise in arms if not noise.is_silent}):
        unit = torch.zeros(len(lengths), padded, width)
        for row, (key, length) in enumerate(zip(keys, lengths, strict=True)):
            unit[row, :length] = torch.from_numpy(draw_unit(kind, key, length, width))
        units[kind] = unit
    scales = tuple(
        None
        if noise.is_silent
        else torch.tensor(
            [standard_deviation(noise.strength, noise.unit, length, width) for length in lengths]
        )
        for noise in arms
    )
    return BatchNoise(units, tuple(noise.kind for noise in arms), scales)
