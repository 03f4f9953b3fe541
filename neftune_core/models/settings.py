"""Settings of the model: source, precision and device."""

from __future__ import annotations

from neftune_core.settings import Settings, setting

BUNDLED = "bundled"

PRECISIONS = {"auto": "Fastest on this machine", "float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}


class ModelSettings(Settings):
    """Source, revision, precision and device of the model."""

    source: str = setting(BUNDLED, label="Model", max_length=1000)
    """A name in the catalogue (such as bundled), OWNER/NAME on the Hugging Face Hub, ms:OWNER/NAME on ModelScope, a
    folder, or a GGUF file."""
    revision: str = setting("", max_length=200)
    """Branch, tag or commit on the hub; if empty, the pinned revision or the main branch."""
    precision: str = setting("auto", choices=PRECISIONS)
    """Number format of the frozen weights."""
    device: str = setting("auto", max_length=20)
    """Where the model runs: auto, cpu, cuda, cuda:1 (the second GPU) or mps. auto uses NEFTUNE_DEVICE if it is set."""
