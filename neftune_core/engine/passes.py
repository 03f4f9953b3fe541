"""The passes of one step: plain arms once, symmetric pairs twice, adversarial noise up its ascent and then once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from neftune_core.data.batches import Batch
from neftune_core.data.chat import Encoded
from neftune_core.engine.accelerator import accelerator
from neftune_core.engine.armset import ArmSet, Dropout
from neftune_core.engine.loss import ArmLosses, arm_losses
from neftune_core.noise.ascent import first_draw
from neftune_core.noise.batch import ArmNoise, BatchNoise, Rows
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.sites import DECODER, ENCODER

Sums = dict[str, Tensor]
"""Losses of one arm, each summed over the response tokens: `loss`, and where the noise is adversarial
`first_draw_loss`, that of the draw it began with."""


@dataclass(frozen=True)
class Portion:
    """Rows that go through the model together: those of a step, or some of them.

    tokens: response tokens of the whole step, by which the gradient is divided; seed: of the dropout masks.
    """

    batch: Batch
    rows: Mapping[str, Rows]
    tokens: int
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Passes:
    """How a portion goes through the arms; every pass over the same portion has the same dropout masks.

    rates: by slot, the dropout on the adapters' input; model_dropout: the model's own; scale: by which all gradients
    are multiplied.
    """

    stack: ArmSet
    rates: Mapping[int, float]
    model_dropout: float
    should_stop: Callable[[], bool]
    scale: float = 1.0

    def backward(self, portion: Portion, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """Add the gradient of every arm to what it trains; gives the losses by slot.

        Raises `Cancelled` within a layer of `should_stop()`.
        """
        by_way: dict[str, list[int]] = {}
        for slot, arm in arms.items():
            by_way.setdefault(passes_of(arm), []).append(slot)
        groups = [
            (way, group)
            for way, slots in by_way.items()
            for group in self.stack.groups(slots, portion.batch.ids.numel())
        ]
        found: dict[int, Sums] = {}
        for way, group in groups:
            found |= WAYS[way](self, portion, {slot: arms[slot] for slot in group})
        return found

    def once(self, portion: Portion, arms: Mapping[int, ArmNoise], weight: float = 1.0) -> dict[int, Sums]:
        """One pass, its gradient at `weight`."""
        losses = self._run(portion, arms, weights=None if weight == 1 else [weight] * len(arms))
        return {slot: {"loss": total} for slot, total in zip(arms, losses.sums, strict=True)}

    def as_pair(self, portion: Portion, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """A pass with the noise and one with its opposite, at one half each; the loss is their mean."""
        halves = [
            self.once(portion, {slot: replace(arm, sign=sign) for slot, arm in arms.items()}, weight=0.5)
            for sign in (1.0, -1.0)
        ]
        return {slot: {"loss": (halves[0][slot]["loss"] + halves[1][slot]["loss"]) / 2} for slot in arms}

    def after_ascent(self, portion: Portion, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """The ascent steps of every arm, then the pass that trains."""
        widths = self.stack.site_widths()
        on_the_way = {
            slot: replace(arm, climbed=first_draw(arm, self.stack.sites, widths, portion.rows))
            for slot, arm in arms.items()
        }
        first: dict[int, Sums] = {}
        for step in range(max(arm.settings.ascent_steps for arm in arms.values())):
            climbing = {slot: arm for slot, arm in on_the_way.items() if arm.settings.ascent_steps > step}
            sums = self._climb(portion, climbing)
            first = first or {slot: {"first_draw_loss": total} for slot, total in sums.items()}
        for arm in on_the_way.values():
            for climbed in arm.climbed.values():
                climbed.rest()
        return {slot: sums | first[slot] for slot, sums in self.once(portion, on_the_way).items()}

    def _climb(self, portion: Portion, arms: Mapping[int, ArmNoise]) -> dict[int, Tensor]:
        """One ascent step of every site of `arms`; gives the losses before it."""
        places = [(arm.settings.ascent_rate, climbed) for arm in arms.values() for climbed in arm.climbed.values()]
        losses = self._run(portion, arms, gradients_of=[climbed.unit for _, climbed in places])
        for (rate, climbed), gradient in zip(places, losses.gradients, strict=True):
            climbed.climb(gradient, rate)
        return dict(zip(arms, losses.sums, strict=True))

    def _run(
        self,
        portion: Portion,
        arms: Mapping[int, ArmNoise],
        *,
        weights: Sequence[float] | None = None,
        gradients_of: Sequence[Tensor] = (),
    ) -> ArmLosses:
        slots = list(arms)
        noise = BatchNoise(list(arms.values()), portion.rows) if any(arm.strength for arm in arms.values()) else None
        dropout = Dropout(tuple(self.rates[slot] for slot in slots), portion.seed, self.model_dropout)
        accelerator.let_others()
        with self.stack.training(slots, noise=noise, dropout=dropout, should_stop=self.should_stop) as tree:
            return arm_losses(
                tree,
                portion.batch,
                len(slots),
                backward_over=portion.tokens / self.scale,
                weights=weights,
                gradients_of=gradients_of,
            )


WAYS: dict[str, Callable[[Passes, Portion, Mapping[int, ArmNoise]], dict[int, Sums]]] = {
    "one": Passes.once,
    "pair": Passes.as_pair,
    "ascent": Passes.after_ascent,
}


def passes_of(arm: ArmNoise) -> str:
    """Which way an arm goes in this step; without strength, or without ascent steps, it is a plain one."""
    way = KINDS[arm.settings.kind].passes
    if arm.strength == 0 or (way == "ascent" and arm.settings.ascent_steps == 0):
        return "one"
    return way


def noise_rows(
    rows: Sequence[Encoded], batch: Batch, keys: Sequence[tuple[int, int, int]], step_rows: Sequence[Encoded]
) -> dict[str, Rows]:
    """What noise has to know of `rows`, collated as `batch`, by part; `step_rows` are those of the whole step.

    All that an encoder reads is prompt, and all that its decoder reads is response.
    """
    lengths = [_read_by_decoder(row) for row in rows]
    longest = max(_read_by_decoder(row) for row in step_rows)
    response = batch.trained
    if batch.source is not None:
        response = response.clone()
        response[:, 0] = True  # the token that a decoder starts from
    found = {DECODER: Rows(keys, lengths, longest, response, batch.special)}
    sources, all_sources = ([len(row.source) for row in some if row.source is not None] for some in (rows, step_rows))
    if batch.source_special is not None:
        none_of_it = batch.source_special.new_zeros(batch.source_special.shape)
        found[ENCODER] = Rows(keys, sources, max(all_sources), none_of_it, batch.source_special)
    return found


def _read_by_decoder(row: Encoded) -> int:
    """The tokens that the decoder reads when it is trained; of an encoder-decoder, all but the last one predicted."""
    return len(row.ids) - (row.source is not None)
