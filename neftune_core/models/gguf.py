"""GGUF files, turned once into safetensors."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from neftune_core.errors import Cancelled, ModelError
from neftune_core.models.checks import require_memory
from neftune_core.models.folders import made_once, models_home
from neftune_core.models.progress import Watch

CHUNK_BYTES = 1 << 22
VERSION = 1


def convert(file: Path, watch: Watch) -> Path:
    """The folder with the model of the GGUF `file` in bfloat16 safetensors, kept under `home()` by the file's hash.

    Takes about 15 seconds for 135 million parameters the first time. Raises `ModelError` for a file that is broken or
    of a kind transformers does not read.
    """
    digest = file_sha256(file, watch)
    target = models_home() / "converted" / f"{digest[:24]}-v{VERSION}"
    return made_once(target, lambda folder: convert_into(folder, file, watch))


def file_sha256(file: Path, watch: Watch) -> str:
    """The sha256 of `file`, with progress."""
    digest, done, size = hashlib.sha256(), 0, file.stat().st_size
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            watch.check()
            watch.say(done, size, f"Checking {file.name}")
    return digest.hexdigest()


def convert_into(folder: Path, file: Path, watch: Watch) -> None:
    """Write the model and tokenizer of the GGUF `file` into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Dequantised in float32 and copied once in bfloat16.
    require_memory(_parameter_count(file) * 6, file.name, torch.device("cpu"))
    watch.check()
    watch.say(0, 0, f"Converting {file.name}")
    try:
        source = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
        quantised = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
    except Cancelled:
        raise
    except Exception as error:
        raise ModelError(
            f"The GGUF file {file.name} cannot be read as a language model ({type(error).__name__}): it is broken, or of a "
            "kind that the installed transformers does not read."
        ) from error
    watch.check()
    _plain(quantised).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _plain(quantised: Any) -> Any:
    """A bfloat16 model with the weights of `quantised`; what transformers reads from a GGUF file refuses to be saved."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    described = {key: value for key, value in quantised.config.to_dict().items() if key != "quantization_config"}
    config = AutoConfig.for_model(**described)
    config.architectures = [type(quantised).__name__]
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    return model


def _parameter_count(file: Path) -> int:
    from gguf import GGUFReader

    try:
        return sum(int(tensor.n_elements) for tensor in GGUFReader(file).tensors)
    except Exception as error:
        raise ModelError(f"The file {file.name} is not a GGUF file, or is cut short: fetch it again.") from error
