"""Convert GGUF files to safetensors."""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neftune_core.errors import Cancelled, DoesNotFit, ModelError
from neftune_core.language import later, say
from neftune_core.models.checks import require_memory
from neftune_core.models.silence_warnings import silence_transformers
from neftune_core.models.sources.download_progress import Watch
from neftune_core.models.sources.folders import create_once, models_home
from neftune_core.sentences import cause

CHUNK_BYTES = 1 << 22
VERSION = 1
CONVERTING_BYTES = 6  # per parameter: one copy in float32, one in bfloat16


def convert(file: Path, watch: Watch) -> Path:
    """Convert a GGUF file to bfloat16 safetensors, cached under `home()` by the file's hash.

    The first conversion takes about 15 seconds for 135 million parameters.

    Args:
        file: The GGUF file.
        watch: Progress and cancellation.

    Returns:
        Folder of the converted model.

    Raises:
        ModelError: If the file is damaged, or of a type that transformers does not support.
        DoesNotFit: If there is not enough memory.
        Cancelled: If cancellation was requested.
    """
    digest = file_sha256(file, watch)
    target = models_home() / "converted" / f"{digest[:24]}-v{VERSION}"
    return create_once(target, lambda folder: convert_into(folder, file, watch))


def file_sha256(file: Path, watch: Watch) -> str:
    """Compute the SHA-256 of a file.

    Args:
        file: File to hash.
        watch: Progress and cancellation.

    Returns:
        64 hexadecimal digits.
    """
    digest, done, size = hashlib.sha256(), 0, file.stat().st_size
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            watch.check()
            watch.report(done, size, say("Checking {file}", file=file.name))
    return digest.hexdigest()


def rounding_note(file: Path) -> str:
    """Return a sentence about the quantisation of a GGUF file; "" if it is mostly unquantised or cannot be read."""
    try:
        about = file.stat()
    except OSError:
        return ""
    return _rounding_note(file, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=16)
def _rounding_note(file: Path, *_: int) -> str:
    from gguf import GGUFReader

    sizes: Counter[str] = Counter()
    try:
        for tensor in GGUFReader(file).tensors:
            sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    except Exception:  # conversion reports a broken file
        return ""
    kind = max(sizes, key=sizes.__getitem__, default="")
    bits = re.match(r"I?Q(\d)", kind)
    if bits is None:
        return ""
    return later(
        "The weights in {file} are quantised ({kind}), with at most {values} values per block, so losses and "
        "answers differ from those of the original model."
    ).format(file=file.name, kind=kind, values=2 ** int(bits[1]))


SPECIAL_TOKENS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""Names of special tokens in GGUF files, by their names in a tokenizer."""

# Conversion patches a global of transformers, so only one may run at a time.
_conversion_lock = threading.Lock()


def convert_into(folder: Path, file: Path, watch: Watch) -> None:
    """Convert a GGUF file into an existing folder.

    Args:
        folder: Target folder for the model and the tokenizer.
        file: The GGUF file.
        watch: Progress and cancellation.

    Raises:
        ModelError: If the file is damaged, or transformers cannot read its type.
    """
    watch.check()
    watch.report(0, 0, say("Converting {file}", file=file.name))
    with _conversion_lock, silence_transformers(), _reporting_progress(watch, file.name):
        model, tokenizer = _read(file)
    watch.check()
    _set_special_tokens(tokenizer, file)
    with silence_transformers():
        _unquantised(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def _reporting_progress(watch: Watch, name: str) -> Iterator[None]:
    """Replace transformers' progress bar over GGUF tensors with `watch` and a memory check."""
    import torch
    from transformers import modeling_gguf_pytorch_utils as reading

    def report_progress(tensors: Sequence[Any], **_: Any) -> Iterator[Any]:
        """Iterate over the tensors and report the progress.

        Args:
            tensors: Tensors of the file.
            **_: Arguments of a progress bar; unused.

        Yields:
            The tensors.
        """
        parameters = sum(int(tensor.n_elements) for tensor in tensors)
        require_memory(parameters * CONVERTING_BYTES, name, torch.device("cpu"))
        total, done = sum(int(tensor.n_bytes) for tensor in tensors), 0
        for tensor in tensors:
            watch.check()
            watch.report(done, total, say("Converting {file}", file=name))
            yield tensor
            done += int(tensor.n_bytes)

    bar = reading.tqdm
    reading.tqdm = report_progress
    try:
        yield
    finally:
        reading.tqdm = bar


def _read(file: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
        return model, AutoTokenizer.from_pretrained(file.parent, **source)
    except (Cancelled, DoesNotFit):
        raise
    except Exception as error:
        words = later(
            "The GGUF file {file} cannot be read as a language model ({fault}): it is damaged, or of a type that the "
            "installed transformers cannot read. Choose another model."
        )
        raise ModelError(say(words, file=file, fault=cause(error))) from error


def _set_special_tokens(tokenizer: Any, file: Path) -> None:
    """Set a tokenizer's special tokens to those in the file; some versions of transformers choose others."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    for name, key in SPECIAL_TOKENS.items():
        field = reader.get_field(f"tokenizer.ggml.{key}_token_id")
        if field is not None and 0 <= int(field.contents()) < len(tokenizer):
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(int(field.contents())))


def _unquantised(quantised: Any) -> Any:
    """Return a bfloat16 model with the weights of `quantised`, because models read from GGUF files cannot be saved."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    described = {key: value for key, value in quantised.config.to_dict().items() if key != "quantization_config"}
    config = AutoConfig.for_model(**described)
    config.architectures = [type(quantised).__name__]
    with torch.device("meta"):  # skip initialisation
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in quantised.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    model.generation_config = quantised.generation_config
    return model
