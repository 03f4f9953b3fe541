"""The noise of one training batch, for all arms of a pass: one unit draw a kind and site, one scale an arm and row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neftune_core.noise.kinds import EMBEDDING_SITE, KINDS, draw_unit, noise_key
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation

if TYPE_CHECKING:
    from neftune_core.noise.ascent import Climbed
    from neftune_core.noise.sites import Site

CHOSEN_TOKENS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "all": lambda true, response: true,
    "prompt": lambda true, response: true & ~response,
    "response": lambda true, response: true & response,
}


@dataclass(frozen=True)
class Rows:
    """What noise has to know of the rows of a right-padded batch in one part of a model.

    keys: what the draws of each row depend on besides the site (study seed, epoch, example); lengths: true lengths;
    longest: the greatest of the whole step, of which these may be a portion; response and special: bool
    `[batch, padded]`, never True on padding.
    """

    keys: Sequence[tuple[int, int, int]]
    lengths: Sequence[int]
    longest: int
    response: Tensor
    special: Tensor

    @cached_property
    def true(self) -> Tensor:
        """Where there is no padding, bool `[batch, padded]`."""
        places = torch.arange(self.response.shape[1], device=self.response.device)
        return places < torch.tensor(self.lengths, device=self.response.device)[:, None]

    def chosen(self, noise: NoiseSettings) -> Tensor:
        """The tokens that get noise, bool `[batch, padded]`."""
        chosen = CHOSEN_TOKENS[noise.tokens](self.true, self.response)
        return chosen if noise.special_tokens else chosen & ~self.special


@dataclass(frozen=True)
class ArmNoise:
    """The noise of one arm in one pass.

    sites: the numbers of its sites; multiplier: that of its schedule; sign: -1 for the other half of a pair;
    climbed: by the key of a site, what takes the place of the draw.
    """

    settings: NoiseSettings
    sites: Sequence[int] = (EMBEDDING_SITE,)
    multiplier: float = 1.0
    sign: float = 1.0
    climbed: Mapping[int, Climbed] = field(default_factory=dict)

    @property
    def strength(self) -> float:
        """The strength of this step."""
        return self.settings.strength * self.multiplier

    def reaches(self, site: Site) -> bool:
        """Whether this arm has noise there."""
        return self.strength != 0 and site.number in self.sites


@dataclass(frozen=True)
class BatchNoise:
    """The noise of `arms` on one batch; `rows` by part of the model ("encoder", "decoder")."""

    arms: Sequence[ArmNoise]
    rows: Mapping[str, Rows]

    def add_to(self, site: Site, vectors: Tensor) -> Tensor:
        """`vectors` `[arms * batch, length, width]`, laid out arm by arm, with each arm's noise of that site.

        Drawn and added in float32 and rounded once. In place where `vectors` carries no gradient (the output of a
        frozen embedding is nobody else's); the same tensor untouched where no arm has noise there. Besides it at
        most one unit draw a kind is in memory. `relative` goes by the vectors as they come here, with the noise of
        the sites before this one.
        """
        if not any(arm.reaches(site) for arm in self.arms):
            return vectors
        rows, units = self.rows[site.part], dict[str, Tensor]()
        in_place = not vectors.requires_grad and not any(arm.climbed for arm in self.arms)
        by_arm = list(vectors.unflatten(0, (len(self.arms), -1)))
        for place, arm in enumerate(self.arms):
            if not arm.reaches(site):
                continue
            kind, clean = arm.settings.kind, by_arm[place]
            if site.key in arm.climbed:
                by_arm[place] = arm.climbed[site.key].added_to(clean, arm, rows)
                continue
            if kind not in units:
                units[kind] = draw_units(kind, site.key, rows, clean)
            noisy = dropped if KINDS[kind].drops else added
            by_arm[place] = noisy(clean, units[kind], arm, rows, in_place=in_place)
        return vectors if in_place else torch.cat(by_arm)


def draw_units(kind: str, site_key: int, rows: Rows, clean: Tensor) -> Tensor:
    """The unit draw of every row for vectors `clean` `[batch, padded, width]`, float32, zero on padding.

    `[batch, padded, 1]` for a kind that drops tokens.
    """
    batch, padded, width = clean.shape
    units = torch.zeros(batch, padded, 1 if KINDS[kind].drops else width)
    for row, (key, length) in enumerate(zip(rows.keys, rows.lengths, strict=True)):
        units[row, :length] = torch.from_numpy(draw_unit(kind, noise_key(*key, site_key), length, width))
    return units.to(clean.device)


def added(clean: Tensor, units: Tensor, arm: ArmNoise, rows: Rows, *, in_place: bool) -> Tensor:
    """`clean` `[batch, padded, width]` with `units` at the arm's scale."""
    return scaled_sum(clean, units, deviations(arm, rows, clean), in_place=in_place)


def scaled_sum(clean: Tensor, units: Tensor, scale: Tensor, *, in_place: bool = False) -> Tensor:
    """`clean + units * scale` in float32, rounded once to the precision of `clean`."""
    if in_place:
        return clean.addcmul_(units, scale)
    return torch.addcmul(clean.float(), units, scale).to(clean.dtype)


def dropped(clean: Tensor, units: Tensor, arm: ArmNoise, rows: Rows, *, in_place: bool) -> Tensor:
    """`clean` with the chosen tokens whose draw is below the arm's share set to zero; a share above 1 counts as 1."""
    where = (units < min(1.0, arm.strength)) & rows.chosen(arm.settings)[..., None]
    return clean.masked_fill_(where, 0) if in_place else clean.masked_fill(where, 0)


def deviations(arm: ArmNoise, rows: Rows, clean: Tensor) -> Tensor:
    """The standard deviation of the arm's noise at every token, with its sign, `[batch, padded, 1]` float32.

    Zero where it gets none. `clean` `[batch, padded, width]` are the vectors that `relative` goes by.
    """
    noise, width = arm.settings, clean.shape[-1]
    lengths = rows.lengths if noise.length_rule == "true" else [rows.longest] * len(rows.lengths)
    by_row = [standard_deviation(arm.strength, noise.unit, length, width) for length in lengths]
    scale = torch.tensor(by_row, dtype=torch.float32, device=clean.device)
    if noise.unit == "relative":
        scale = scale * signals(clean.detach(), rows)
    return (arm.sign * scale[:, None] * rows.chosen(noise))[..., None]


def signals(clean: Tensor, rows: Rows) -> Tensor:
    """The root-mean-square coordinate of each row's true tokens, `[batch]` float32."""
    squares = torch.linalg.vector_norm(clean, dim=-1, dtype=torch.float32).square()
    counts = torch.tensor(rows.lengths, device=clean.device) * clean.shape[-1]
    return ((squares * rows.true).sum(1) / counts).sqrt()
