"""The noise of one training batch for all arms: one unit draw per kind and site, one scale per arm and row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from neftune_core.noise.kinds import EMBEDDING_SITE, KINDS, draw_unit
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import Site, require_one_stream
from neftune_core.noise.strength import standard_deviation

CHOSEN_TOKENS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "all": lambda real, response: real,
    "prompt": lambda real, response: real & ~response,
    "response": lambda real, response: real & response,
}


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy `tensor` to `device`. On a CUDA GPU, the call does not wait for work that is already queued.

    A copy from pageable memory to a CUDA GPU is staged before the call returns, so the caller may change `tensor`
    afterwards. An Apple GPU may read `tensor` later, so the call waits until a copy to such a device is complete.

    Args:
        tensor: The tensor to copy.
        device: Target device.

    Returns:
        The tensor on `device`.
    """
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")


@dataclass(frozen=True)
class Rows:
    """The rows of a right-padded batch, as one component of a model (encoder or decoder) receives them.

    Attributes:
        keys: `(study seed, epoch, example)` of each row; with the site, they determine the draws.
        lengths: Number of real tokens in each row.
        longest: Number of real tokens in the longest row of the whole step; the batch may be a slice of that step.
        response: True on response tokens, bool `[batch, padded]`; False on padding.
        special: True on special tokens, bool `[batch, padded]`; False on padding.
    """

    keys: Sequence[tuple[int, int, int]]
    lengths: Sequence[int]
    longest: int
    response: Tensor
    special: Tensor

    @cached_property
    def real(self) -> Tensor:
        """True on real tokens and False on padding, bool `[batch, padded]`."""
        positions = torch.arange(self.response.shape[1], device=self.response.device)
        return positions < to_device(torch.tensor(self.lengths), self.response.device)[:, None]

    def chosen(self, noise: NoiseSettings) -> Tensor:
        """Return a mask of the tokens that get noise, bool `[batch, padded]`."""
        chosen = CHOSEN_TOKENS[noise.tokens](self.real, self.response)
        return chosen if noise.special_tokens else chosen & ~self.special


@dataclass(frozen=True)
class ArmNoise:
    """The noise of one arm in one pass.

    Attributes:
        multiplier: Value of the noise schedule at this step.
        sign: -1 in the second pass of a symmetric pair, otherwise 1.
        adversarial: Adversarial noise by site key, used at these sites instead of a random draw.
    """

    settings: NoiseSettings
    sites: Sequence[int] = (EMBEDDING_SITE,)
    multiplier: float = 1.0
    sign: float = 1.0
    adversarial: Mapping[int, AdversarialNoise] = field(default_factory=dict)

    @property
    def strength(self) -> float:
        """Strength at this step: the configured strength times the schedule's multiplier."""
        return self.settings.strength * self.multiplier

    def reaches(self, site: Site) -> bool:
        """Return whether this arm has noise at `site`."""
        return self.strength != 0 and site.number in self.sites


