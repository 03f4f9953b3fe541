"""A simulated CUDA graph, which records operations on a tape and replays them on the same memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Result = TypeVar("Result")
WAITING = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)


class Tape(TorchDispatchMode):
    """A mode that records every operation.

    Attributes:
        operations: Function, arguments, keyword arguments and results of each operation. They keep the memory of all
            tensors alive, as a graph does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in WAITING:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, _tensors(result)))
        return result

    @torch.no_grad()
    def repeat(self) -> None:
        """Run every operation again, and write the results to their original memory."""
        for func, args, kwargs, results in self.operations:
            for place, found in zip(results, _tensors(func(*args, **kwargs)), strict=True):
                if place.data_ptr() != found.data_ptr():
                    place.copy_(found)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class TapeRecorder:
    """A `Recorder` whose results are NaN until the first replay, as those of a CUDA graph are undefined.

    Attributes:
        recorded: Number of recordings.
    """

    def __init__(self) -> None:
        self.recorded = 0

    def record(self, run: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        """Record the operations of `run`; return its result and a function that replays them."""
        tape = Tape()
        with tape:
            result = run()
        self.recorded += 1
        for tensor in _tensors(result):
            tensor.detach().fill_(float("nan"))
        return result, tape.repeat
