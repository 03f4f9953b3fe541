"""What every set of arms can do, whether they are adapters over one base or copies of all weights.

A set has numbered slots: slot 0 is the base, which is never trained, and slots 1 and up are the arms. It has one
module tree with a place for noise at every site; a pass goes through the tree for the slots that are active.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from neftune_core.errors import Cancelled
from neftune_core.models.anatomy import set_model_dropout
from neftune_core.models.loading import LoadedModel, private_tree
from neftune_core.noise.batch import BatchNoise
from neftune_core.noise.kinds import EMBEDDING_SITE
from neftune_core.noise.sites import Site, noise_sites
from neftune_core.randomness import Purpose, torch_seed

BASE_SLOT = 0


@dataclass(frozen=True)
class Dropout:
    """Dropout of one pass: the rate on the adapters' input of each active slot, the model's own rate, and a seed.

    The seed alone decides the draws, so that every pass with the same seed over the same rows has the same masks.
    """

    rates: tuple[float, ...]
    seed: tuple[int, ...]
    model: float = 0.0


@dataclass(frozen=True, eq=False)
class Trained:
    """One trained tensor, float32: of all slots, which are then its first axis, or of one slot alone.

    start: where the arms began, of one slot; decays: whether weight decay applies to it.
    """

    parameter: nn.Parameter
    start: Tensor
    slots: tuple[int, ...]
    decays: bool = True


class Pass:
    """What the modules of a tree look at while a pass goes through it."""

    def __init__(self, slots: int) -> None:
        self.active: tuple[int, ...] = tuple(range(slots))
        self.rates: tuple[float, ...] = ()
        self.mask_generator: torch.Generator | None = None
        self.part = ""
        self.noise: BatchNoise | None = None
        self.should_stop: Callable[[], bool] = lambda: False


class ArmSet(ABC):
    """The arms of a study over one loaded model.

    `tree` is a private module tree that shares the base's tensors, never its modules; slots 1 to `arms` are the arms.
    """

    def __init__(self, loaded: LoadedModel, arms: int) -> None:
        self.loaded = loaded
        self.slots = arms + 1
        self.tree = private_tree(loaded.model)
        self._pass = Pass(self.slots)
        self._prepare_tree()
        self._model_dropout = math.nan
        self._set_model_dropout(0.0)
        self.tree.eval()
        self.sites = noise_sites(self.tree)
        self._put_hooks()
        self._captures = False

    def _prepare_tree(self) -> None:  # noqa: B027  (a set that needs nothing else does nothing)
        """Change the modules of the tree before any hook is put on them."""

    @abstractmethod
    def start(self, seed: int) -> None:
        """Put every arm at its start, drawn from `seed` alone where anything is drawn."""

    @abstractmethod
    def trained(self) -> list[Trained]:
        """What an optimizer moves, in an order that never changes."""

    @abstractmethod
    def groups(self, slots: Sequence[int], positions: int = 0) -> list[list[int]]:
        """`slots` in groups that go through the tree together, where each has `positions` tokens, padding included."""

    @abstractmethod
    def save(self, slot: int, folder: Path) -> None:
        """Write one arm into `folder`, in a format that others read."""

    @abstractmethod
    def load(self, slot: int, folder: Path) -> None:
        """Put a saved arm into a slot; raises `RecordError` where it is missing or belongs to another model."""

    @abstractmethod
    def merged(self, slot: int) -> Any:
        """A model of its own, in the precision of the base, with all that the slot has learnt in its weights.

        Its configuration has the base's own dropout rates.
        """

    @property
    def trained_parameters(self) -> int:
        """Trained numbers of one arm."""
        return sum(part.start.numel() for part in self.trained() if self.slots - 1 in part.slots)

    def site_widths(self) -> dict[int, int]:
        """The width of the vectors at every site, by its key."""
        hidden: int = self.tree.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
        return {
            site.key: hidden if site.number != EMBEDDING_SITE else cast(Tensor, site.module.weight).shape[1]
            for site in self.sites
        }

    @contextmanager
    def running(
        self,
        active: Sequence[int],
        *,
        noise: BatchNoise | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Iterator[nn.Module]:
        """The tree, with the slots `active`, one of `groups`, and their noise, until the block is left.

        Raises `Cancelled` inside the block at the next layer once `should_stop()` is true.
        """
        now = self._pass
        before = (now.active, now.noise, now.should_stop)
        now.active, now.noise = tuple(active), noise
        now.should_stop = should_stop or (lambda: False)
        if self._captures:
            torch.compiler.cudagraph_mark_step_begin()  # what the pass before has written may be written over
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
        """As `running`, in training mode. The model's own dropout leaves the global generator as it was."""
        now = self._pass
        now.rates, now.mask_generator = dropout.rates, seeded_generator(Purpose.DROPOUT, *dropout.seed)
        self._set_model_dropout(dropout.model)
        self.tree.train()
        try:
            with (
                _seeded(self.loaded.device, dropout) if dropout.model else nullcontext(),
                self.running(active, noise=noise, should_stop=should_stop) as tree,
            ):
                yield tree
        finally:
            self.tree.eval()
            now.rates, now.mask_generator = (), None

    @contextmanager
    def computing_in(self, precision: torch.dtype) -> Iterator[None]:
        """Let all passes inside the block compute in `precision`, with the values that the weights have.

        Takes a copy of the weights in that precision; the base's own tensors are not touched.
        """
        places = [
            (module, name, tensor)
            for module in self.tree.modules()
            for name, tensor in module._parameters.items()
            if tensor is not None and tensor.is_floating_point() and tensor.dtype != precision
        ]
        tensors = {id(tensor): tensor for _, _, tensor in places}  # tied weights once
        copies = {key: nn.Parameter(tensor.detach().to(precision), False) for key, tensor in tensors.items()}
        for module, name, tensor in places:
            module._parameters[name] = copies[id(tensor)]
        try:
            yield
        finally:
            for module, name, tensor in places:
                module._parameters[name] = tensor

    def compile_layers(self, mode: str) -> None:
        """Let every layer run compiled, in a mode of `torch.compile`; noise and the look for a stop stay outside it."""
        layers = {site.module: None for site in self.sites if site.number != EMBEDDING_SITE}
        for layer in layers:
            layer.forward = torch.compile(layer.forward, mode=mode)
        self._captures = mode == "reduce-overhead"

    def _set_model_dropout(self, rate: float) -> None:
        if rate != self._model_dropout:
            set_model_dropout(self.tree, rate)
            self._model_dropout = rate

    def _put_hooks(self) -> None:
        """A place for noise at every site, and a look for a stop before every layer and the head."""
        for module in {site.module: None for site in self.sites}:
            here = [site for site in self.sites if site.module is module]
            module.register_forward_hook(partial(self._after_site, here))
            for site in here if len(here) > 1 else ():  # two parts share an embedding: see whose pass it is
                site.owner.register_forward_pre_hook(partial(self._enter, site.part))
        layers = [site.module for site in self.sites if site.number != EMBEDDING_SITE]
        for module in [*layers, self.tree.get_output_embeddings()]:  # type: ignore[operator]
            module.register_forward_pre_hook(self._look_for_stop, with_kwargs=True)

    def _enter(self, part: str, module: nn.Module, args: tuple[object, ...]) -> None:
        self._pass.part = part

    def _after_site(self, here: Sequence[Site], module: nn.Module, args: tuple[object, ...], output: Any) -> Any:
        """The output of a site with its noise; `here` are the sites of that module."""
        noise = self._pass.noise
        if noise is None:
            return output
        site = here[0] if len(here) == 1 else next(site for site in here if site.part == self._pass.part)
        if isinstance(output, tuple):
            return (noise.add_to(site, output[0]), *output[1:])
        return noise.add_to(site, output)

    def _look_for_stop(self, module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Raise `Cancelled` before a layer or a piece of the head, and again on the way back through it."""
        should_stop = self._pass.should_stop

        def check(gradient: Tensor | None = None) -> None:
            if should_stop():
                raise Cancelled("Stopped as asked.")

        check()
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.requires_grad:
                value.register_hook(check)
                return


def seeded_generator(purpose: Purpose, *key: int) -> torch.Generator:
    """A generator of its own for `purpose` and `key`."""
    return torch.Generator().manual_seed(torch_seed(purpose, *key))


@contextmanager
def _seeded(device: torch.device, dropout: Dropout) -> Iterator[None]:
    """The global generators of processor and `device` seeded for one pass, and put back after it."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else None):
        torch.manual_seed(torch_seed(Purpose.MODEL_DROPOUT, *dropout.seed))
        yield
