"""Full fine-tuning: a copy of all weights for each arm, in float32, taken in turn.

The one tree is given the weights of whichever slot has its turn, in the precision of the base; where that is not
float32 they are rounded for the pass, and the gradient goes back through the rounding to the copy. The base's own
tensors are never written.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neftune_core.engine import saving
from neftune_core.engine.armset import BASE_SLOT, ArmSet, Trained
from neftune_core.noise.batch import BatchNoise

# Tables that no family trains, by a part of the name of their module's class.
NEVER_TRAINED = ("Sinusoidal",)


class FullCopies(ArmSet):
    """Arms as whole copies of the weights; an arm that is neither at its start nor loaded takes no memory."""

    def _prepare_tree(self) -> None:
        self._bases = dict(self.tree.named_parameters())  # tied weights once
        place = {id(tensor): number for number, tensor in enumerate(self._bases.values())}
        self._places = [
            (module, name, place[id(tensor)])
            for module in self.tree.modules()
            for name, tensor in module._parameters.items()
            if tensor is not None
        ]
        fixed = {id(t) for module, t in self._owned() if any(part in type(module).__name__ for part in NEVER_TRAINED)}
        self._is_trained = [id(tensor) not in fixed for tensor in self._bases.values()]
        self._copies: dict[int, list[nn.Parameter]] = {}
        self._precision: torch.dtype | None = None

    def _owned(self) -> Iterator[tuple[nn.Module, Tensor]]:
        for module, name, _ in self._places:
            yield module, module._parameters[name]  # type: ignore[misc]

    def start(self, seed: int) -> None:
        """Put every arm at the weights of the base; nothing is drawn."""
        for slot in range(BASE_SLOT + 1, self.slots):
            self._put(slot, self._bases)

    def _put(self, slot: int, weights: dict[str, nn.Parameter]) -> None:
        """Copy `weights`, by name, into a slot; they are float32 there."""
        if slot not in self._copies:
            bases = zip(self._bases.values(), self._is_trained, strict=True)
            self._copies[slot] = [
                nn.Parameter(torch.empty_like(base, dtype=torch.float32)) if trained else base
                for base, trained in bases
            ]
        with torch.no_grad():
            for own, name, trained in zip(self._copies[slot], self._bases, self._is_trained, strict=True):
                if trained:
                    own.copy_(weights[name])

    def trained(self) -> list[Trained]:
        """Every weight of every arm, arm by arm; norms and biases do not decay, as usual."""
        return [
            Trained(own, base.detach(), (slot,), decays=own.dim() > 1)
            for slot, copies in self._copies.items()
            for own, base, trained in zip(copies, self._bases.values(), self._is_trained, strict=True)
            if trained
        ]

    def groups(self, slots: Sequence[int], positions: int = 0) -> list[list[int]]:
        """Each by itself."""
        return [[slot] for slot in slots]

    @contextmanager
    def running(
        self,
        active: Sequence[int],
        *,
        noise: BatchNoise | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Iterator[nn.Module]:
        """The tree with the weights of the one slot in `active`, and its noise, until the block is left."""
        (slot,) = active
        before = [tensor for _, tensor in self._owned()]
        weights = self._computing(slot)
        self._point([weights[number] for _, _, number in self._places])
        try:
            with super().running(active, noise=noise, should_stop=should_stop) as tree:
                yield tree
        finally:
            self._point(before)

    @contextmanager
    def computing_in(self, precision: torch.dtype) -> Iterator[None]:
        """Let all passes inside the block compute in `precision`, with the weights as they are rounded without it."""
        self._precision = precision
        try:
            yield
        finally:
            self._precision = None

    def _computing(self, slot: int) -> list[Tensor]:
        """The weights that a slot computes with, rounded to the precision of the base."""
        bases = list(self._bases.values())
        rounded = [own.to(base.dtype) for own, base in zip(self._copies.get(slot, bases), bases, strict=True)]
        return rounded if self._precision is None else [own.to(self._precision) for own in rounded]

    def _point(self, tensors: Sequence[Tensor]) -> None:
        """Let the modules of the tree hold `tensors`, one for each of their places."""
        for (module, name, _), tensor in zip(self._places, tensors, strict=True):
            module._parameters[name] = tensor  # type: ignore[assignment]

    def merged(self, slot: int) -> Any:
        """A model of its own with the weights of a slot, rounded to the precision of the base."""
        model = copy.deepcopy(self.loaded.model)
        vars(model.config).update(self.loaded.dropout)
        with torch.no_grad():
            for weight, own in zip(model.parameters(), self._computing(slot), strict=True):
                weight.copy_(own)
        return model

    def save(self, slot: int, folder: Path) -> None:
        """Write one arm as a folder that `transformers` loads, in the precision that it computes in."""
        with torch.no_grad(), self.running([slot]) as tree:
            saving.save_weights(tree, self.loaded, folder)

    def load(self, slot: int, folder: Path) -> None:
        """Put saved weights into a slot; raises `RecordError` where they do not belong to this model."""
        shapes = {name: base.shape for name, base in self._bases.items()}
        self._put(slot, saving.load_weights(type(self.loaded.model), folder, shapes))
