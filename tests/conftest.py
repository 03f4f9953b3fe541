"""Fixtures for all tests: a separate home folder and a tiny model."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neftune_core.models.threads import prepare_waiting

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process has one core
prepare_waiting()  # before torch is imported

import division  # noqa: E402
import torch  # noqa: E402
from tiny import loaded_tiny  # noqa: E402

from neftune_core.models.loading import LoadedModel  # noqa: E402


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler that runs tests with shared resources in one process."""
    return division.scheduler(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests, and start with the longest groups if there are several processes."""
    for item in items:
        if division.is_slow(item.nodeid):
            item.add_marker(pytest.mark.slow)
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: division.rank_of(item.nodeid))


@pytest.fixture(autouse=True, scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Set a temporary home folder, so that tests do not touch the user's records."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEFTUNE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="module")
def _small_heap() -> None:
    """Exclude objects that exist before a test module from garbage collection.

    The lab and the trainers collect garbage after every training. Traversing the objects of all libraries each time
    would take most of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def tiny() -> LoadedModel:
    """Return a random two-layer Llama in float32."""
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
