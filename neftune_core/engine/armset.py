"""The interface of every set of arms, whether adapters over one base or full copies of the weights.

A set has numbered slots. Slot 0 is the base, which is never trained. Slots 1 and up are the arms. All slots share one
module tree with a noise hook at every site. A forward pass runs the active slots.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from neftune_core.errors import Cancelled
from neftune_core.models.architecture.anatomy import set_model_dropout
from neftune_core.models.loading import LoadedModel, private_tree
from neftune_core.noise.batch import BatchNoise
from neftune_core.noise.kinds import EMBEDDING_SITE
from neftune_core.noise.sites import Site, noise_sites
from neftune_core.randomness import Purpose, torch_seed

BASE_SLOT = 0


@dataclass(frozen=True)
class Dropout:
    """Dropout of one pass. Passes with the same seed over the same rows use the same masks.

    Attributes:
        rates: Adapter dropout rate of each active slot.
        seed: Key of the random streams that the masks are drawn from.
        model: Dropout rate inside the model.
    """

    rates: tuple[float, ...]
    seed: tuple[int, ...]
    model: float = 0.0


@dataclass(frozen=True, eq=False)
class TrainedTensor:
    """One trained float32 tensor, stacked over several slots or belonging to a single slot.

    Attributes:
        parameter: The tensor; if stacked, the slots are its first axis.
        start: Initial value of one slot.
        slots: The slots in `parameter`.
        decays: Whether weight decay applies.
    """

    parameter: nn.Parameter
    start: Tensor
    slots: tuple[int, ...]
    decays: bool = True


class Pass:
    """State of the running pass, read by the modules of the tree."""

    def __init__(self, slots: int) -> None:
        self.active: tuple[int, ...] = tuple(range(slots))
        self.rates: tuple[float, ...] = ()
        self.mask_generator: torch.Generator | None = None
        self.draws_masks = False
        self.part = ""
        self.noise: BatchNoise | None = None
        self.should_stop: Callable[[], bool] = lambda: False


class ArmSet(ABC):
    """The arms of a study over one loaded model.

    Attributes:
        loaded: The shared base model, which is never modified.
        tree: Private module tree that shares the base's tensors but not its modules.
        running_pass: State of the running pass, read by the modules of the tree.
        before_training: Functions called before every training pass.
        fallback: Returns why a layer runs eagerly although the settings select CUDA graphs; "" if none does.

    Args:
        loaded: The base model.
        arms: Number of arms, without the base.
    """

    def __init__(self, loaded: LoadedModel, arms: int) -> None:
        self.loaded = loaded
        self.slots = arms + 1
        self.tree = private_tree(loaded.model)
        self.running_pass = Pass(self.slots)
        self._prepare_tree()
        self._model_dropout = math.nan
        self._set_model_dropout(0.0)
        self.tree.eval()
        self.sites = noise_sites(self.tree)
        self._register_hooks()
        self._captures = False
        self.before_training: list[Callable[[], None]] = []
        self.fallback: Callable[[], str] = str

    def _prepare_tree(self) -> None:  # noqa: B027 - optional
        """Change the modules of the tree before hooks are registered."""

    @abstractmethod
    def start(self, seed: int) -> None:
        """Reset every arm to its initial weights; random draws depend only on `seed`."""

    @abstractmethod
    def trained(self) -> list[TrainedTensor]:
        """Return the trained tensors in a fixed order."""

    @abstractmethod
    def groups(self, slots: Sequence[int], positions: int = 0) -> list[list[int]]:
        """Split `slots` into groups, each of which runs in one forward pass.

        Args:
            slots: The slots to split.
            positions: Tokens per slot in one pass, padding included.

        Returns:
            The groups, in order.
        """

    @abstractmethod
    def save(self, slot: int, folder: Path) -> None:
        """Write one arm to disk in a standard format.

        Args:
            slot: The slot to save.
            folder: Target folder.
        """

    @abstractmethod
    def load(self, slot: int, folder: Path) -> None:
        """Load a saved arm into a slot.

        Args:
            slot: The slot to fill.
            folder: Folder written by `save`.

        Raises:
            RecordError: If the files are missing or belong to another model.
        """

    @abstractmethod
    def merged(self, slot: int) -> Any:
        """Return a separate model with a slot's weights, and the precision and original dropout rates of the base."""

    @abstractmethod
    def perturbed(self, slot: int, change: Callable[[int, Tensor], Tensor]) -> AbstractContextManager[None]:
        """Add a perturbation to the linear weights of one slot, in all passes inside the block.

        The stored weights do not change. Gradients are evaluated at the perturbed weights.

        Args:
            slot: The slot; it must be the only active one.
            change: `change(number, weight)` returns the perturbation of one weight, `[out, in]` float32. `weight` is
                the trained weight of the slot (base plus adapter); `number` is its index, from 0.

        Returns:
            A context manager.
        """

    @property
    def trained_parameters(self) -> int:
        """Number of trained parameters per arm."""
        return sum(part.start.numel() for part in self.trained() if self.slots - 1 in part.slots)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of the tree, of all components."""
        return list(dict.fromkeys(site.module for site in self.sites if site.number > EMBEDDING_SITE))

    def site_widths(self) -> dict[int, int]:
        """Return the vector width at every site, by site key."""
        hidden: int = self.tree.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
        return {
            site.key: hidden if site.number > EMBEDDING_SITE else cast(Tensor, site.module.weight).shape[1]
            for site in self.sites
        }

    @contextmanager
    def running(
        self, active: Sequence[int], *, noise: BatchNoise | None = None, should_stop: Callable[[], bool] | None = None
    ) -> Iterator[nn.Module]:
        """Yield the tree with the given slots active, in evaluation mode.

        Args:
            active: One of the groups from `groups`.
            noise: Noise of the active slots.
            should_stop: Polled before every layer, in the forward and in the backward pass.

        Yields:
            The module tree. Its input batch must contain the rows of every active slot, one slot after another.

        Raises:
            Cancelled: Inside the block, once `should_stop()` is true.
        """
        now = self.running_pass
        before = (now.active, now.noise, now.should_stop)
        now.active, now.noise = tuple(active), noise
        now.should_stop = should_stop or (lambda: False)
        if self._captures:
            torch.compiler.cudagraph_mark_step_begin()  # outputs of earlier passes may be overwritten
        try:
            yield self.tree
        finally:
            now.active, now.noise, now.should_stop = before

    @contextmanager
    def training(
        self,
        active: Sequence[int],
        *,
        noise: BatchNoise | None,
        dropout: Dropout,
        should_stop: Callable[[], bool] | None = None,
    ) -> Iterator[nn.Module]:
        """Yield the tree as `running` does, but in training mode.

        The model's own dropout leaves the global random state unchanged.

        Args:
            active: One of the groups from `groups`.
            noise: Noise of the active slots.
            dropout: Dropout of this pass.
            should_stop: Polled before every layer, in the forward and in the backward pass.

        Yields:
            The module tree, as `running` does.

        Raises:
            Cancelled: Inside the block, once `should_stop()` is true.
        """
        now = self.running_pass
        now.rates = dropout.rates
        now.mask_generator = torch.Generator().manual_seed(torch_seed(Purpose.DROPOUT, *dropout.seed))
        now.draws_masks = any(dropout.rates) or dropout.model > 0
        for begin in self.before_training:
            begin()
        self._set_model_dropout(dropout.model)
        self.tree.train()
        try:
            with (
                _seed_globally(self.loaded.device, dropout) if dropout.model else nullcontext(),
                self.running(active, noise=noise, should_stop=should_stop) as tree,
            ):
                yield tree
        finally:
            self.tree.eval()
            now.rates, now.mask_generator = (), None

    @contextmanager
    def in_precision(self, precision: torch.dtype) -> Iterator[None]:
        """Run all passes inside the block in `precision`, on a copy of the weights."""
        locations = [
            (module, name, tensor)
            for module in self.tree.modules()
            for name, tensor in module._parameters.items()
            if tensor is not None and tensor.is_floating_point() and tensor.dtype != precision
        ]
        tensors = {id(tensor): tensor for _, _, tensor in locations}  # one copy of tied weights
        copies = {key: nn.Parameter(tensor.detach().to(precision), False) for key, tensor in tensors.items()}
        for module, name, tensor in locations:
            module._parameters[name] = copies[id(tensor)]
        try:
            yield
        finally:
            for module, name, tensor in locations:
                module._parameters[name] = tensor

    def compile_layers(self, mode: str) -> None:
        """Compile every layer, but not its hooks, with the given `torch.compile` mode."""
        for layer in self.layers:
            layer.forward = torch.compile(layer.forward, mode=mode)
        self._captures = mode == "reduce-overhead"

    def _set_model_dropout(self, rate: float) -> None:
        if rate != self._model_dropout:
            set_model_dropout(self.tree, rate)
            self._model_dropout = rate

    def _register_hooks(self) -> None:
        """Register a noise hook at every site, and a cancellation hook before every layer and the head."""
        for module in dict.fromkeys(site.module for site in self.sites):
            here = [site for site in self.sites if site.module is module]
            module.register_forward_hook(partial(self._after_site, here))
            for site in here if len(here) > 1 else ():  # encoder and decoder share an embedding
                site.owner.register_forward_pre_hook(partial(self._enter, site.part))
        for module in [*self.layers, self.tree.get_output_embeddings()]:  # type: ignore[operator]
            module.register_forward_pre_hook(self._check_cancelled, with_kwargs=True)

    def _enter(self, part: str, module: nn.Module, args: tuple[object, ...]) -> None:
        self.running_pass.part = part

    def _after_site(self, here: Sequence[Site], module: nn.Module, args: tuple[object, ...], output: Any) -> Any:
        """Return the output of a site with its noise added; `here` lists the sites of the module."""
        noise = self.running_pass.noise
        if noise is None:
            return output
        site = here[0] if len(here) == 1 else next(site for site in here if site.part == self.running_pass.part)
        if isinstance(output, tuple):
            return (noise.add_to(site, output[0]), *output[1:])
        return noise.add_to(site, output)

    def _check_cancelled(self, module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Raise `Cancelled` on request: before the module runs, and when the gradient of its input is computed."""
        should_stop = self.running_pass.should_stop

        def check(gradient: Tensor | None = None) -> None:
            if should_stop():
                raise Cancelled("Stopped on request.")

        check()
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.requires_grad:
                value.register_hook(check)
                return


@contextmanager
def _seed_globally(device: torch.device, dropout: Dropout) -> Iterator[None]:
    """Seed the global generators of the CPU and `device` for one pass, and restore them afterwards."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cpu"):
        torch.manual_seed(torch_seed(Purpose.MODEL_DROPOUT, *dropout.seed))
        yield
