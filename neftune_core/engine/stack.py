"""Stacked LoRA adapters: one frozen base and one adapter per slot, run in one pass or one at a time.

A batch is laid out arm by arm, `[slots * batch, length, width]`. The base weight multiplies the whole batch once. The
adapters (arXiv 2106.09685) are applied by two batched products, so that gradients never cross slots. Slot 0 is the
base; its adapter stays zero.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from neftune_core.engine.armset import BASE_SLOT, ArmSet, Dropout, Pass, TrainedTensor
from neftune_core.engine.saving import PREFIX, read_adapter, write_adapter
from neftune_core.errors import RecordError
from neftune_core.language import say
from neftune_core.models.architecture.anatomy import linear_maps
from neftune_core.models.device import tokens_per_pass
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.batch import to_device
from neftune_core.randomness import Purpose, torch_seed

__all__ = ["BASE_SLOT", "AdapterStack", "Dropout", "StackedLinear"]


class StackedLinear(nn.Module):
    """A frozen linear module with one low-rank adapter per slot.

    `up` is stored transposed: with the longer axis last, the products of the backward pass are five to twenty times
    faster on a CPU.

    Attributes:
        down: `[slots, rank, in]` float32; initialised uniformly, with the same draw for every arm.
        up: `[slots, rank, out]` float32; initialised to zero.

    Args:
        base: The frozen module.
        slots: Number of adapters.
        rank: LoRA rank.
        scale: `alpha / rank` of LoRA.
        now: The pass that is running, which selects the slots.
    """

    def __init__(self, base: nn.Module, slots: int, rank: int, scale: float, now: Pass) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        self._pass = now
        weight = cast(Tensor, base.weight)
        outputs, inputs = self.oriented(weight).shape
        device = weight.device
        self.down = nn.Parameter(torch.zeros(slots, rank, inputs, device=device))
        self.up = nn.Parameter(torch.zeros(slots, rank, outputs, device=device))

    @property
    def weight(self) -> Tensor:
        """The frozen weight; T5 uses this attribute to read the dtype of its linear modules."""
        return cast(Tensor, self.base.weight)

    def start(self, generator: torch.Generator) -> None:
        """Draw the initial adapter, the same for every arm."""
        bound = 1 / math.sqrt(self.down.shape[2])  # Kaiming uniform with a = sqrt(5), as in PEFT
        with torch.no_grad():
            draw = torch.rand(self.down.shape[1:], generator=generator) * (2 * bound) - bound
            self.down[BASE_SLOT + 1 :] = draw.to(self.down.device)
            self.up.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        clean = self.base(inputs)
        active = self._pass.active
        if active == (BASE_SLOT,):
            return clean
        rows = self._with_dropout(inputs.reshape(len(active), -1, inputs.shape[-1]))
        down, up = (_select_slots(stacked, active) for stacked in (self.down, self.up))
        if torch.compiler.is_compiling():  # the compiler fuses this itself, and does not support writing into `clean`
            by_slot = clean.view(len(active), -1, clean.shape[-1])
            hidden = torch.bmm(rows, down.transpose(1, 2).to(rows.dtype))
            return torch.baddbmm(by_slot, hidden, up.to(rows.dtype), alpha=self.scale).view_as(clean)
        if torch.is_grad_enabled():
            return cast(Tensor, _AddedProduct.apply(clean, rows, down, up, self.scale))
        _add_product(clean, rows, down.to(rows.dtype), up.to(rows.dtype), self.scale)
        return clean

    def weight_update(self, slot: int) -> Tensor:
        """Return the weight update of a slot's adapter, `scale * (up.T @ down)`, `[out, in]` float32."""
        return self.scale * (self.up[slot].T @ self.down[slot])

    def oriented(self, weight: Tensor) -> Tensor:
        """Convert a weight between `[out, in]` and the layout of the frozen module (transposed for `Conv1D`)."""
        return weight if isinstance(self.base, nn.Linear) else weight.T

    def _with_dropout(self, rows: Tensor) -> Tensor:
        """Apply adapter dropout to `[slots, rows, width]`: one draw for all slots, one mask per distinct rate."""
        now = self._pass
        if not self.training or now.mask_generator is None or not any(now.rates):
            return rows
        draw = torch.rand(rows.shape[1:], generator=now.mask_generator)
        masks = {rate: (to_device(draw >= rate, rows.device) / (1 - rate)).to(rows.dtype) for rate in set(now.rates)}
        return rows * (masks.popitem()[1] if len(masks) == 1 else torch.stack([masks[rate] for rate in now.rates]))


