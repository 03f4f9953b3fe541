"""Adversarial noise: from the uniform draw up the loss, at the norm of that draw (in the way of arXiv 1909.11764)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neftune_core.noise.batch import ArmNoise, Rows, deviations, draw_units, scaled_sum
from neftune_core.noise.sites import Site


@dataclass
class Climbed:
    """The noise of one arm at one site on its way up.

    unit: `[batch, padded, width]` float32, zero where the arm has no noise; norms: `[batch]`, the Frobenius norm of
    each sequence's first draw, which `unit` keeps. The noise is `unit` times a scale that is one number a sequence,
    and is kept from the first pass: so norms and directions of the one are those of the other.
    """

    unit: Tensor
    norms: Tensor
    scale: Tensor | None = None

    def added_to(self, clean: Tensor, arm: ArmNoise, rows: Rows) -> Tensor:
        """`clean` `[batch, padded, width]` with this noise; the gradient reaches `unit`."""
        if self.scale is None:
            self.scale = deviations(arm, rows, clean)
        return scaled_sum(clean, self.unit, self.scale)

    def climb(self, gradient: Tensor, rate: float) -> None:
        """One step of `rate` times the norm along `gradient` of the loss to `unit`, and back to the norm.

        A sequence whose gradient is zero, or not finite, stays where it is.
        """
        lengths = torch.linalg.vector_norm(gradient, dim=(1, 2))
        usable = (lengths > 0) & lengths.isfinite()
        steps = torch.where(usable, rate * self.norms / lengths, 0.0)
        moved = self.unit.detach() + torch.where(usable[:, None, None], gradient, 0.0) * steps[:, None, None]
        norms = torch.linalg.vector_norm(moved, dim=(1, 2))
        back = torch.where(usable & (norms > 0), self.norms / norms, 1.0)
        self.unit = (moved * back[:, None, None]).requires_grad_()

    def rest(self) -> None:
        """Take the noise as it is: no gradient is asked for any more."""
        self.unit = self.unit.detach()


def first_draw(
    arm: ArmNoise, sites: Iterable[Site], widths: Mapping[int, int], rows: Mapping[str, Rows]
) -> dict[int, Climbed]:
    """Where the climb of an arm begins, by the key of each of its sites; `widths` are those of the vectors there."""
    found = {}
    for site in sites:
        if not arm.reaches(site):
            continue
        part = rows[site.part]
        where = part.chosen(arm.settings)[..., None]
        shape = part.response.new_empty((*part.response.shape, widths[site.key]), dtype=torch.float32)
        unit = draw_units(arm.settings.kind, site.key, part, shape) * where
        found[site.key] = Climbed(unit.requires_grad_(), torch.linalg.vector_norm(unit.detach(), dim=(1, 2)))
    return found
