"""Create a set of arms: adapters over one base, or full copies of the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neftune_core.engine.armset import BASE_SLOT, ArmSet, TrainedTensor
from neftune_core.engine.graphs import capture_layers
from neftune_core.engine.saving import load_weights, save_weights
from neftune_core.engine.settings import TrainingSettings
from neftune_core.engine.stack import AdapterStack
from neftune_core.errors import NotAvailable
from neftune_core.language import say
from neftune_core.models.architecture.anatomy import linear_maps
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.batch import BatchNoise

NEVER_TRAINED = ("Sinusoidal",)
"""Substrings of the class names of modules whose weights are fixed, such as sinusoidal position tables."""


class FullCopies(ArmSet):
    """A set of arms trained one at a time as full float32 copies of the weights.

    A copy is allocated when its arm is started or loaded. The tree contains the weights of one arm at a time, in the
    precision of the base. If that precision is not float32, weights are rounded for each pass, and gradients flow
    through the rounding to the float32 copy. The tensors of the base are never modified.
    """

    def _prepare_tree(self) -> None:
        self._bases = dict(self.tree.named_parameters())
        index = {id(tensor): number for number, tensor in enumerate(self._bases.values())}
        self._places = [
            (module, name, index[id(tensor)])
            for module in self.tree.modules()
            for name, tensor in module._parameters.items()
            if tensor is not None
        ]
        fixed = {
            id(module._parameters[name])
            for module, name, _ in self._places
            if any(part in type(module).__name__ for part in NEVER_TRAINED)
        }
        self._is_trained = [id(tensor) not in fixed for tensor in self._bases.values()]
        self._copies: dict[int, list[nn.Parameter]] = {}
        self._precision: torch.dtype | None = None
        self._added: dict[int, Tensor] = {}

    def start(self, seed: int) -> None:
        """Reset every arm to the weights of the base; `seed` is not used."""
        for slot in range(BASE_SLOT + 1, self.slots):
            self._copy_into(slot, self._bases)

    def _copy_into(self, slot: int, weights: dict[str, nn.Parameter]) -> None:
        """Copy named weights into a slot, in float32."""
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

    def trained(self) -> list[TrainedTensor]:
        """Return the weights of every arm, arm by arm; norms and biases are exempt from weight decay."""
        return [
            TrainedTensor(own, base.detach(), (slot,), decays=own.dim() > 1)
            for slot, copies in self._copies.items()
            for own, base, trained in zip(copies, self._bases.values(), self._is_trained, strict=True)
            if trained
        ]

    def groups(self, slots: Sequence[int], positions: int = 0) -> list[list[int]]:
        """Return one group per slot, because the tree contains the weights of one slot at a time.

        Args:
            slots: The slots to split.
            positions: Not used.

        Returns:
            The groups, in the order of `slots`.
        """
        return [[slot] for slot in slots]

    @contextmanager
    def running(
        self, active: Sequence[int], *, noise: BatchNoise | None = None, should_stop: Callable[[], bool] | None = None
    ) -> Iterator[nn.Module]:
        """Yield the tree with the weights of the single active slot, in evaluation mode.

        Args:
            active: One group from `groups`, which contains one slot.
            noise: Noise of that slot; None for none.
            should_stop: Polled before every layer, in the forward and in the backward pass.

        Yields:
            The module tree; its previous weights are restored after the block.

        Raises:
            Cancelled: Inside the block, once `should_stop()` is true.
        """
        (slot,) = active
        before = [module._parameters[name] for module, name, _ in self._places]
        weights = self._weights_for_pass(slot)
        self._assign([weights[number] for _, _, number in self._places])
        try:
            with super().running(active, noise=noise, should_stop=should_stop) as tree:
                yield tree
        finally:
            self._assign(before)

    @contextmanager
    def in_precision(self, precision: torch.dtype) -> Iterator[None]:
        """Run all passes inside the block in `precision`, on weights rounded to the precision of the base."""
        self._precision = precision
        try:
            yield
        finally:
            self._precision = None

    def _weights_for_pass(self, slot: int) -> list[Tensor]:
        """Return the weights of a slot, rounded to the precision of the base."""
        bases: list[Tensor] = list(self._bases.values())
        copies: list[Tensor] = list(self._copies.get(slot, bases))
        for number, added in self._added.items():
            copies[number] = copies[number] + added
        rounded = [own.to(base.dtype) for own, base in zip(copies, bases, strict=True)]
        return rounded if self._precision is None else [own.to(self._precision) for own in rounded]

    @contextmanager
    def perturbed(self, slot: int, change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
        """Add a perturbation to the linear weights of the layers in all passes inside the block.

        Args:
            slot: The slot whose weights are perturbed; its float32 copy does not change.
            change: `change(number, weight)` returns the perturbation of one weight, `[out, in]` float32. `weight` is
                the slot's copy of it; `number` is its index in the order of `linear_maps`, from 0.

        Yields:
            Nothing.
        """
        places = {id(module): place for module, name, place in self._places if name == "weight"}
        try:
            for number, name in enumerate(linear_maps(self.tree, "all")):
                module = self.tree.get_submodule(name)
                place, is_linear = places[id(module)], isinstance(module, nn.Linear)
                weight = self._copies[slot][place].detach()
                self._added[place] = change(number, weight) if is_linear else change(number, weight.T).T
            yield
        finally:
            self._added = {}

    def _assign(self, tensors: Sequence[Tensor | None]) -> None:
        """Assign one tensor to each parameter of the tree's modules."""
        for (module, name, _), tensor in zip(self._places, tensors, strict=True):
            module._parameters[name] = tensor  # type: ignore[assignment]

    def merged(self, slot: int) -> Any:
        """Return a separate model with the weights of a slot, rounded to the precision of the base."""
        model = copy.deepcopy(self.loaded.model)
        vars(model.config).update(self.loaded.dropout)
        with torch.no_grad():
            for weight, own in zip(model.parameters(), self._weights_for_pass(slot), strict=True):
                weight.copy_(own)
        return model

    def save(self, slot: int, folder: Path) -> None:
        """Write the weights of one arm, with configuration and tokenizer, as a folder that `transformers` loads.

        Args:
            slot: The slot to save.
            folder: Target folder.
        """
        with torch.no_grad(), self.running([slot]) as tree:
            save_weights(tree, self.loaded, folder)

    def load(self, slot: int, folder: Path) -> None:
        """Load saved weights into the float32 copy of a slot.

        Args:
            slot: The slot to fill.
            folder: Folder written by `save`.

        Raises:
            RecordError: If the files are missing or unreadable, or the names or shapes of the weights differ.
        """
        shapes = {name: base.shape for name, base in self._bases.items()}
        self._copy_into(slot, load_weights(type(self.loaded.model), folder, shapes))


