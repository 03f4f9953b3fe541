"""Module trees over shared tensors, and fingerprints of base models."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# Attribute by which transformers records that it has installed its hooks. A tree without hooks must not have it,
# because its hidden states would never be collected.
HOOKED_MARK = "_output_capturing_hooks_installed"


def private_tree(model: nn.Module) -> nn.Module:
    """Return an independent module tree over the same parameters and buffers.

    Hooks, replaced modules and attributes of the tree do not affect `model`. Hooks of `model` are not copied. Tied
    parameters stay tied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        tensors = [*module._parameters.values(), *module._buffers.values()]
        memo |= {id(tensor): tensor for tensor in tensors if tensor is not None}
        hooks = (value for name, value in vars(module).items() if "_hooks" in name and isinstance(value, dict))
        memo |= {id(table): OrderedDict() for table in hooks}
    tree = copy.deepcopy(model, memo)
    for module in tree.modules():
        vars(module).pop(HOOKED_MARK, None)
    return tree


def fingerprint(model: nn.Module) -> str:
    """Return 16 hexadecimal digits that identify a base model.

    They are the start of the SHA-256 over the name, the shape and the first 64 values of every parameter.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        first = parameter.detach().flatten()[:64].float().cpu().numpy()
        digest.update(f"{name} {tuple(parameter.shape)}".encode() + first.tobytes())
    return digest.hexdigest()[:16]
