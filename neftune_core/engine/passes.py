"""The passes of one step, which depend on the kind of noise and on the methods of an arm.

Plain noise needs one pass and a symmetric pair two. Adversarial noise needs ascent passes before the training pass.
Arms with methods that change the passes run in separate groups, so that the passes of other arms are not affected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from neftune_core.data.batches import Batch
from neftune_core.data.chat import EncodedExample
from neftune_core.engine.armset import ArmSet, Dropout
from neftune_core.engine.loss import ArmLosses, Labels, MicroBatch, Sums, arm_losses
from neftune_core.engine.methods.registry import METHODS
from neftune_core.models.accelerator import accelerator
from neftune_core.noise.batch import ArmNoise, BatchNoise, Rows, initial_noise
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.sites import DECODER, ENCODER


@dataclass(frozen=True)
class Passes:
    """The passes of a step. All passes over one micro-batch use the same dropout masks.

    Attributes:
        rates: Adapter dropout rate by slot.
        should_stop: Polled before every layer.
        scale: Loss scale, which multiplies all gradients.
        values: Method values by slot and method name; a slot without an entry uses no method.
    """

    stack: ArmSet
    rates: Mapping[int, float]
    model_dropout: float
    should_stop: Callable[[], bool]
    scale: float = 1.0
    values: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    def backward(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """Accumulate the gradients of every arm.

        Args:
            micro_batch: The rows.
            arms: Noise by slot.

        Returns:
            The losses by slot.
        """
        by_strategy: dict[tuple[str, ...], list[int]] = {}
        for slot, arm in arms.items():
            by_strategy.setdefault((pass_strategy(arm), *self._methods(slot, arm)), []).append(slot)
        found: dict[int, Sums] = {}
        for (strategy, *names), slots in by_strategy.items():
            own = [name for name in names if METHODS[name].passes]
            for group in self._groups(slots, names, micro_batch.batch.ids.numel()):
                given = {slot: arms[slot] for slot in group}
                with self._perturbed(group, names, micro_batch):
                    run = self._own_passes(own[0]) if own else STRATEGIES[strategy]
                    found |= run(self, micro_batch, given)
        return found

    def _own_passes(self, name: str) -> Strategy:
        """Return a strategy that runs the passes of a method with the values of its arms."""
        passes = METHODS[name].passes
        assert passes is not None
        return lambda own, rows, arms: passes(own, rows, arms, {slot: self.values[slot][name] for slot in arms})

    def _methods(self, slot: int, arm: ArmNoise) -> tuple[str, ...]:
        """Return the methods that change the passes of a slot, except those that need noise if the slot has none."""
        used = (name for name, value in self.values.get(slot, {}).items() if value and METHODS[name].in_step)
        return tuple(name for name in used if arm.strength or not METHODS[name].needs_noise)

    def _groups(self, slots: Sequence[int], names: Sequence[str], positions: int) -> list[list[int]]:
        """Split slots into groups that run together; an arm with perturbed weights runs alone."""
        if any(METHODS[name].perturbation for name in names):
            return [[slot] for slot in slots]
        pass_count = max((METHODS[name].pass_count for name in names), default=1)
        return self.stack.groups(slots, pass_count * positions)

    @contextmanager
    def _perturbed(self, group: Sequence[int], names: Sequence[str], micro_batch: MicroBatch) -> Iterator[None]:
        """Apply the weight perturbations of these methods, if any, to the group, which must then have one slot."""
        functions = [(name, found) for name in names if (found := METHODS[name].perturbation)]
        if not functions:
            yield
            return
        (slot,) = group

        def change(number: int, weight: Tensor) -> Tensor:
            """Return the sum of the perturbations of one weight.

            Args:
                number: Index of the weight.
                weight: The weight, `[out, in]` float32.

            Returns:
                The perturbation, of the same shape.
            """
            key = (*micro_batch.seed[:2], number)
            added = [function(self.values[slot][name], weight, key) for name, function in functions]
            return torch.stack(added).sum(0)

        with self.stack.perturbed(slot, change):
            yield

    def labels(self, micro_batch: MicroBatch, slots: Sequence[int]) -> Labels | None:
        """Return the tokens to train on and their weights if a method chooses them.

        Args:
            micro_batch: The rows.
            slots: Slots with the same methods.

        Returns:
            Positions that predict a trained token, with weights `[slots, positions]`; None if no method chooses tokens.
        """
        chosen = [
            [
                function(value, micro_batch)
                for name, value in self.values.get(slot, {}).items()
                if value and (function := METHODS[name].token_weights)
            ]
            for slot in slots
        ]
        if not any(chosen):
            return None
        return Labels(chosen[0][0].predicting, torch.stack([found.weights for (found,) in chosen]))

    def _single(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise], weight: float = 1.0) -> dict[int, Sums]:
        """Run a single pass, with the gradient multiplied by `weight`, and return the losses by slot."""
        losses = self._run(micro_batch, arms, weights=None if weight == 1 else [weight] * len(arms))
        return {slot: {"loss": total} for slot, total in zip(arms, losses.sums, strict=True)}

    def _symmetric_pair(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """Run one pass with the noise and one with its negative, at weight 1/2 each (SymNoise, arXiv 2312.01523)."""
        halves = [
            self._single(micro_batch, {slot: replace(arm, sign=sign) for slot, arm in arms.items()}, weight=0.5)
            for sign in (1.0, -1.0)
        ]
        return {slot: {"loss": (halves[0][slot]["loss"] + halves[1][slot]["loss"]) / 2} for slot in arms}

    def _with_ascent(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> dict[int, Sums]:
        """Run the ascent passes of every arm and then the training pass; the losses include `first_draw_loss`."""
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
            for noise in arm.adversarial.values():
                noise.unit.detach_()
        return {slot: sums | first[slot] for slot, sums in self._single(micro_batch, ascending).items()}

    def _ascend(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> dict[int, Tensor]:
        """Take one ascent step at every noise site of `arms`, and return the losses before it."""
        noises = [(noise, arm.settings.ascent_rate) for arm in arms.values() for noise in arm.adversarial.values()]
        losses = self._run(micro_batch, arms, gradients_of=[noise.unit for noise, _ in noises])
        for (noise, rate), gradient in zip(noises, losses.gradients, strict=True):
            noise.ascend(gradient, rate)
        return dict(zip(arms, losses.sums, strict=True))

    def _run(
        self,
        micro_batch: MicroBatch,
        arms: Mapping[int, ArmNoise],
        *,
        weights: Sequence[float] | None = None,
        gradients_of: Sequence[Tensor] = (),
    ) -> ArmLosses:
        with self.running(micro_batch, arms) as tree:
            return arm_losses(
                tree,
                micro_batch.batch,
                len(arms),
                backward_over=micro_batch.tokens / self.scale,
                weights=weights,
                gradients_of=gradients_of,
                labels=self.labels(micro_batch, list(arms)),
            )

    @contextmanager
    def running(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> Iterator[nn.Module]:
        """Yield the tree in training mode with these arms active, with noise and dropout.

        Args:
            micro_batch: The rows.
            arms: Noise by slot.

        Yields:
            The module tree.
        """
        is_noisy = any(arm.strength for arm in arms.values())
        noise = BatchNoise(list(arms.values()), micro_batch.rows) if is_noisy else None
        dropout = Dropout(tuple(self.rates[slot] for slot in arms), micro_batch.seed, self.model_dropout)
        accelerator.yield_turn()
        with self.stack.training([*arms], noise=noise, dropout=dropout, should_stop=self.should_stop) as tree:
            yield tree


Strategy = Callable[[Passes, MicroBatch, Mapping[int, ArmNoise]], dict[int, Sums]]
STRATEGIES: dict[str, Strategy] = {"one": Passes._single, "pair": Passes._symmetric_pair, "ascent": Passes._with_ascent}


def pass_strategy(arm: ArmNoise) -> str:
    """Return the pass strategy of an arm in this step; "one" without noise, or for adversarial noise without ascent."""
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
    """Collect the properties of rows that noise depends on, by component.

    In an encoder-decoder, all tokens of the encoder count as prompt and all tokens of the decoder as response.

    Args:
        rows: The rows of the batch.
        batch: The collated rows.
        keys: `(study seed, epoch, example)` of each row.
        step_rows: All rows of the step; the longest sets the length that the length rule "padded" uses.

    Returns:
        The properties by component, `ENCODER` or `DECODER`.
    """
    lengths = [_decoder_length(row) for row in rows]
    longest = max(map(_decoder_length, step_rows))
    response = batch.trained
    if batch.source is not None:
        response = response.clone()
        response[:, 0] = True  # the decoder start token
    found = {DECODER: Rows(keys, lengths, longest, response, batch.special)}
    if batch.source_special is not None:
        lengths, all_lengths = ([len(r.source) for r in some if r.source is not None] for some in (rows, step_rows))
        response = torch.zeros_like(batch.source_special)
        found[ENCODER] = Rows(keys, lengths, max(all_lengths), response, batch.source_special)
    return found


def _decoder_length(row: EncodedExample) -> int:
    """Return the number of tokens that the decoder reads in training; an encoder-decoder omits the last target."""
    return len(row.ids) - (row.source is not None)
