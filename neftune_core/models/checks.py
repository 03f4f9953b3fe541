"""Checks on a model's folder before its weights are read."""

from __future__ import annotations

import json
import re
import struct
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_core.errors import DoesNotFit, ModelError
from neftune_core.language import later, say
from neftune_core.models.device import available_memory
from neftune_core.sentences import cause, sentence

if TYPE_CHECKING:
    import torch

# Tasks in the names of classes that do not generate text.
OTHER_TASKS = ("Classification", "QuestionAnswering", "MultipleChoice", "NextSentencePrediction")
# Masked language models (BERT, RoBERTa), which can be run as decoders without being trained for it.
FILLING_ENDINGS = ("ForMaskedLM", "ForPreTraining")
NOT_PRETRAINED = (
    "Not pre-trained for generation: it was trained to fill masked tokens, reading in both directions, not to write "
    "text."
)
# Memory for loading as a multiple of the weights; includes the tokenizer, buffers and pages of the file being read.
LOADING_MARGIN = 1.1


def read_configuration(folder: Path) -> Any:
    """Return the configuration in `folder`; masked language models such as BERT are configured as decoders.

    Raises:
        ModelError: If the folder does not contain an unquantised text generation model with safetensors files.
    """
    config = _configuration(folder)
    _require_writer(config, folder)
    _require_safetensors(folder)
    if is_masked_language_model(config):
        config.is_decoder = True
    if hasattr(config, "rescale_every"):  # RWKV would halve its weights in place, but module trees share them
        config.rescale_every = 0
    return config


def is_masked_language_model(config: Any) -> bool:
    """Return whether the weights belong to a masked language model."""
    return any(name.endswith(FILLING_ENDINGS) for name in config.architectures or [])


def _configuration(folder: Path) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            say("The folder {folder} contains no model: it has neither a config.json nor a GGUF file.", folder=folder)
        ) from None
    except OSError as error:
        raise ModelError(sentence(error)) from None
    except ValueError:
        raise ModelError(
            say("The config.json in {folder} cannot be read: download the model again.", folder=folder)
        ) from None
    kind = described.get("model_type") if isinstance(described, dict) else None
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        if kind and kind not in CONFIG_MAPPING:
            words = later(
                "The installed transformers does not support the architecture {kind!r} of {folder}, and the lab never "
                "runs code from a model's folder: choose another model, or install a newer transformers."
            )
            raise ModelError(say(words, kind=kind, folder=folder)) from error
        words = later(
            "The config.json in {folder} does not describe a valid model ({fault}): download the model again."
        )
        raise ModelError(say(words, folder=folder, fault=cause(error))) from error


def auto_class(config: Any) -> Any:
    """Return the auto class of transformers that loads a text-generating model; None if there is none.

    A class that also takes images or sound counts if its text part generates text.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSeq2SeqLM

    kinds = [AutoModelForSeq2SeqLM] if config.is_encoder_decoder else [AutoModelForCausalLM]
    if not config.is_encoder_decoder and type(config.get_text_config()) in AutoModelForCausalLM._model_mapping:
        kinds.append(AutoModelForImageTextToText)
    return next((kind for kind in kinds if type(config) in kind._model_mapping), None)


def _require_writer(config: Any, folder: Path) -> None:
    names = list(config.architectures or [])
    other = bool(names) and all(_writes_nothing(name, config.is_encoder_decoder) for name in names)
    if other or auto_class(config) is None:
        found = _trained_for(config.model_type, names[0] if names else "")
        words = later("The model in {folder} does not generate text ({found}): choose one that does.")
        raise ModelError(say(words, folder=folder, found=found))
    if getattr(config, "quantization_config", None):
        words = later(
            "The weights in {folder} are quantised and cannot be trained here: choose the original model, or its GGUF "
            "file."
        )
        raise ModelError(say(words, folder=folder))


def _writes_nothing(architecture: str, encoder_decoder: bool) -> bool:
    """Return whether a class has another task or no head; an encoder-decoder may use its embedding as the head."""
    headless = re.search("(?<!LMHead)Model$", architecture) and not encoder_decoder
    return bool(headless) or any(task in architecture for task in OTHER_TASKS)


def _trained_for(family: str, architecture: str) -> str:
    """Return a model's family and the task in the name of its architecture, such as "bert, masked LM"."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", architecture.partition("For")[2])
    task = " ".join(word if word.isupper() else word.lower() for word in words)
    return f"{family}, {task}" if task else family


def _require_safetensors(folder: Path) -> None:
    files = safetensors_files(folder)
    if files:
        for file in files:
            safetensors_header(file)
        return
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        words = later(
            "The weights in {folder} are pickled files (.bin), which can run code when opened: use a revision or a "
            "model with safetensors files."
        )
        raise ModelError(say(words, folder=folder))
    raise ModelError(say("There are no weights in {folder}: it needs safetensors files.", folder=folder))


def safetensors_files(folder: Path) -> list[Path]:
    """Return the weight files listed in the index of `folder`, or the single `model.safetensors`.

    Raises:
        ModelError: If a listed file is missing or the index cannot be read.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        single = folder / "model.safetensors"
        return [single] if single.is_file() else []
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except OSError as error:
        raise ModelError(sentence(error)) from None
    except (ValueError, KeyError, AttributeError):
        raise ModelError(
            say("The index of the weights in {folder} cannot be read: download the model again.", folder=folder)
        ) from None
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing:
        words = later("The weight file {weight} is missing from {folder}: download the model again.")
        raise ModelError(say(words, weight=missing[0], folder=folder))
    return [folder / name for name in names]


def safetensors_header(file: Path) -> dict[str, Any]:
    """Return the tensor entries of a safetensors file by name, without reading the tensors.

    Raises:
        ModelError: If the file is damaged, truncated or unreadable.
    """
    broken = ModelError(say("The weight file {file} is damaged or truncated: download the model again.", file=file))
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            size = file.stat().st_size
            if length > size - 8:
                raise broken
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except OSError as error:
        raise ModelError(sentence(error)) from None
    except (struct.error, ValueError, KeyError, AttributeError, TypeError):
        raise broken from None
    if 8 + length + end != size:
        raise broken
    return dict(header)


def parameter_count(folder: Path) -> int:
    """Return the number of parameters in the weight files of `folder`.

    Raises:
        ModelError: If a weight file is missing, damaged or unreadable.
    """
    tensors = [entry for file in safetensors_files(folder) for entry in safetensors_header(file).values()]
    return sum(prod(entry["shape"]) for entry in tensors)


def require_memory(needed_bytes: int, name: str, device: torch.device) -> None:
    """Check that weights fit in memory, with a margin of 10% for loading them.

    Args:
        needed_bytes: Size of the weights in bytes.
        name: Name of the model, for the error message.
        device: Target device.

    Raises:
        DoesNotFit: If there is not enough free memory.
    """
    free = available_memory(str(device))
    needed = needed_bytes * LOADING_MARGIN
    if needed > free:
        words = later(
            "{name} needs about {needed:.1f} GB of memory, but only {free:.1f} GB are free on {device}: choose a "
            "smaller model, or a machine with more memory."
        )
        raise DoesNotFit(say(words, name=name, needed=needed / 1e9, free=free / 1e9, device=device))
