"""One AdamW step of all arms, with gradient clipping and weight decay per arm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from neftune_core.engine.armset import ArmSet, TrainedTensor
from neftune_core.noise.batch import to_device

FIRST, LARGEST = 2.0**14, 2.0**24
DOUBLED_AFTER = 2000


class LossScale:
    """Dynamic loss scale shared by all arms, for float16 only; 1 in other precisions.

    The scale is halved when a gradient overflows, and doubled (up to `LARGEST`) after `DOUBLED_AFTER` steps without
    overflow. A step that overflowed is repeated at the smaller scale, so that all arms take the same steps.
    """

    def __init__(self, precision: str) -> None:
        self._is_fixed = precision != "float16"
        self.value = 1.0 if self._is_fixed else FIRST
        self.steps_without_overflow = 0

    def overflowed(self, losses: Iterable[float], norms: Iterable[float]) -> bool:
        """Return whether a gradient overflowed, and halve the scale if so.

        Args:
            losses: Loss of each arm.
            norms: Gradient norm of each arm.

        Returns:
            Whether an arm has a finite loss but a non-finite gradient. Always False at scale 1, because scaling cannot
            be the cause then.
        """
        if self.value <= 1:
            return False
        pairs = zip(losses, norms, strict=True)
        if all(math.isfinite(norm) or not math.isfinite(loss) for loss, norm in pairs):
            return False
        self.value, self.steps_without_overflow = self.value / 2, 0
        return True

    def stepped(self) -> None:
        """Count a completed step, and double the scale after enough steps without overflow."""
        self.steps_without_overflow += 1
        if not self._is_fixed and self.steps_without_overflow >= DOUBLED_AFTER:
            self.value, self.steps_without_overflow = min(2 * self.value, LARGEST), 0


NORM_PIECE = 1024
"""Elements per partial norm. A single float32 sum over millions of squares is wrong in the fifth digit."""


@dataclass(frozen=True, eq=False)
class Block:
    """Trained tensors of the same slots, concatenated so that a step takes few operations.

    Attributes:
        parts: The tensors; their parameters are views of `values`.
        values: `[slots, elements]`, or the tensor itself for a single slot.
        start: Initial values of one slot.
    """

    parts: Sequence[TrainedTensor]
    values: Tensor
    start: Tensor

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots in the block."""
        return self.parts[0].slots

    @property
    def decays(self) -> bool:
        """Whether weight decay applies."""
        return self.parts[0].decays

    def by_slot(self, tensor: Tensor) -> Tensor:
        """Return a view of `tensor` with the slots as its first axis; `tensor` has the shape of `values`."""
        return tensor if tensor.dim() > self.start.dim() else tensor[None]

    def gather(self) -> None:
        """Move the gradients of the parts into `values.grad`."""
        parameters = [part.parameter for part in self.parts]
        if all(parameter.grad is None or parameter is self.values for parameter in parameters):
            return
        gradients = (torch.zeros_like(one) if one.grad is None else one.grad for one in parameters)
        self.values.grad = torch.cat([one.flatten(1) for one in gradients], dim=1)
        for parameter in parameters:
            parameter.grad = None

    def multiply(self, tensor: Tensor, factors: Mapping[int, float]) -> None:
        """Multiply each slot of a tensor in place.

        Args:
            tensor: A tensor shaped like `values`.
            factors: Factor by slot; other slots are not changed.
        """
        by_slot = self.by_slot(tensor)
        chosen = [factors.get(slot, 1.0) for slot in self.slots]
        if any(factor != 1 for factor in chosen):
            by_slot.mul_(to_device(torch.tensor(chosen), tensor.device).view(-1, *[1] * (by_slot.dim() - 1)))

    def norms(self, tensor: Tensor) -> Tensor:
        """Return the norm of each slot of `tensor`, `[slots]`."""
        rows = self.by_slot(tensor).flatten(1).float()
        whole = rows.shape[1] // NORM_PIECE * NORM_PIECE
        of_pieces = torch.linalg.vector_norm(rows[:, :whole].unflatten(1, (-1, NORM_PIECE)), dim=2)
        of_rest = torch.linalg.vector_norm(rows[:, whole:], dim=1, keepdim=True)
        return torch.linalg.vector_norm(torch.cat([of_pieces, of_rest], dim=1), dim=1)


def build_blocks(parts: Iterable[TrainedTensor]) -> list[Block]:
    """Group tensors into blocks. Parameters of several slots become views of one tensor."""
    groups: dict[object, list[TrainedTensor]] = {}
    for number, part in enumerate(parts):
        groups.setdefault((part.slots, part.decays) if len(part.slots) > 1 else number, []).append(part)
    return [_block(group) for group in groups.values()]


