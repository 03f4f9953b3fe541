"""Noise on a live model with gradient checkpointing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from live_noise import BATCH, IDS, LABELS
from torch.utils.checkpoint import checkpoint

from neftune_core import NoiseSettings, noisy_embeddings
from neftune_core.errors import NoEffect


def _gradients(model: Any, settings: NoiseSettings, batches: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return the gradients of two forward passes before one backward pass."""
    model.zero_grad()
    with noisy_embeddings(model, settings):
        torch.stack([model(**batch).loss for batch in batches]).sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def _run_layers_in_checkpoints(model: Any, *, reentrant: bool) -> None:
    """Checkpoint whole layer calls including their hooks, like older versions of transformers."""
    for layer in model.model.layers:
        call = layer._call_impl

        def checkpointed(hidden: torch.Tensor, *, _layer: Any = layer, _call: Any = call, **kwargs: Any) -> Any:
            if not _layer.training:
                return _call(hidden, **kwargs)
            return checkpoint(lambda given: _call(given, **kwargs), hidden, use_reentrant=reentrant)

        layer._call_impl = checkpointed


TWO = [
    {**BATCH, "labels": LABELS, "use_cache": False},
    {"input_ids": IDS.flip(0), "labels": IDS.flip(0), "use_cache": False},
]


EVERYWHERE = NoiseSettings(strength=0.5, unit="relative", sites="embedding, 1-2")


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("whole_calls", [False, True])
def test_a_checkpointed_layer_gets_the_same_noise_when_it_is_recomputed(
    model: Any, reentrant: bool, whole_calls: bool
) -> None:
    plain = _gradients(copy.deepcopy(model), EVERYWHERE, TWO)
    if whole_calls:
        _run_layers_in_checkpoints(model, reentrant=reentrant)
    else:
        switch_on = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        switch_on({"use_reentrant": reentrant})
    recomputed = _gradients(model, EVERYWHERE, TWO)
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient)


def test_a_model_checkpointed_as_a_whole_gets_the_same_noise(model: Any) -> None:
    plain = _gradients(copy.deepcopy(model), EVERYWHERE, TWO[:1])
    model.zero_grad()
    with noisy_embeddings(model, EVERYWHERE):
        checkpoint(lambda ids: model(**{**TWO[0], "input_ids": ids}).loss, IDS, use_reentrant=False).backward()
    for name, gradient in plain.items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient)


def test_vectors_moved_before_the_recomputation_are_refused(model: Any) -> None:
    _run_layers_in_checkpoints(model, reentrant=True)
    copies: list[torch.Tensor] = []

    def unpack(packed: torch.Tensor) -> torch.Tensor:
        copies.append(packed.clone())
        return copies[-1]

    with (
        noisy_embeddings(model, EVERYWHERE),
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack),
        pytest.raises(NoEffect, match="were moved"),
    ):
        model(**TWO[0]).loss.backward()
    assert copies
