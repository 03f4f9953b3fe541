"""One AdamW step of all arms at once: clipping and weight decay arm by arm, and what became of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neftune_core.arms.stack import AdapterStack


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
    the adapter since the start.
    """

    sound: bool
    numbers: dict[str, float | bool]


class Adapters:
    """The stacked adapters with their optimizer; they must be at their start."""

    def __init__(self, stack: AdapterStack, learning_rate: float) -> None:
        self.parameters = stack.parameters()
        self.starts = [parameter.detach()[-1].clone() for parameter in self.parameters]  # of every slot but the base's
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=learning_rate, weight_decay=0.0, fused=stack.loaded.device.type in ("cpu", "cuda")
        )

    def step(self, losses: Mapping[int, float], rates: Rates) -> dict[int, Moved]:
        """Move the arms by their gradients; `losses` names the slots that take part.

        An arm whose loss or gradient is not finite stays where it is.
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norms = slot_norms(gradients).tolist()
        sound = [slot for slot, loss in losses.items() if math.isfinite(loss) and math.isfinite(norms[slot])]
        limits = {slot: rates.clip_norm / (norms[slot] + 1e-6) if rates.clip_norm > 0 else 1.0 for slot in sound}
        self._scale(gradients, {slot: min(1.0, limit) for slot, limit in limits.items()})
        self._stand_still(set(losses) - set(sound))
        if sound:
            self._decay({slot: 1 - rates.learning * rates.decay[slot] for slot in sound})
            for group in self.optimizer.param_groups:
                group["lr"] = rates.learning
            self.optimizer.step()
        distances = self.distances()
        return {
            slot: Moved(
                slot in sound,
                {
                    "gradient_norm": norms[slot],
                    "clipped": limits.get(slot, 1.0) < 1,
                    "weight_distance": distances[slot],
                },
            )
            for slot in losses
        }

    def distances(self) -> list[float]:
        """By slot, the norm of its adapter's change since the start (of no meaning for the base)."""
        with torch.no_grad():
            changes = (parameter - start for parameter, start in zip(self.parameters, self.starts, strict=True))
            return slot_norms(changes).tolist()

    @staticmethod
    def _scale(gradients: Sequence[Tensor], factors: Mapping[int, float]) -> None:
        """Each slot's gradient times its factor; zero for a slot that has none, whatever it was."""
        for gradient in gradients:
            by_slot = [factors.get(slot, 0.0) for slot in range(len(gradient))]
            gradient *= torch.tensor(by_slot, device=gradient.device)[:, None, None]
            gradient[[slot for slot in range(len(gradient)) if slot not in factors]] = 0.0  # 0 times NaN is NaN

    def _stand_still(self, slots: Iterable[int]) -> None:
        """Forget the running mean of the gradient, which would carry a slot on without one."""
        for slot in slots:
            for state in self.optimizer.state.values():
                state["exp_avg"][slot] = 0.0

    def _decay(self, factors: Mapping[int, float]) -> None:
        """Decoupled weight decay (arXiv 1711.05101), slot by slot."""
        if all(factor == 1 for factor in factors.values()):
            return
        with torch.no_grad():
            for parameter in self.parameters:
                by_slot = [factors.get(slot, 1.0) for slot in range(len(parameter))]
                parameter.mul_(torch.tensor(by_slot, device=parameter.device)[:, None, None])


def slot_norms(stacked: Iterable[Tensor]) -> Tensor:
    """The norm over all tensors for each entry of their first axis, `[slots]`."""
    norms = [torch.linalg.vector_norm(tensor, dim=(1, 2), dtype=torch.float32) for tensor in stacked]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)
