"""Fixtures that the tests of models share."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_folders import copied_standin

from neftune_core.models.sources import resolve


@pytest.fixture
def standin_bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_models: None) -> None:
    """Forget the loaded models, and make the stand-in the bundled model."""
    copied_standin(tmp_path / "assets" / "model")
    monkeypatch.setattr(resolve, "assets", lambda: tmp_path / "assets")
