"""One AdamW step of all arms: clipping and weight decay arm by arm, and what became of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neftune_core.arms.armset import ArmSet, Trained


@dataclass(frozen=True)
class Rates:
    """What a step goes by: the learning rate, the largest norm of an arm's gradient (0 for any), and decay by slot."""

    learning: float
    clip_norm: float
    decay: Mapping[int, float]


@dataclass(frozen=True)
class Moved:
    """What became of one arm in a step: whether its loss and gradient were finite, and its numbers.

    `gradient_norm` before clipping; whether it was `clipped`; `weight_distance`, the norm of all that has changed in
    the arm since the start.
    """

    sound: bool
    numbers: dict[str, float | bool]


class ArmOptimizer:
    """All that a set of arms trains, with its optimizer; the arms must be at their start."""

    def __init__(self, arms: ArmSet, learning_rate: float) -> None:
        self.slots = arms.slots
        self.parts = arms.trained()
        self.adamw = torch.optim.AdamW(
            [part.parameter for part in self.parts],
            lr=learning_rate,
            weight_decay=0.0,
            fused=arms.loaded.device.type in ("cpu", "cuda"),
        )

    def clear(self) -> None:
        """Forget all gradients."""
        self.adamw.zero_grad(set_to_none=True)

    def norms(self) -> list[float]:
        """By slot, the norm of its gradient as it stands."""
        return slot_norms(self._gradients(), self.slots).tolist()

    def step(
        self, losses: Mapping[int, float], rates: Rates, norms: Sequence[float], scale: float = 1.0
    ) -> dict[int, Moved]:
        """Move the arms by their gradients; `losses` names the slots that take part, `norms` are those of `norms()`.

        The gradients are `scale` times the true ones. An arm whose loss or gradient is not finite stays where it is.
        """
        true = [norm / scale for norm in norms]
        sound = [slot for slot, loss in losses.items() if math.isfinite(loss) and math.isfinite(true[slot])]
        limits = {slot: rates.clip_norm / (true[slot] + 1e-6) if rates.clip_norm > 0 else 1.0 for slot in sound}
        self._scale({slot: min(1.0, limit) / scale for slot, limit in limits.items()})
        self._stand_still(set(losses) - set(sound))
        if sound:
            self._decay({slot: 1 - rates.learning * rates.decay[slot] for slot in sound})
            for group in self.adamw.param_groups:
                group["lr"] = rates.learning
            self.adamw.step()
        distances = self.distances()
        return {
            slot: Moved(
                slot in sound,
                {
                    "gradient_norm": true[slot],
                    "clipped": limits.get(slot, 1.0) < 1,
                    "weight_distance": distances[slot],
                },
            )
            for slot in losses
        }

    def distances(self) -> list[float]:
        """By slot, the norm of its change since the start (of no meaning for the base)."""
        with torch.no_grad():
            changes = ((part, part.parameter - part.start) for part in self.parts)
            return slot_norms(changes, self.slots).tolist()

    def _gradients(self) -> Iterable[tuple[Trained, Tensor]]:
        return ((part, part.parameter.grad) for part in self.parts if part.parameter.grad is not None)

    def _scale(self, factors: Mapping[int, float]) -> None:
        """Each slot's gradient times its factor; zero for a slot that has none, whatever it was."""
        for part, gradient in self._gradients():
            self._multiply(part, gradient, factors, otherwise=0.0)
            without = [place for place, slot in enumerate(part.slots) if slot not in factors]
            if without:
                part.by_slot(gradient)[without] = 0.0  # 0 times NaN is NaN

    def _stand_still(self, slots: set[int]) -> None:
        """Forget the running mean of the gradient, which would carry a slot on without one."""
        for part in self.parts:
            places = [place for place, slot in enumerate(part.slots) if slot in slots]
            if places and "exp_avg" in self.adamw.state.get(part.parameter, {}):
                part.by_slot(self.adamw.state[part.parameter]["exp_avg"])[places] = 0.0

    def _decay(self, factors: Mapping[int, float]) -> None:
        """Decoupled weight decay (arXiv 1711.05101), slot by slot."""
        if all(factor == 1 for factor in factors.values()):
            return
        with torch.no_grad():
            for part in self.parts:
                if part.decays:
                    self._multiply(part, part.parameter, factors, otherwise=1.0)

    @staticmethod
    def _multiply(part: Trained, tensor: Tensor, factors: Mapping[int, float], otherwise: float) -> None:
        """Multiply each slot of `tensor` in place by its factor."""
        by_slot = part.by_slot(tensor)
        chosen = [factors.get(slot, otherwise) for slot in part.slots]
        if any(factor != 1 for factor in chosen):
            by_slot.mul_(torch.tensor(chosen, device=tensor.device).view(-1, *[1] * (by_slot.dim() - 1)))


def slot_norms(tensors: Iterable[tuple[Trained, Tensor]], slots: int) -> Tensor:
    """The norm over all `tensors` for each slot, `[slots]`, on the processor; 0 for a slot that has none."""
    found: dict[tuple[int, ...], list[Tensor]] = {}
    for part, tensor in tensors:
        by_slot = part.by_slot(tensor)
        axes = tuple(range(1, by_slot.dim()))
        found.setdefault(part.slots, []).append(torch.linalg.vector_norm(by_slot, dim=axes, dtype=torch.float32))
    norms = torch.zeros(slots)
    for those, several in found.items():
        norms[list(those)] = torch.linalg.vector_norm(torch.stack(several), dim=0).cpu()
    return norms
