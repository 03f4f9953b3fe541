"""Adversarial noise: gradient ascent on the loss from a uniform draw, with the norm held fixed.

Follows FreeLB (arXiv 1909.11764), except that the norm of each sequence's noise stays that of its first draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neftune_core.noise.batch import ArmNoise, Rows, deviations, draw_units, scaled_sum
from neftune_core.noise.sites import Site


@dataclass
class AdversarialNoise:
    """The adversarial noise of one arm at one site.

    The noise is `unit * scale`. The scale is one number per sequence, set on the first forward pass, so norms and
    gradient directions of `unit` are also those of the noise.

    Attributes:
        unit: Noise at unit scale, `[batch, padded, width]` float32; zero on tokens without noise.
        norms: Frobenius norm of each sequence's first draw, `[batch]`; `ascend` preserves it.
        scale: Standard deviation per token, `[batch, padded, 1]`; None before the first pass.
    """

    unit: Tensor
    norms: Tensor
    scale: Tensor | None = None

    def add_to(self, clean: Tensor, arm: ArmNoise, rows: Rows) -> Tensor:
        """Return `clean` plus this noise; gradients flow to `unit`.

        Args:
            clean: Clean vectors, `[batch, padded, width]`.
            arm: The arm that the noise belongs to.
            rows: The rows of the batch.

        Returns:
            The noisy vectors, with the shape and dtype of `clean`.
        """
        if self.scale is None:
            self.scale = deviations(arm, rows, clean)
        return scaled_sum(clean, self.unit, self.scale)

    def ascend(self, gradient: Tensor, rate: float) -> None:
        """Take one normalised gradient ascent step, then rescale to the original norm.

        Sequences whose gradient is zero or not finite are left unchanged.

        Args:
            gradient: Gradient of the loss with respect to `unit`, same shape.
            rate: Step length as a multiple of the noise norm.
        """
        lengths = torch.linalg.vector_norm(gradient, dim=(1, 2))
        usable = (lengths > 0) & lengths.isfinite()
        steps = torch.where(usable, rate * self.norms / lengths, 0.0)
        moved = self.unit.detach() + torch.where(usable[:, None, None], gradient, 0.0) * steps[:, None, None]
        norms = torch.linalg.vector_norm(moved, dim=(1, 2))
        back = torch.where(usable & (norms > 0), self.norms / norms, 1.0)
        self.unit = (moved * back[:, None, None]).requires_grad_()

    def detach(self) -> None:
        """Detach `unit`: the ascent is complete and no more gradients are needed."""
        self.unit = self.unit.detach()


def initial_noise(
    arm: ArmNoise, sites: Iterable[Site], widths: Mapping[int, int], rows: Mapping[str, Rows]
) -> dict[int, AdversarialNoise]:
    """Draw the noise from which the ascent of one arm starts.

    Args:
        arm: The arm.
        sites: All noise sites of the model.
        widths: Vector width by site key.
        rows: Rows of the batch by component ("encoder", "decoder").

    Returns:
        The noise by site key, for the sites at which the arm has noise.
    """
    found = {}
    for site in sites:
        if not arm.reaches(site):
            continue
        part = rows[site.part]
        where = part.chosen(arm.settings)[..., None]
        shape = part.response.new_empty((*part.response.shape, widths[site.key]), dtype=torch.float32)
        unit = draw_units(arm.settings.kind, site.key, part, shape) * where
        found[site.key] = AdversarialNoise(unit.requires_grad_(), torch.linalg.vector_norm(unit.detach(), dim=(1, 2)))
    return found
