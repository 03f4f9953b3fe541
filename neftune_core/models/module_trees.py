"""Module trees over shared tensors, and a fingerprint of the tensors."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# The mark by which transformers knows that it has put its own hooks on a model. A tree without hooks must
# not carry it, or hidden states asked for later would never be collected.
HOOKED_MARK = "_output_capturing_hooks_installed"


def private_tree(model: nn.Module) -> nn.Module:
    """An independent tree of modules over the same parameter and buffer tensors as `model`.

    Hooks put on it, modules replaced in it and attributes set on it never reach `model`. It has none of
    `model`'s hooks. Tied parameters stay tied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        tensors = [*module._parameters.values(), *module._buffers.values()]
        memo |= {id(tensor): tensor for tensor in tensors if tensor is not None}
        memo |= {id(hooks): OrderedDict() for name, hooks in vars(module).items() if _is_hook_table(name, hooks)}
    tree = copy.deepcopy(model, memo)
    for module in tree.modules():
        vars(module).pop(HOOKED_MARK, None)
    return tree


def _is_hook_table(name: str, value: Any) -> bool:
    return "_hooks" in name and isinstance(value, dict)


def weights_hash(model: nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of all parameters: equal only where nothing changed."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint(model: nn.Module) -> str:
    """A short sha256 over the first values of every parameter: enough to tell one base from another."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        first = parameter.detach().flatten()[:64].float().cpu().numpy()
        digest.update(f"{name} {tuple(parameter.shape)}".encode() + first.tobytes())
    return digest.hexdigest()[:16]
