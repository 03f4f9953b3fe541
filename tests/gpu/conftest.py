"""Tests that need a CUDA GPU; without one they are skipped with a reason."""

from __future__ import annotations

import pytest
import torch

from neftune_core.bench.noise import Size, random_model
from neftune_core.models.loading import LoadedModel


@pytest.fixture(autouse=True)
def _needs_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU here")


SMALL = Size(vocabulary=200, width=64, inner=128, layers=2, heads=4, key_value_heads=2)


@pytest.fixture
def on_gpu(_needs_gpu: None) -> LoadedModel:
    """Return a small random Llama on the GPU, in its fast precision."""
    return random_model(SMALL, torch.device("cuda:0"))


@pytest.fixture
def in_float32(_needs_gpu: None) -> LoadedModel:
    """Return the model on the GPU in float32."""
    return random_model(SMALL, torch.device("cuda:0"), "float32")


@pytest.fixture
def in_float16(_needs_gpu: None) -> LoadedModel:
    """Return the model on the GPU in float16, as on cards without bfloat16."""
    return random_model(SMALL, torch.device("cuda:0"), "float16")
