"""Module trees over shared tensors, fingerprints of base models, and the text part of multimodal models."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
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


MARK = "_published_model"


@dataclass(frozen=True)
class PublishedModel:
    """The published model around a text part.

    Attributes:
        prefix: Qualified name of the text part's body in the published model.
        body: Qualified name of the body in the text part.
        architecture: Name of the published model's class.
        library: Python module of that class.
        causal: Whether `AutoModelForCausalLM` loads it.
    """

    prefix: str
    body: str
    architecture: str
    library: str
    causal: bool

    def renamed(self, name: str) -> str:
        """Return the name that the text part's module `name` has in the published model."""
        return self.prefix + name.removeprefix(self.body)


def text_part(whole: Any) -> Any:
    """Return the part of `whole` that generates text; `whole` itself if it has no other inputs.

    Args:
        whole: A transformers model. When the caller releases it, its image and sound towers are freed.
    """
    import torch
    from transformers import AutoModelForCausalLM

    known = AutoModelForCausalLM._model_mapping
    config = whole.config.get_text_config()
    if whole.config.is_encoder_decoder or config is whole.config or type(config) not in known:
        return whole
    with torch.device("meta"):
        text = AutoModelForCausalLM.from_config(config)
    body = text.base_model_prefix
    kind = type(getattr(text, body))
    found = next(((name, module) for name, module in whole.named_modules() if type(module) is kind), None)
    if type(whole) is type(text) or found is None:
        return whole
    setattr(text, body, found[1])
    text.set_output_embeddings(whole.get_output_embeddings())
    text.generation_config, text.name_or_path = whole.generation_config, whole.name_or_path
    config.tie_word_embeddings = text.get_output_embeddings().weight is text.get_input_embeddings().weight
    config.architectures = [type(text).__name__]
    about = type(whole)
    vars(text)[MARK] = PublishedModel(found[0], body, about.__name__, about.__module__, type(whole.config) in known)
    return text.eval()


def published_model(model: Any) -> PublishedModel | None:
    """Return the published model around `model`; None if `model` is not a part of one."""
    found: PublishedModel | None = vars(model).get(MARK)
    return found
