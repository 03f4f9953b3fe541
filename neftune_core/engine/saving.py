"""One arm on disk: adapters in the PEFT format, full weights in the transformers format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neftune_core.durable import atomic_write
from neftune_core.errors import RecordError
from neftune_core.language import say
from neftune_core.models.architecture.anatomy import configured_dropout
from neftune_core.models.silence_warnings import silence_transformers
from neftune_core.sentences import cause

if TYPE_CHECKING:
    from neftune_core.engine.stack import AdapterStack
    from neftune_core.models.loading import LoadedModel

PREFIX = "base_model.model."
ADAPTER, WEIGHTS = "adapter_model.safetensors", "model.safetensors"


def is_saved(folder: Path) -> bool:
    """Return whether `folder` holds a saved arm of either format."""
    return any((folder / name).is_file() for name in (ADAPTER, WEIGHTS))


def save_adapter(stack: AdapterStack, slot: int, folder: Path) -> None:
    """Write the adapter of one slot atomically, in the PEFT format.

    Args:
        stack: The arms.
        slot: The slot to save.
        folder: Target folder, which gets `adapter_config.json` and `adapter_model.safetensors`.
    """
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in stack.slot_state(slot).items():
        down_name, up_name = _tensor_names(stack, name)
        tensors |= {down_name: down.contiguous(), up_name: up.contiguous()}
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "SEQ_2_SEQ_LM" if stack.loaded.encoder_decoder else "CAUSAL_LM",
        "base_model_name_or_path": stack.loaded.source,
        "r": stack.rank,
        "lora_alpha": stack.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": _target_names(stack),
        "fan_in_fan_out": any(not isinstance(module.base, nn.Linear) for module in stack.adapted.values()),
        "inference_mode": True,
    }
    published = stack.loaded.published
    if published is not None and not published.causal:
        config["auto_mapping"] = {"base_model_class": published.architecture, "parent_library": published.library}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as aside:
        aside.mkdir()
        save_file(tensors, aside / ADAPTER, metadata={"format": "pt"})
        (aside / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _tensor_names(stack: AdapterStack, name: str) -> list[str]:
    """Return the names of the two tensors of an adapted module in a file of PEFT."""
    published = stack.loaded.published
    told = name if published is None else published.renamed(name)
    return [f"{PREFIX}{told}.lora_{part}.weight" for part in "AB"]


def _target_names(stack: AdapterStack) -> list[str]:
    """Return the short names of the adapted modules if they match no other module, otherwise the qualified names."""
    published = stack.loaded.published
    if published is not None:  # its towers may have modules of the same short names
        return sorted(map(published.renamed, stack.adapted))
    short = {name.rpartition(".")[2] for name in stack.adapted}
    named = {name for name, _ in stack.loaded.model.named_modules() if name.rpartition(".")[2] in short}
    return sorted(short if named == set(stack.adapted) else stack.adapted)


def load_adapter(stack: AdapterStack, slot: int, folder: Path) -> None:
    """Load a saved adapter into one slot.

    Args:
        stack: The arms.
        slot: The slot to fill.
        folder: Folder in the PEFT format.

    Raises:
        RecordError: If it is missing, unreadable or belongs to another model.
    """
    file = folder / ADAPTER
    if not file.is_file():
        raise RecordError(say("The adapter {folder!r} is missing from this record.", folder=str(folder)))
    try:
        tensors = load_file(file)
    except Exception as error:
        raise RecordError(
            say("The adapter {folder!r} cannot be read ({fault}).", folder=str(folder), fault=cause(error))
        ) from error
    state: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in stack.adapted.items():
        down, up = map(tensors.get, _tensor_names(stack, name))
        if down is None or up is None or down.shape != module.down.shape[1:] or up.t().shape != module.up.shape[1:]:
            raise RecordError(
                say(
                    "The adapter {folder!r} was trained on another model: {name} does not fit.",
                    folder=str(folder),
                    name=name,
                )
            )
        state[name] = (down.to(torch.float32), up.to(torch.float32))
    stack.load_slot(slot, state)


def save_weights(tree: nn.Module, loaded: LoadedModel, folder: Path) -> None:
    """Write full weights, configuration and tokenizer atomically, in the transformers format.

    Args:
        tree: The module tree with the weights.
        loaded: The base model.
        folder: Target folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as aside, silence_transformers(), configured_dropout(tree, loaded.dropout):
        tree.save_pretrained(aside, max_shard_size="1000GB")  # type: ignore[operator]
        loaded.tokenizer.save_pretrained(aside)


def load_weights(kind: Any, folder: Path, shapes: Mapping[str, torch.Size]) -> dict[str, nn.Parameter]:
    """Load saved weights by name.

    Args:
        kind: Model class of transformers.
        folder: Folder in the transformers format.
        shapes: Expected shape of each weight.

    Raises:
        RecordError: If the files are missing or unreadable, or the shapes differ.
    """
    if not (folder / WEIGHTS).is_file():
        raise RecordError(say("The weights {folder!r} are missing from this record.", folder=str(folder)))
    try:
        with silence_transformers():
            model = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except Exception as error:
        raise RecordError(
            say("The weights {folder!r} cannot be read ({fault}).", folder=str(folder), fault=cause(error))
        ) from error
    weights = dict(model.named_parameters())
    if {name: weight.shape for name, weight in weights.items()} != shapes:
        raise RecordError(say("The weights {folder!r} belong to another model.", folder=str(folder)))
    return weights