@dataclass
class AdversarialNoise:
    """The adversarial noise of one arm at one site: gradient ascent on the loss from a uniform draw.

    The method is FreeLB (arXiv 1909.11764), except that each sequence's noise keeps the norm of its first draw. The
    noise is `unit * scale`. The scale is set on the first forward pass, and is the same for all noised tokens of a
    sequence, so ascent on `unit` is also ascent on the noise.

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
            self.scale = _deviations(arm, rows, clean)
        return _scaled_sum(clean, self.unit, self.scale)

    def ascend(self, gradient: Tensor, rate: float) -> None:
        """Take one normalised gradient ascent step, then rescale to the original norm.

        Sequences with a zero or non-finite gradient are left unchanged.

        Args:
            gradient: Gradient of the loss with respect to `unit`, same shape.
            rate: Step length as a multiple of the norm of the noise.
        """
        lengths = torch.linalg.vector_norm(gradient, dim=(1, 2))
        usable = (lengths > 0) & lengths.isfinite()
        steps = torch.where(usable, rate * self.norms / lengths, 0.0)
        moved = self.unit.detach() + torch.where(usable[:, None, None], gradient, 0.0) * steps[:, None, None]
        norms = torch.linalg.vector_norm(moved, dim=(1, 2))
        rescaling = torch.where(usable & (norms > 0), self.norms / norms, 1.0)
        self.unit = (moved * rescaling[:, None, None]).requires_grad_()


def initial_noise(
    arm: ArmNoise, sites: Iterable[Site], widths: Mapping[int, int], rows: Mapping[str, Rows]
) -> dict[int, AdversarialNoise]:
    """Draw the initial noise for the ascent of one arm.

    Args:
        arm: Arm to draw noise for.
        sites: All noise sites of the model.
        widths: Vector width by site key.
        rows: Rows of the batch by component ("encoder", "decoder").

    Returns:
        The noise by site key, for the sites at which the arm has noise.
    """
    found = {}
    for site in filter(arm.reaches, sites):
        part = rows[site.part]
        unit = _draw_units(arm.settings.kind, site.key, part, widths[site.key]) * part.chosen(arm.settings)[..., None]
        found[site.key] = AdversarialNoise(unit.requires_grad_(), torch.linalg.vector_norm(unit.detach(), dim=(1, 2)))
    return found


@dataclass(frozen=True)
class BatchNoise:
    """The noise of all arms on one batch.

    Attributes:
        arms: Noise of each arm.
        rows: Rows of the batch by component ("encoder", "decoder").
    """

    arms: Sequence[ArmNoise]
    rows: Mapping[str, Rows]

    def add_to(self, site: Site, vectors: Tensor) -> Tensor:
        """Add each arm's noise at `site` to `vectors`.

        Noise is drawn and added in float32, and the sum is rounded once. At most one unit draw per kind is in memory.
        Strengths in the unit "relative" refer to the size of `vectors`, which include the noise of earlier sites.

        Args:
            site: The site that outputs `vectors`.
            vectors: `[arms * batch, length, width]`, arm by arm.

        Returns:
            The noisy vectors, or `vectors` unchanged if no arm has noise at this site. The noise is added in place if
            `vectors` needs no gradient, as for a frozen embedding, and no arm has adversarial noise.

        Raises:
            NoEffect: If the site outputs several vectors per token.
        """
        if not any(arm.reaches(site) for arm in self.arms):
            return vectors
        require_one_stream(vectors)
        rows, units = self.rows[site.part], dict[str, Tensor]()
        in_place = not vectors.requires_grad and not any(arm.adversarial for arm in self.arms)
        by_arm = list(vectors.unflatten(0, (len(self.arms), -1)))
        for index, (arm, clean) in enumerate(zip(self.arms, by_arm, strict=True)):
            if not arm.reaches(site):
                continue
            if site.key in arm.adversarial:
                by_arm[index] = arm.adversarial[site.key].add_to(clean, arm, rows)
                continue
            kind = arm.settings.kind
            if kind not in units:
                units[kind] = _draw_units(kind, site.key, rows, clean.shape[-1])
            if KINDS[kind].drops:
                by_arm[index] = _drop_tokens(clean, units[kind], arm, rows, in_place=in_place)
            else:
                by_arm[index] = _scaled_sum(clean, units[kind], _deviations(arm, rows, clean), in_place=in_place)
        return vectors if in_place else torch.cat(by_arm)


def _draw_units(kind: str, site_key: int, rows: Rows, width: int) -> Tensor:
    """Draw the unit noise of every row on the device of `rows`.

    Return `[batch, padded, width]` float32, zero on padding; `[batch, padded, 1]` for kinds that drop tokens.
    """
    units = torch.zeros(*rows.response.shape, 1 if KINDS[kind].drops else width)
    for row, (key, length) in enumerate(zip(rows.keys, rows.lengths, strict=True)):
        units[row, :length] = torch.from_numpy(draw_unit(kind, (*key, site_key), length, width))
    return to_device(units, rows.response.device)


def _scaled_sum(clean: Tensor, units: Tensor, scale: Tensor, *, in_place: bool = False) -> Tensor:
    """Return `clean + units * scale`, computed in float32 and rounded once to the dtype of `clean`."""
    if in_place:
        return clean.addcmul_(units, scale)
    return torch.addcmul(clean.float(), units, scale).to(clean.dtype)


def _drop_tokens(clean: Tensor, units: Tensor, arm: ArmNoise, rows: Rows, *, in_place: bool) -> Tensor:
    """Zero the vectors of the tokens that the settings choose and whose draw is below the strength of the arm."""
    where = (units < min(1.0, arm.strength)) & rows.chosen(arm.settings)[..., None]
    return clean.masked_fill_(where, 0) if in_place else clean.masked_fill(where, 0)


def _deviations(arm: ArmNoise, rows: Rows, clean: Tensor) -> Tensor:
    """Return the signed standard deviation of every token's noise, `[batch, padded, 1]` float32; 0 for no noise."""
    noise, width = arm.settings, clean.shape[-1]
    lengths = rows.lengths if noise.length_rule == "true" else [rows.longest] * len(rows.lengths)
    by_row = [standard_deviation(arm.strength, noise.unit, length, width) for length in lengths]
    scale = to_device(torch.tensor(by_row, dtype=torch.float32), clean.device)
    if noise.unit == "relative":
        scale = scale * _signals(clean.detach(), rows)
    return (arm.sign * scale[:, None] * rows.chosen(noise))[..., None]


def _signals(clean: Tensor, rows: Rows) -> Tensor:
    """Return the root-mean-square coordinate of each row's real tokens, `[batch]` float32."""
    squares = torch.linalg.vector_norm(clean, dim=-1, dtype=torch.float32).square()
    counts = to_device(torch.tensor(rows.lengths), clean.device) * clean.shape[-1]
    return ((squares * rows.real).sum(1) / counts).sqrt()
