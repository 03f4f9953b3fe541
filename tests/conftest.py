"""What all tests share: a home of their own, and a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from neftune_core.models.threads import prepare_waiting

prepare_waiting()  # before torch is imported

import torch  # noqa: E402
from tiny import loaded_tiny  # noqa: E402

from neftune_core.models.loading import LoadedModel  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the person's own records."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEFTUNE_HOME", str(folder))
        yield folder


@pytest.fixture
def tiny() -> LoadedModel:
    """A random Llama of two layers, float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return loaded_tiny(LlamaForCausalLM(config), width=32)
