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
        """Each arm's noise added in float32 to `vectors`, `[arms * batch, length, width]`, laid out arm by arm.

        In place where `vectors` carries no gradient (the output of a frozen embedding is nobody else's).
        """
        rows, length, width = vectors.shape
        noisy = vectors.clone() if vectors.requires_grad else vectors
        by_arm = noisy.view(len(self.scales), rows // len(self.scales), length, width)
        for arm, scale in enumerate(self.scales):
            if scale is not None:
                by_arm[arm].add_(self.units[self.kinds[arm]] * scale[:, None, None])
        return noisy

    def to(self, device: torch.device) -> BatchNoise:
        """The same noise on `device`."""
        units = {kind: unit.to(device) for kind, unit in self.units.items()}
        scales = tuple(None if scale is None else scale.to(device) for scale in self.scales)
        return BatchNoise(units, self.kinds, scales)


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
        else torch.tensor([standard_deviation(noise.strength, noise.unit, length, width) for length in lengths])
        for noise in arms
    )
    return BatchNoise(units, tuple(noise.kind for noise in arms), scales)
