"""Models as folders, which several tests load, and their settings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from neftune_core.models.settings import ModelSettings
from tests.standin import standin


def float32(source: str | Path, **more: str) -> ModelSettings:
    """Return the settings of a model in float32 on the processor."""
    return ModelSettings(source=str(source), precision="float32", device="cpu", **more)


def saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Save a model with its tokenizer, and return the folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def copied_standin(folder: Path) -> Path:
    """Copy the stand-in into a new folder, to be changed or damaged."""
    return Path(shutil.copytree(standin(), folder))
