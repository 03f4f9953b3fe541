"""The passes of one step: one for plain noise, two for symmetric pairs, ascent and training passes for adversarial."""

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
"""Losses of one arm summed over the response tokens: `loss`, and for adversarial noise also `first_draw_loss`, the loss
before the ascent."""


@dataclass(frozen=True)
class Portion:
    """Rows that go through the model together: the rows of a step, or some of them.

    Attributes:
        batch: The collated rows.
        rows: What noise needs to know about the rows, by component.
        tokens: Response tokens of the whole step, the divisor of the gradient.
        seed: Key of the dropout masks.
    """

    batch: Batch
    rows: Mapping[str, Rows]
    tokens: int
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Passes:
    """Runs the passes of a step; all passes over one portion use the same dropout masks.

    Attributes:
        stack: The arms.
        rates: Adapter dropout rate by slot.
        model_dropout: Dropout rate inside the model.
        should_stop: Polled before every layer.
        scale: Loss scale, which multiplies all gradients.
    """

    stack: ArmSet
    rates: Mapping[int, float]
    model_dropout: float
    should_stop: Callable[[], bool]
    scale: float = 1.0

    def backward(self, portion: Portion, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """Accumulate the gradients of every arm.

        Args:
            portion: The rows.
            arms: Noise by slot.

        Returns:
            The losses by slot.

        Raises:
            Cancelled: Within one layer of `should_stop()` becoming true.
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
        """Run a single pass.

        Args:
            portion: The rows.
            arms: Noise by slot.
            weight: Weight of the losses in the gradient.

        Returns:
            The losses by slot.
        """
        losses = self._run(portion, arms, weights=None if weight == 1 else [weight] * len(arms))
        return {slot: {"loss": total} for slot, total in zip(arms, losses.sums, strict=True)}

    def as_pair(self, portion: Portion, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """Run one pass with the noise and one with its negative, at weight 1/2 each (SymNoise, arXiv 2312.01523).

        Args:
            portion: The rows.
            arms: Noise by slot.

        Returns:
            The mean loss of the two passes, by slot.
        """
        halves = [
            self.once(portion, {slot: replace(arm, sign=sign) for slot, arm in arms.items()}, weight=0.5)
            for sign in (1.0, -1.0)
        ]
        return {slot: {"loss": (halves[0][slot]["loss"] + halves[1][slot]["loss"]) / 2} for slot in arms}

    def after_ascent(self, portion: Portion, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """Run the ascent passes of every arm and then the training pass.

        Args:
            portion: The rows.
            arms: Noise by slot.

        Returns:
            The losses by slot, with `first_draw_loss`.
        """
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
        """Take one ascent step at every site of `arms`; return the losses before it."""
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
    """Return the pass strategy of an arm in this step; "one" if it has no strength or no ascent steps."""
    way = KINDS[arm.settings.kind].passes
    if arm.strength == 0 or (way == "ascent" and arm.settings.ascent_steps == 0):
        return "one"
    return way


def noise_rows(
    rows: Sequence[Encoded], batch: Batch, keys: Sequence[tuple[int, int, int]], step_rows: Sequence[Encoded]
) -> dict[str, Rows]:
    """Describe rows for the noise, by component ("encoder", "decoder").

    Everything that an encoder reads counts as prompt, and everything that its decoder reads as response.

    Args:
        rows: The rows of the batch.
        batch: The collated rows.
        keys: `(study seed, epoch, example)` of each row.
        step_rows: All rows of the step, which determine the padded length.
    """
    lengths = [_read_by_decoder(row) for row in rows]
    longest = max(_read_by_decoder(row) for row in step_rows)
    response = batch.trained
    if batch.source is not None:
        response = response.clone()
        response[:, 0] = True  # the decoder start token
    found = {DECODER: Rows(keys, lengths, longest, response, batch.special)}
    sources, all_sources = ([len(row.source) for row in some if row.source is not None] for some in (rows, step_rows))
    if batch.source_special is not None:
        none_of_it = batch.source_special.new_zeros(batch.source_special.shape)
        found[ENCODER] = Rows(keys, sources, max(all_sources), none_of_it, batch.source_special)
    return found


def _read_by_decoder(row: Encoded) -> int:
    """Return the number of tokens that the decoder reads in training; an encoder-decoder omits the last target."""
    return len(row.ids) - (row.source is not None)