COMPILED = {"compiled": "default", "captured": "reduce-overhead"}
"""`torch.compile` mode by value of the `execution` setting."""


def make_arms(loaded: LoadedModel, arms: int, training: TrainingSettings) -> ArmSet:
    """Create the set of arms that the settings select. Call `start` or `load` on the set before use.

    Args:
        loaded: The base model.
        arms: Number of arms.
        training: The training settings; `execution` is ignored, and layers run eagerly.

    Returns:
        The arms, not yet initialised.
    """
    if training.method == "full":
        return FullCopies(loaded, arms)
    return AdapterStack(
        loaded,
        arms,
        rank=training.lora_rank,
        alpha=training.lora_alpha,
        targets=training.lora_targets,
        together=training.together,
    )


def make_training_arms(loaded: LoadedModel, arms: int, training: TrainingSettings) -> ArmSet:
    """Create a set of arms as `make_arms` does, and apply the `execution` setting to its layers.

    Args:
        loaded: The base model.
        arms: Number of arms.
        training: The training settings.

    Returns:
        The arms.

    Raises:
        NotAvailable: If the settings select CUDA graphs but the device does not support them.
    """
    if training.execution in ("graphs", "captured") and loaded.device.type != "cuda":
        raise NotAvailable(say("Capturing CUDA graphs needs a CUDA GPU: set execution to compiled or eager."))
    made = make_arms(loaded, arms, training)
    if training.execution == "graphs":
        capture_layers(made)
    elif training.execution in COMPILED:
        made.compile_layers(COMPILED[training.execution])
    return made