def _block(parts: list[TrainedTensor]) -> Block:
    if len(parts[0].slots) == 1:
        return Block(parts, parts[0].parameter, parts[0].start)
    values = torch.cat([part.parameter.detach().flatten(1) for part in parts], dim=1)
    sizes = [part.start.numel() for part in parts]
    for part, own in zip(parts, values.split(sizes, dim=1), strict=True):
        part.parameter.data = own.unflatten(1, part.start.shape)
    start = torch.cat([part.start.flatten() for part in parts])
    return Block(parts, nn.Parameter(values), start)


class ArmOptimizer:
    """AdamW over all trained tensors of a set of arms. Call `ArmSet.start` first.

    Args:
        arms: The set of arms.
        learning_rate: Initial learning rate.
    """

    def __init__(self, arms: ArmSet, learning_rate: float) -> None:
        self.slots = arms.slots
        self.blocks = build_blocks(arms.trained())
        self.adamw = torch.optim.AdamW(
            [block.values for block in self.blocks],
            lr=learning_rate,
            weight_decay=0.0,
            fused=arms.loaded.device.type in ("cpu", "cuda"),
        )

    def clear(self) -> None:
        """Clear all gradients."""
        self.adamw.zero_grad(set_to_none=True)
        for block in self.blocks:
            for part in block.parts:
                part.parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """Return the gradients of all blocks; zeros if the backward pass left none."""
        for block in self.blocks:
            block.gather()
            if block.values.grad is None:
                block.values.grad = torch.zeros_like(block.values)
        return [block.values.grad for block in self.blocks if block.values.grad is not None]

    def norms(self) -> list[float]:
        """Return the current gradient norm of each slot."""
        for block in self.blocks:
            block.gather()
        return self._norms((block, block.values.grad) for block in self.blocks)

    def step(
        self,
        losses: Mapping[int, float],
        norms: Sequence[float],
        *,
        learning_rate: float,
        clip_norm: float,
        decay: Mapping[int, float],
        scale: float = 1.0,
    ) -> dict[int, dict[str, float | bool]]:
        """Update the arms from their gradients.

        An arm with a non-finite loss or gradient is not changed.

        Args:
            losses: Loss by slot; only these slots are updated.
            norms: Gradient norms from `norms()`.
            learning_rate: Learning rate of this step.
            clip_norm: Maximum gradient norm of each arm; 0 disables clipping.
            decay: Weight decay by slot.
            scale: Loss scale of the gradients.

        Returns:
            By slot: `gradient_norm` before clipping, `clipped`, and `weight_distance`, as from `distances`.
        """
        unscaled = [norm / scale for norm in norms]
        finite = [slot for slot, loss in losses.items() if math.isfinite(loss) and math.isfinite(unscaled[slot])]
        limits = {slot: clip_norm / (unscaled[slot] + 1e-6) if clip_norm > 0 else 1.0 for slot in finite}
        factors = {slot: min(1.0, limit) / scale for slot, limit in limits.items()}
        for block in self.blocks:
            if block.values.grad is not None:
                block.multiply(block.values.grad, factors)
        self.reset_momentum(set(losses) - set(finite))
        if finite:
            shrinking = {slot: 1 - learning_rate * decay[slot] for slot in finite}
            for block in self.blocks:
                if block.decays:  # decoupled weight decay (arXiv 1711.05101)
                    block.multiply(block.values.detach(), shrinking)
            for group in self.adamw.param_groups:
                group["lr"] = learning_rate
            self.adamw.step()
        distances = self.distances()
        return {
            slot: {
                "gradient_norm": unscaled[slot],
                "clipped": limits.get(slot, 1.0) < 1,
                "weight_distance": distances[slot],
            }
            for slot in losses
        }

    @torch.no_grad()
    def distances(self) -> list[float]:
        """Return the norm of the change in each slot since the start; the value for the base is meaningless."""
        return self._norms((block, block.values - block.start) for block in self.blocks)

    def reset_momentum(self, slots: set[int]) -> None:
        """Zero the gradients of these slots, and AdamW's running means, which would keep changing the weights."""
        for block in self.blocks:
            indices = [index for index, slot in enumerate(block.slots) if slot in slots]
            running_mean = self.adamw.state.get(block.values, {}).get("exp_avg")
            for tensor in (block.values.grad, running_mean) if indices else ():
                if tensor is not None:
                    block.by_slot(tensor)[indices] = 0.0  # 0 times NaN is NaN

    def _norms(self, tensors: Iterable[tuple[Block, Tensor | None]]) -> list[float]:
        """Return the norm per slot over all `tensors`, or 0 for a slot without tensors."""
        found: dict[tuple[int, ...], list[Tensor]] = {}
        for block, tensor in tensors:
            if tensor is not None:
                found.setdefault(block.slots, []).append(block.norms(tensor))
        norms = [0.0] * self.slots
        if found:  # one transfer, so that the device is synchronised only once
            of_slots = [torch.linalg.vector_norm(torch.stack(several), dim=0) for several in found.values()]
            for slot, norm in zip(chain(*found), torch.cat(of_slots).tolist(), strict=True):
                norms[slot] = norm
        return norms