class _AddedProduct(torch.autograd.Function):
    """Add `scale * rows @ down.T @ up` to `clean` in place, for each slot.

    The adapters get gradients in their own dtype. Autograd through an in-place `baddbmm_` would instead copy a gradient
    of the size of `clean` in every module.
    """

    @staticmethod
    def forward(ctx: Any, clean: Tensor, rows: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        """Add the product in place, computed in the dtype of `rows`.

        Args:
            ctx: Context of the autograd operation.
            clean: `[slots * batch, ..., out]`; changed in place, and must not be used elsewhere.
            rows: `[slots, positions, in]`.
            down: `[slots, rank, in]`.
            up: `[slots, rank, out]`.
            scale: Factor on the product.

        Returns:
            `clean`.
        """
        narrow = down.to(rows.dtype), up.to(rows.dtype)
        hidden = _add_product(clean, rows, *narrow, scale)
        ctx.save_for_backward(rows, hidden, *narrow)
        ctx.scale, ctx.precision = scale, down.dtype
        ctx.mark_dirty(clean)
        return clean

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments of `forward`.

        Args:
            ctx: Context of the autograd operation.
            gradient: Gradient of the sum, `[slots * batch, ..., out]`.

        Returns:
            The gradients of `clean`, `rows`, `down`, `up` and `scale`; None for those that are not needed.
        """
        rows, hidden, down, up = ctx.saved_tensors
        by_slot = gradient.reshape(len(rows), -1, gradient.shape[-1])
        into_hidden = torch.bmm(by_slot, up.transpose(1, 2)).mul_(ctx.scale)
        into_rows = torch.bmm(into_hidden, down) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[2]:
            return gradient, into_rows, None, None, None
        into_down = torch.bmm(into_hidden.transpose(1, 2), rows).to(ctx.precision)
        into_up = torch.bmm(hidden.transpose(1, 2), by_slot).to(ctx.precision).mul_(ctx.scale)
        return gradient, into_rows, into_down, into_up, None


def _add_product(clean: Tensor, rows: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """Add `scale * rows @ down.T @ up` to `clean` in place; return `rows @ down.T`."""
    hidden = torch.bmm(rows, down.transpose(1, 2))
    clean.view(len(rows), -1, clean.shape[-1]).baddbmm_(hidden, up, alpha=scale)
    return hidden


def _select_slots(stacked: Tensor, active: tuple[int, ...]) -> Tensor:
    """Return the tensors of the active slots, as a view if the slots are contiguous."""
    first, last = active[0], active[-1]
    if active == tuple(range(first, last + 1)):
        return stacked[first : last + 1]
    return stacked[to_device(torch.tensor(active), stacked.device)]


class AdapterStack(ArmSet):
    """A set of arms trained as stacked LoRA adapters over one base.

    Args:
        loaded: The base model.
        arms: Number of arms, without the base.
        rank: LoRA rank.
        alpha: LoRA alpha.
        targets: Which linear layers get adapters: "all" or "attention".
        together: Whether arms share passes; otherwise they run one at a time, which needs less memory.
    """

    def __init__(
        self, loaded: LoadedModel, arms: int, *, rank: int, alpha: float, targets: str = "all", together: bool = True
    ) -> None:
        self.rank, self.alpha, self.targets, self.together = rank, alpha, targets, together
        self.adapted: dict[str, StackedLinear] = {}
        super().__init__(loaded, arms)

    def _prepare_tree(self) -> None:
        for name in linear_maps(self.tree, self.targets):
            base = self.tree.get_submodule(name)
            module = StackedLinear(base, self.slots, self.rank, self.alpha / self.rank, self.running_pass)
            parent, _, leaf = name.rpartition(".")
            setattr(self.tree.get_submodule(parent), leaf, module)
            self.adapted[name] = module

    def start(self, seed: int) -> None:
        """Give every arm the same initial adapter, drawn from `seed`."""
        generator = torch.Generator().manual_seed(torch_seed(Purpose.ADAPTER, seed))
        for module in self.adapted.values():
            module.start(generator)

    def parameters(self) -> list[nn.Parameter]:
        """Return the stacked adapters, each with the slots as its first axis."""
        return [parameter for module in self.adapted.values() for parameter in (module.down, module.up)]

    def trained(self) -> list[TrainedTensor]:
        """Return the stacked adapters; `start` contains the current values of the last slot."""
        slots = tuple(range(self.slots))
        return [TrainedTensor(parameter, parameter.detach()[-1].clone(), slots) for parameter in self.parameters()]

    def groups(self, slots: Sequence[int], positions: int = 0) -> list[list[int]]:
        """Split `slots` into groups for one pass each: single slots or, if `together`, as many as run efficiently.

        Args:
            slots: The slots to split.
            positions: Tokens per slot in one pass, padding included.

        Returns:
            The groups, in the order of `slots`.
        """
        at_once = tokens_per_pass(self.loaded.device, self.loaded.width)
        most = max(1, at_once // max(1, positions)) if self.together else 1
        groups = math.ceil(len(slots) / most)
        return [list(slots[len(slots) * part // groups : len(slots) * (part + 1) // groups]) for part in range(groups)]

    def save(self, slot: int, folder: Path) -> None:
        """Write one arm as an adapter in the PEFT format.

        Args:
            slot: The slot to save.
            folder: Target folder.
        """
        tensors: dict[str, Tensor] = {}
        for name, pair in self.slot_state(slot).items():
            tensors |= dict(zip(self._saved_names(name), (one.contiguous() for one in pair), strict=True))
        config: dict[str, Any] = {
            "peft_type": "LORA",
            "task_type": "SEQ_2_SEQ_LM" if self.loaded.encoder_decoder else "CAUSAL_LM",
            "base_model_name_or_path": self.loaded.source,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": self._saved_targets(),
            "fan_in_fan_out": any(not isinstance(module.base, nn.Linear) for module in self.adapted.values()),
            "inference_mode": True,
        }
        published = self.loaded.published
        if published is not None and not published.causal:
            config["auto_mapping"] = {"base_model_class": published.architecture, "parent_library": published.library}
        write_adapter(folder, tensors, config)

    def _saved_names(self, name: str) -> list[str]:
        """Return the names of the two tensors of an adapted module in a PEFT file."""
        published = self.loaded.published
        saved = name if published is None else published.renamed(name)
        return [f"{PREFIX}{saved}.lora_{part}.weight" for part in "AB"]

    def _saved_targets(self) -> list[str]:
        """Return the short names of the adapted modules if no other module has them, otherwise the full names."""
        published = self.loaded.published
        if published is not None:  # other towers of the published model may have modules with the same short names
            return sorted(map(published.renamed, self.adapted))
        short = {name.rpartition(".")[2] for name in self.adapted}
        named = {name for name, _ in self.loaded.model.named_modules() if name.rpartition(".")[2] in short}
        return sorted(short if named == set(self.adapted) else self.adapted)

    def load(self, slot: int, folder: Path) -> None:
        """Load a saved adapter into a slot.

        Args:
            slot: The slot to fill.
            folder: Folder written by `save`.

        Raises:
            RecordError: If the adapter is missing, unreadable, or belongs to another model.
        """
        tensors = read_adapter(folder)
        state: dict[str, tuple[Tensor, Tensor]] = {}
        for name, module in self.adapted.items():
            down, up = map(tensors.get, self._saved_names(name))
            if down is None or up is None or down.shape != module.down.shape[1:] or up.t().shape != module.up.shape[1:]:
                raise RecordError(
                    say(
                        "The adapter {folder!r} belongs to another model: {name} does not match.",
                        folder=str(folder),
                        name=name,
                    )
                )
            state[name] = (down.to(module.down), up.t().to(module.up))
        with torch.no_grad():
            for name, (down, up) in state.items():
                self.adapted[name].down[slot], self.adapted[name].up[slot] = down, up

    def merged(self, slot: int) -> Any:
        """Return a separate model with a slot's adapter merged into its weights, in float32 and rounded once."""
        model = copy.deepcopy(self.loaded.model)
        vars(model.config).update(self.loaded.dropout)
        for name, module in self.adapted.items():
            weight = cast(Tensor, model.get_submodule(name).weight)
            with torch.no_grad():
                weight.copy_((weight.float() + module.oriented(module.weight_update(slot))).to(weight.dtype))
        return model

    @contextmanager
    def perturbed(self, slot: int, change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
        """Add a perturbation to the frozen weight of every adapted module in all passes inside the block.

        Args:
            slot: The slot whose adapters contribute to the weights; it must be the only active one.
            change: `change(number, weight)` returns the perturbation of one weight, `[out, in]` float32. `weight` is
                the sum of base and adapter; `number` is the index of the adapted module, from 0.

        Yields:
            Nothing; the frozen weights are restored after the block.
        """
        before = [module.weight for module in self.adapted.values()]
        try:
            for number, module in enumerate(self.adapted.values()):
                with torch.no_grad():
                    weight = module.oriented(module.weight.float()) + module.weight_update(slot)
                    noisy = module.weight.float() + module.oriented(change(number, weight))
                    module.base._parameters["weight"] = nn.Parameter(noisy.to(module.weight.dtype), False)
            yield
        finally:
            for module, weight in zip(self.adapted.values(), before, strict=True):
                module.base._parameters["weight"] = cast(nn.Parameter, weight)

    def slot_state(self, slot: int) -> dict[str, tuple[Tensor, Tensor]]:
        """Return `(down [rank, in], up [out, rank])` of one slot for every adapted module, on the CPU."""
        return {
            name: (module.down[slot].detach().cpu().clone(), module.up[slot].detach().cpu().t().contiguous())
            for name, module in self.adapted.items()
        }
