"""Stacked LoRA adapters: one frozen base, an adapter a slot, all slots in one pass.

A batch is laid out arm by arm, `[slots * batch, length, width]`. The base map runs once over all of it and the
adapters (arXiv 2106.09685) as two batched products, so that no gradient of one slot reaches another. Slot 0 is
the base: its adapter is zero and stays so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from neftune_core.errors import Cancelled
from neftune_core.models.anatomy import linear_maps, set_model_dropout
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


class _Shared:
    """What all adapted maps of a stack look at during a pass."""

    def __init__(self, slots: int) -> None:
        self.active: tuple[int, ...] = tuple(range(slots))
        self.rates: tuple[float, ...] = ()
        self.mask_generator: torch.Generator | None = None
        self.part = ""
        self.noise: BatchNoise | None = None
        self.should_stop: Callable[[], bool] = lambda: False


class StackedLinear(nn.Module):
    """A frozen linear map with one low-rank adapter a slot.

    `down` is `[slots, rank, in]` (uniform at the start, the same for every slot but the base's) and `up` is
    `[slots, rank, out]` (zero at the start), both float32 whatever the precision of the base. `up` lies transposed:
    with the long axis last, the products of the backward pass are five to twenty times faster on a processor.
    """

    def __init__(self, base: nn.Module, slots: int, rank: int, scale: float, shared: _Shared) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        self._shared = shared
        inputs, outputs = linear_shape(base)
        device = cast(Tensor, base.weight).device
        self.down = nn.Parameter(torch.zeros(slots, rank, inputs, device=device))
        self.up = nn.Parameter(torch.zeros(slots, rank, outputs, device=device))

    @property
    def weight(self) -> Tensor:
        """The frozen weight: T5 asks its maps for the type of theirs."""
        return cast(Tensor, self.base.weight)

    def start(self, generator: torch.Generator) -> None:
        """Draw the initial adapter, the same for every slot but the base's."""
        bound = 1 / math.sqrt(self.down.shape[2])  # Kaiming uniform with a = sqrt(5), as in PEFT
        with torch.no_grad():
            draw = torch.rand(self.down.shape[1:], generator=generator) * (2 * bound) - bound
            self.down[BASE_SLOT + 1 :] = draw.to(self.down.device)
            self.up.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        clean = self.base(inputs)
        active = self._shared.active
        if active == (BASE_SLOT,):
            return clean
        rows = inputs.reshape(len(active), -1, inputs.shape[-1])
        down, up = _chosen(self.down, active), _chosen(self.up, active)
        hidden = torch.bmm(self._dropped(rows), down.transpose(1, 2).to(rows.dtype)) * self.scale
        by_slot = clean.view(len(active), -1, clean.shape[-1])
        return by_slot.baddbmm_(hidden, up.to(rows.dtype)).view_as(clean)  # `clean` is this pass's own tensor

    def _dropped(self, rows: Tensor) -> Tensor:
        """Adapter dropout of `[slots, rows, width]`: one draw for all slots, one mask where their rates are equal."""
        shared = self._shared
        if not self.training or shared.mask_generator is None or not any(shared.rates):
            return rows
        draw = torch.rand(rows.shape[1:], generator=shared.mask_generator)
        masks = {rate: ((draw >= rate).to(rows.device) / (1 - rate)).to(rows.dtype) for rate in set(shared.rates)}
        return rows * (masks.popitem()[1] if len(masks) == 1 else torch.stack([masks[rate] for rate in shared.rates]))


def _chosen(stacked: Tensor, active: tuple[int, ...]) -> Tensor:
    """The active slots; a view, without a copy, where they are neighbours."""
    first, last = active[0], active[-1]
    if active == tuple(range(first, last + 1)):
        return stacked[first : last + 1]
    return stacked[list(active)]


def linear_shape(linear: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of an `nn.Linear` or of GPT-2's `Conv1D`, which keeps its weight transposed."""
    rows, columns = cast(Tensor, linear.weight).shape
    return (columns, rows) if isinstance(linear, nn.Linear) else (rows, columns)


def _generator(purpose: Purpose, *key: int) -> torch.Generator:
    return torch.Generator().manual_seed(torch_seed(purpose, *key))


@contextmanager
def _seeded(device: torch.device, dropout: Dropout) -> Iterator[None]:
    """The global generators of processor and `device` seeded for one pass, and put back after it."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else None):
        torch.manual_seed(torch_seed(Purpose.MODEL_DROPOUT, *dropout.seed))
        yield


class AdapterStack:
    """A private module tree of a loaded model with stacked adapters and a place for noise.

    `tree` shares the base's parameter tensors, never its modules; slots 1 to `arms` are the arms.
    """

    def __init__(self, loaded: LoadedModel, arms: int, *, rank: int, alpha: float, targets: str = "all") -> None:
        self.loaded = loaded
        self.slots = arms + 1
        self.rank, self.alpha = rank, alpha
        self.tree = private_tree(loaded.model)
        self._shared = _Shared(self.slots)
        self.adapted: dict[str, StackedLinear] = {}
        for name in linear_maps(self.tree, targets):
            module = StackedLinear(self.tree.get_submodule(name), self.slots, rank, alpha / rank, self._shared)
            parent, _, leaf = name.rpartition(".")
            setattr(self.tree.get_submodule(parent), leaf, module)
            self.adapted[name] = module
        self._model_dropout = math.nan
        self._set_model_dropout(0.0)
        self.tree.eval()
        self.sites = noise_sites(self.tree)
        self._put_hooks()

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

    def site_widths(self) -> dict[int, int]:
        """The width of the vectors at every site, by its key."""
        hidden: int = self.tree.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
        return {
            site.key: hidden if site.number != EMBEDDING_SITE else cast(Tensor, site.module.weight).shape[1]
            for site in self.sites
        }

    def start(self, seed: int) -> None:
        """Give every arm the same initial adapter, drawn from `seed` alone."""
        generator = _generator(Purpose.ADAPTER, seed)
        for module in self.adapted.values():
            module.start(generator)

    def parameters(self) -> list[nn.Parameter]:
        """The stacked adapters, each with the slots as its first axis."""
        return [parameter for module in self.adapted.values() for parameter in (module.down, module.up)]

    @contextmanager
    def running(
        self,
        active: Sequence[int],
        *,
        noise: BatchNoise | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Iterator[nn.Module]:
        """The tree, with the slots `active` and their noise, until the block is left.

        Raises `Cancelled` inside the block at the next layer once `should_stop()` is true.
        """
        shared = self._shared
        before = (shared.active, shared.noise, shared.should_stop)
        shared.active, shared.noise = tuple(active), noise
        shared.should_stop = should_stop or (lambda: False)
        try:
            yield self.tree
        finally:
            shared.active, shared.noise, shared.should_stop = before

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
        shared = self._shared
        shared.rates, shared.mask_generator = dropout.rates, _generator(Purpose.DROPOUT, *dropout.seed)
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
            shared.rates, shared.mask_generator = (), None

    def _set_model_dropout(self, rate: float) -> None:
        if rate != self._model_dropout:
            set_model_dropout(self.tree, rate)
            self._model_dropout = rate

    def slot_state(self, slot: int) -> dict[str, tuple[Tensor, Tensor]]:
        """(down `[rank, in]`, up `[out, rank]`) of one slot for every adapted map, on the CPU."""
        return {
            name: (module.down[slot].detach().cpu().clone(), module.up[slot].detach().cpu().t().contiguous())
            for name, module in self.adapted.items()
        }

    def load_slot(self, slot: int, state: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Put (down `[rank, in]`, up `[out, rank]`) of every adapted map into one slot."""
        with torch.no_grad():
            for name, (down, up) in state.items():
                self.adapted[name].down[slot] = down.to(self.adapted[name].down.device)
                self.adapted[name].up[slot] = up.t().to(self.adapted[name].up.device)

    def _enter(self, part: str, module: nn.Module, args: tuple[object, ...]) -> None:
        self._shared.part = part

    def _after_site(self, here: Sequence[Site], module: nn.Module, args: tuple[object, ...], output: Any) -> Any:
        """The output of a site with its noise; `here` are the sites of that module."""
        noise = self._shared.noise
        if noise is None:
            return output
        site = here[0] if len(here) == 1 else next(site for site in here if site.part == self._shared.part)
        if isinstance(output, tuple):
            return (noise.add_to(site, output[0]), *output[1:])
        return noise.add_to(site, output)

    def _look_for_stop(self, module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Raise `Cancelled` before a layer or a piece of the head, and again on the way back through it."""
        should_stop = self._shared.should_stop

        def check(gradient: Tensor | None = None) -> None:
            if should_stop():
                raise Cancelled("Stopped as asked.")

        check()
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.requires_grad:
                value.register_hook(check)
                return
