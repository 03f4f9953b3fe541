"""Save and load arms: adapters in the PEFT format, full weights in the transformers format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neftune_core.durable import atomic_write
from neftune_core.errors import RecordError
from neftune_core.language import say
from neftune_core.models.architecture.anatomy import configured_dropout
from neftune_core.models.loading import LoadedModel
from neftune_core.models.silence_warnings import silence_transformers
from neftune_core.sentences import cause

PREFIX = "base_model.model."
ADAPTER, WEIGHTS = "adapter_model.safetensors", "model.safetensors"


def is_saved(folder: Path) -> bool:
    """Return whether `folder` contains a saved arm of either format."""
    return any((folder / name).is_file() for name in (ADAPTER, WEIGHTS))


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write an adapter atomically, in the PEFT format.

    Args:
        folder: Target folder for `adapter_config.json` and `adapter_model.safetensors`.
        tensors: The tensors by PEFT name.
        config: The contents of `adapter_config.json`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as aside:
        aside.mkdir()
        save_file(dict(tensors), aside / ADAPTER, metadata={"format": "pt"})
        (aside / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a saved adapter by name.

    Raises:
        RecordError: If the adapter is missing or unreadable.
    """
    file = folder / ADAPTER
    if not file.is_file():
        raise RecordError(say("The adapter {folder!r} is missing from this record.", folder=str(folder)))
    try:
        return load_file(file)
    except Exception as error:
        raise RecordError(
            say("The adapter {folder!r} cannot be read ({fault}).", folder=str(folder), fault=cause(error))
        ) from error


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
        kind: Model class from transformers.
        folder: Folder in the transformers format.
        shapes: Expected shape of each weight.

    Returns:
        The weights by name.

    Raises:
        RecordError: If the files are missing or unreadable, or the names or shapes of the weights differ.
    """
    if not (folder / WEIGHTS).is_file():
        raise RecordError(say("The weights {folder!r} are missing from this record.", folder=str(folder)))
    try:
        with silence_transformers():
            model = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except Exception as error:
        raise RecordError(
            say("The weights in {folder!r} cannot be read ({fault}).", folder=str(folder), fault=cause(error))
        ) from error
    weights = dict(model.named_parameters())
    if {name: weight.shape for name, weight in weights.items()} != shapes:
        raise RecordError(say("The weights in {folder!r} belong to another model.", folder=str(folder)))
    return weights
