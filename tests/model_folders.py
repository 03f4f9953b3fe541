"""Model folders that several tests share, and their settings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from neftune_core.models.settings import ModelSettings
from tests.standin import standin


def float32(source: str | Path, **more: str) -> ModelSettings:
    """Return settings that load a model in float32 on the CPU."""
    return ModelSettings(source=str(source), precision="float32", device="cpu", **more)


def saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Save a model with its tokenizer, and return the folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def copied_standin(folder: Path) -> Path:
    """Copy the stand-in model into a new folder that the test may modify."""
    return Path(shutil.copytree(standin(), folder))
