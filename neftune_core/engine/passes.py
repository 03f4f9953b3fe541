"""The passes of one step: one for plain noise, two for symmetric pairs, ascent and training passes for adversarial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from neftune_core.data.batches import Batch
from neftune_core.data.chat import EncodedExample
from neftune_core.engine.accelerator import accelerator
from neftune_core.engine.armset import ArmSet, Dropout
from neftune_core.engine.loss import ArmLosses, arm_losses
from neftune_core.noise.batch import ArmNoise, BatchNoise, Rows, initial_noise
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.sites import DECODER, ENCODER

Sums = dict[str, Tensor]
"""Losses of one arm summed over the response tokens: `loss`, and for adversarial noise also `first_draw_loss`, the loss
before the ascent."""


@dataclass(frozen=True)
class MicroBatch:
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
    """Runs the passes of a step; all passes over one micro_batch use the same dropout masks.

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

    def backward(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """Accumulate the gradients of every arm.

        Args:
            micro_batch: The rows.
            arms: Noise by slot.

        Returns:
            The losses by slot.

        Raises:
            Cancelled: Within one layer of `should_stop()` becoming true.
        """
        by_strategy: dict[str, list[int]] = {}
        for slot, arm in arms.items():
            by_strategy.setdefault(pass_strategy(arm), []).append(slot)
        groups = [
            (strategy, group)
            for strategy, slots in by_strategy.items()
            for group in self.stack.groups(slots, micro_batch.batch.ids.numel())
        ]
        found: dict[int, Sums] = {}
        for strategy, group in groups:
            found |= STRATEGIES[strategy](self, micro_batch, {slot: arms[slot] for slot in group})
        return found

    def single(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise], weight: float = 1.0) -> dict[int, Sums]:
        """Run a single pass.

        Args:
            micro_batch: The rows.
            arms: Noise by slot.
            weight: Weight of the losses in the gradient.

        Returns:
            The losses by slot.
        """
        losses = self._run(micro_batch, arms, weights=None if weight == 1 else [weight] * len(arms))
        return {slot: {"loss": total} for slot, total in zip(arms, losses.sums, strict=True)}

    def symmetric_pair(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """Run one pass with the noise and one with its negative, at weight 1/2 each (SymNoise, arXiv 2312.01523).

        Args:
            micro_batch: The rows.
            arms: Noise by slot.

        Returns:
            The mean loss of the two passes, by slot.
        """
        halves = [
            self.single(micro_batch, {slot: replace(arm, sign=sign) for slot, arm in arms.items()}, weight=0.5)
            for sign in (1.0, -1.0)
        ]
        return {slot: {"loss": (halves[0][slot]["loss"] + halves[1][slot]["loss"]) / 2} for slot in arms}

    def with_ascent(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """Run the ascent passes of every arm and then the training pass.

        Args:
            micro_batch: The rows.
            arms: Noise by slot.

        Returns:
            The losses by slot, with `first_draw_loss`.
        """
        widths = self.stack.site_widths()
        ascending = {
            slot: replace(arm, adversarial=initial_noise(arm, self.stack.sites, widths, micro_batch.rows))
            for slot, arm in arms.items()
        }
        first: dict[int, Sums] = {}
        for step in range(max(arm.settings.ascent_steps for arm in arms.values())):
            active = {slot: arm for slot, arm in ascending.items() if arm.settings.ascent_steps > step}
            sums = self._ascend(micro_batch, active)
            first = first or {slot: {"first_draw_loss": total} for slot, total in sums.items()}
        for arm in ascending.values():
            for adversarial in arm.adversarial.values():
                adversarial.detach()
        return {slot: sums | first[slot] for slot, sums in self.single(micro_batch, ascending).items()}

    def _ascend(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> dict[int, Tensor]:
        """Take one ascent step at every site of `arms`; return the losses before it."""
        places = [
            (arm.settings.ascent_rate, adversarial) for arm in arms.values() for adversarial in arm.adversarial.values()
        ]
        losses = self._run(micro_batch, arms, gradients_of=[adversarial.unit for _, adversarial in places])
        for (rate, adversarial), gradient in zip(places, losses.gradients, strict=True):
            adversarial.ascend(gradient, rate)
        return dict(zip(arms, losses.sums, strict=True))

    def _run(
        self,
        micro_batch: MicroBatch,
        arms: Mapping[int, ArmNoise],
        *,
        weights: Sequence[float] | None = None,
        gradients_of: Sequence[Tensor] = (),
    ) -> ArmLosses:
        slots = list(arms)
        noise = (
            BatchNoise(list(arms.values()), micro_batch.rows) if any(arm.strength for arm in arms.values()) else None
        )
        dropout = Dropout(tuple(self.rates[slot] for slot in slots), micro_batch.seed, self.model_dropout)
        accelerator.yield_turn()
        with self.stack.training(slots, noise=noise, dropout=dropout, should_stop=self.should_stop) as tree:
            return arm_losses(
                tree,
                micro_batch.batch,
                len(slots),
                backward_over=micro_batch.tokens / self.scale,
                weights=weights,
                gradients_of=gradients_of,
            )


STRATEGIES: dict[str, Callable[[Passes, MicroBatch, Mapping[int, ArmNoise]], dict[int, Sums]]] = {
    "one": Passes.single,
    "pair": Passes.symmetric_pair,
    "ascent": Passes.with_ascent,
}


def pass_strategy(arm: ArmNoise) -> str:
    """Return the pass strategy of an arm in this step; "one" if it has no strength or no ascent steps."""
    strategy = KINDS[arm.settings.kind].passes
    if arm.strength == 0 or (strategy == "ascent" and arm.settings.ascent_steps == 0):
        return "one"
    return strategy


def noise_rows(
    rows: Sequence[EncodedExample],
    batch: Batch,
    keys: Sequence[tuple[int, int, int]],
    step_rows: Sequence[EncodedExample],
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


def _read_by_decoder(row: EncodedExample) -> int:
    """Return the number of tokens that the decoder reads in training; an encoder-decoder omits the last target."""
    return len(row.ids) - (row.source is not None)
