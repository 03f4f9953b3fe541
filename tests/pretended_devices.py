"""A simulated GPU that tracks the device of every tensor on a machine without a GPU.

All tensors stay in main memory. Each storage is labelled with the device that it would be on. `.to`, `device=` and
operations on labelled tensors set the label. `DevicesMet` is raised if a GPU would refuse an operation. Operations for
which the CPU would wait for the GPU are counted.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import Any
from unittest import mock

import safetensors.torch
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST, GPU = torch.device("cpu"), torch.device("cuda", 0)
ANY = torch.device("meta")
"""Label of tensors that torch creates inside an operation; they would be on the device of the operands."""

RANDOM = ("rand", "randint", "randn", "randperm")
BARE = ("arange", "empty", "empty_strided", "eye", "full", "linspace", "ones", "tensor", "zeros", *RANDOM)
LIKE = ("empty_like", "full_like", "ones_like", "rand_like", "randint_like", "randn_like", "zeros_like")
NEW = ("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros")
COPIED = ("tensor", "new_tensor")
"""Those of the functions above that copy values from Python."""

aten = torch.ops.aten
INDEXING = {aten.index, aten._unsafe_index, aten.index_put, aten.index_put_, aten._index_put_impl_}
TAKES_SCALARS = {aten.where, aten.fill, aten.fill_, aten.index_fill, aten.index_fill_, *INDEXING}
"""Operations without the pointwise tag that accept 0-dim CPU tensors beside GPU tensors."""
WAITING = {
    aten._local_scalar_dense,
    aten._unique2,
    aten.bincount,
    aten.equal,
    aten.masked_select,
    aten.nonzero,
    aten.unique_consecutive,
    aten.unique_dim,
}
"""Operations for which the CPU reads the shape or the value of the result."""


class DevicesMet(AssertionError):
    """Raised if an operation combines tensors of two devices; not a `RuntimeError`, which the lab might catch."""


class PretendedGpu(TorchDispatchMode):
    """A context in which `device="cuda"` creates tensors that are treated as GPU tensors.

    Attributes:
        waits: Number of times that the CPU waited for the GPU, to read a result or to copy values, by operation.
        copies: Number of copies to the GPU without waiting, by operation.
        faults: All `DevicesMet` errors so far. If they were caught, the first is raised again on exit.
        captured: Whether a graph is being captured; the CPU must then neither wait nor copy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.faults: list[DevicesMet] = []
        self.captured = False
        self._labels: dict[int, tuple[StorageWeakRef, torch.device]] = {}
        self._patches = ExitStack()

    def __enter__(self) -> PretendedGpu:
        with torch.device("meta"):  # on first use, torch lists device constructors: before they are patched
            torch.empty(0)
        for owner, name, instead in self._instead():
            self._patches.enter_context(mock.patch.object(owner, name, instead))
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._patches.close()
        if self.faults and kind is None:
            raise self.faults[0]

    def device_of(self, tensor: Tensor) -> torch.device:
        """Return the device that a tensor would be on."""
        if _real_device(tensor).type != "cpu":
            return _real_device(tensor)
        held = self._labels.get(tensor.untyped_storage()._cdata)
        return held[1] if held else HOST

    def put(self, tensor: Tensor, device: torch.device) -> Tensor:
        """Label a tensor, and all tensors that share its storage, with a device; return the tensor."""
        if _real_device(tensor).type == "cpu":
            storage = tensor.untyped_storage()
            self._labels[storage._cdata] = (StorageWeakRef(storage), device)
            if len(self._labels) % 4096 == 0:
                self._labels = {key: held for key, held in self._labels.items() if not held[0].expired()}
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        device = self._common_device(func, args, tensors)
        self._count(func, args, kwargs, device)
        result = func(*args, **kwargs)
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.untyped_storage()._cdata not in self._labels:
                self.put(made, device)
        return result

    def _common_device(self, func: Any, args: Any, tensors: list[Tensor]) -> torch.device:
        """Return the device of an operation.

        Raises:
            DevicesMet: If a GPU would refuse it.
        """
        where = [(tensor, self.device_of(tensor)) for tensor in tensors]
        found = {device for _, device in where if device != ANY}
        if len(found) <= 1:
            return found.pop() if found else ANY
        packet = func.overloadpacket
        if packet in (aten.copy_, aten.set_):
            return self.device_of(args[0])
        scalars = packet in TAKES_SCALARS or torch.Tag.pointwise in func.tags
        written = {id(args[number]) for number in _written(func) if number < len(args)}
        indices = {id(one) for one in args[1]} if packet in INDEXING else set()
        for tensor, device in where:
            is_scalar = scalars and tensor.dim() == 0 and id(tensor) not in written
            if device == HOST and not is_scalar and id(tensor) not in indices:
                self._refuse(func, where)
        return next(iter(found - {HOST}))

    def _refuse(self, func: Any, where: list[tuple[Tensor, torch.device]]) -> None:
        words = ", ".join(f"{list(tensor.shape)} on {device}" for tensor, device in where)
        self.faults.append(DevicesMet(f"Tensors of two devices meet in {func}: {words}."))
        raise self.faults[-1]

    def _count(self, func: Any, args: Any, kwargs: Any, device: torch.device) -> None:
        packet = func.overloadpacket
        if packet is aten.copy_ and self.device_of(args[0]) != self.device_of(args[1]):
            self._crossed(str(func), self.device_of(args[0]), waits=len(args) < 3 or not args[2])
        if device != GPU:
            return
        if packet in INDEXING:
            self._count_indices(func, args)
        unknown_length = func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None
        if packet in WAITING or unknown_length:
            self._crossed(str(func), HOST)

    def _count_indices(self, func: Any, args: Any) -> None:
        """Count a wait for each CPU index, which is copied, and for each mask, whose true values are counted."""
        for index in args[1]:
            if index is not None and self.device_of(index) == HOST:
                self._crossed(str(func), GPU)
            elif index is not None and index.dtype in (torch.bool, torch.uint8) and not _is_fill(func, args):
                self._crossed(str(func), HOST)

    def _crossed(self, what: str, to: torch.device, *, waits: bool = True) -> None:
        """Count a transfer between the devices."""
        if self.captured:
            self.faults.append(DevicesMet(f"A captured graph cannot copy between devices: {what} to {to}."))
            raise self.faults[-1]
        (self.waits if waits or to == HOST else self.copies)[what] += 1

    # ----------------------------------------------------------------------------------------- replaced functions
    def _instead(self) -> Iterator[tuple[Any, str, Any]]:
        """Yield the functions of torch that name devices, as `(owner, name, replacement)`."""
        for name in BARE:
            yield torch, name, self._maker(name, getattr(torch, name), lambda args: HOST)
        for owner, names in ((torch, LIKE), (Tensor, NEW)):
            for name in names:
                yield owner, name, self._maker(name, getattr(owner, name), lambda args: self.device_of(args[0]))
        yield torch, "as_tensor", self._as_tensor
        moving = {"cpu": lambda one: self._to(one, HOST), "cuda": lambda one, device=GPU: self._to(one, device)}
        methods = {**moving, "to": lambda *args, **kwargs: self._to(*args, **kwargs)}
        reading = {"tolist": self._to_list(), "numpy": self._numpy(), "__deepcopy__": self._deep_copy()}
        asked = {
            "device": property(self.device_of),
            "is_cuda": property(lambda one: self.device_of(one) == GPU),
            "is_cpu": property(lambda one: self.device_of(one) == HOST),
        }
        for name, instead in (methods | reading | asked).items():
            yield Tensor, name, instead
        yield safetensors.torch, "safe_open", self._opener(safetensors.torch.safe_open)
        for name, value in MACHINE.items():
            yield torch.cuda, name, value
        for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
            if hasattr(torch.optim.Optimizer, name):  # CUDA builds of torch query the driver
                yield torch.optim.Optimizer, name, lambda _: None

    def _maker(self, name: str, real: Callable[..., Tensor], usual: Callable[[Any], torch.device]) -> Any:
        def make(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            target = usual(args) if device is None else _canonical(device)
            if target not in (HOST, GPU, ANY) or (device is not None and target.type == "meta"):
                return real(*args, device=device, **kwargs)
            generator = kwargs.get("generator")
            if generator is not None and generator.device.type != target.type:
                self.faults.append(DevicesMet(f"{name} on {target} draws from a generator on {generator.device}."))
                raise self.faults[-1]
            if name in COPIED and target == GPU:
                self._crossed(name, GPU)
            where = {} if device is None else {"device": HOST}  # a tensor like a meta tensor still needs memory
            return self.put(real(*args, **where, **kwargs), target)

        return make

    def _as_tensor(self, values: Any, dtype: Any = None, device: Any = None) -> Tensor:
        known = isinstance(values, Tensor)
        made = values if known else REAL["as_tensor"](values)
        return made.to(dtype=dtype or made.dtype, device=device or made.device)

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        real = REAL["to"]
        if args and isinstance(args[0], Tensor):
            args = (self.device_of(args[0]), args[0].dtype, *args[1:])
        again = kwargs.pop("copy", False)
        device, dtype, at_once, layout = torch._C._nn._parse_to(*args, **kwargs)
        target = self.device_of(tensor) if device is None else _canonical(device)
        if target.type not in ("cpu", "cuda") or tensor.is_meta:
            return real(tensor, *args, copy=again, **kwargs)
        own = self.device_of(tensor)
        given = {"dtype": dtype, "non_blocking": at_once, "memory_format": layout or torch.preserve_format}
        if target == own:
            return real(tensor, copy=again, **given)
        self._crossed("to", target, waits=not at_once)
        return self.put(real(tensor, copy=True, **given), target)

    def _to_list(self) -> Callable[[Tensor], Any]:
        return lambda tensor: REAL["tolist"](tensor.cpu())

    def _numpy(self) -> Callable[..., Any]:
        def numpy(tensor: Tensor, **kwargs: Any) -> Any:
            if self.device_of(tensor) == GPU:
                raise TypeError("A tensor of a GPU has no NumPy array: use .cpu() first.")
            return REAL["numpy"](tensor, **kwargs)

        return numpy

    def _deep_copy(self) -> Callable[..., Tensor]:
        def deep_copy(tensor: Tensor, memo: Any) -> Tensor:
            return self.put(REAL["__deepcopy__"](tensor, memo), self.device_of(tensor))

        return deep_copy

    def _opener(self, real: Any) -> Any:
        @contextmanager
        def opened(filename: Any, framework: str, device: Any = "cpu", **more: Any) -> Iterator[Any]:
            with real(filename, framework=framework, device="cpu", **more) as file:
                held = {name: self.put(file.get_tensor(name), _canonical(device)) for name in file.keys()}  # noqa: SIM118
                reader = mock.Mock(wraps=file)
                reader.get_tensor, reader.get_tensors = held.__getitem__, held.copy
                yield reader

        return opened


def _real_device(tensor: Tensor) -> torch.device:
    return torch._C.TensorBase.device.__get__(tensor)


def _canonical(device: Any) -> torch.device:
    """Return a device in the form that tensors report."""
    found = torch.device(device)
    return torch.device(found.type, found.index or 0) if found.type == "cuda" else torch.device(found.type)


def _written(func: Any) -> list[int]:
    """Return the positions of the arguments that an operation modifies."""
    arguments = enumerate(func._schema.arguments)
    return [number for number, one in arguments if one.alias_info is not None and one.alias_info.is_write]


def _is_fill(func: Any, args: Any) -> bool:
    """Return whether an assignment by mask sets a single value, so that the mask is not counted."""
    return func.overloadpacket in (aten.index_put_, aten._index_put_impl_) and args[2].numel() == 1


REAL = {"as_tensor": torch.as_tensor, **{name: getattr(Tensor, name) for name in ("to", "tolist", "numpy")}}
REAL["__deepcopy__"] = Tensor.__deepcopy__

MACHINE: dict[str, Any] = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "get_device_name": lambda *_: "a pretended GPU",
    "mem_get_info": lambda *_: (2**34, 2**34),
    "memory_reserved": lambda *_: 0,
    "memory_allocated": lambda *_: 0,
    "device": lambda *_: nullcontext(),
    "is_bf16_supported": lambda *_, **__: False,
    "get_rng_state": lambda *_: torch.get_rng_state(),
    "set_rng_state": lambda *_: None,
    "synchronize": lambda *_: None,
    "empty_cache": lambda: None,
}
"""Replacements for functions of `torch.cuda` that describe or control the device."""


def on_gpu(loaded: Any) -> Any:
    """Return a copy of a loaded model on the simulated GPU."""
    import dataclasses

    return dataclasses.replace(loaded, model=copy.deepcopy(loaded.model).to("cuda"), device=torch.device("cuda"))
