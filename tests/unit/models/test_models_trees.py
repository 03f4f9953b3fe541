"""Private trees share tensors and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_models import FAMILIES, build

from neftune_core.models.loading import private_tree
from tests.weights import weights_hash

IDS = torch.tensor([[5, 9, 23, 7]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_a_private_tree_computes_the_same_from_the_same_tensors(family: str) -> None:
    model = build(family)
    tree = private_tree(model)
    assert torch.equal(logits(tree), logits(model))
    ours, theirs = dict(tree.named_parameters()), dict(model.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    assert all(mine is yours for mine, yours in zip(tree.buffers(), model.buffers(), strict=True))
    assert not {id(module) for module in tree.modules()} & {id(module) for module in model.modules()}


def test_hooks_replaced_modules_and_attributes_never_reach_the_original() -> None:
    model = build("llama")
    before, clean = weights_hash(model), logits(model)
    tree = private_tree(model)
    tree.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output + 1)
    tree.model.layers[0].mlp = torch.nn.Identity()
    tree.model.layers[1].self_attn.scaling = 7.0
    tree.config.attention_dropout = 0.9
    assert not torch.equal(logits(tree), clean)
    assert torch.equal(logits(model), clean)
    assert weights_hash(model) == before
    assert model.config.attention_dropout == 0


def test_a_private_tree_takes_no_hooks_with_it() -> None:
    model = build("llama")
    clean = logits(model)
    handle = model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output + 1)
    tree = private_tree(model)
    assert torch.equal(logits(tree), clean)
    handle.remove()


def test_tied_weights_stay_tied() -> None:
    model = build("llama", tie_word_embeddings=True)
    tree = private_tree(model)
    assert tree.lm_head.weight is tree.model.embed_tokens.weight is model.lm_head.weight


def test_hidden_states_are_collected_in_a_tree_of_a_model_that_collected_them() -> None:
    model = build("llama")
    model(input_ids=IDS, output_hidden_states=True)  # transformers now has hooks of its own on it
    assert len(private_tree(model)(input_ids=IDS, output_hidden_states=True).hidden_states) == 3


def test_the_hash_sees_one_changed_bit_and_only_changes() -> None:
    model = build("llama")
    before = weights_hash(model)
    assert weights_hash(build("llama")) == before == weights_hash(private_tree(model))
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-3
    assert weights_hash(model) != before


def test_bfloat16_weights_have_a_hash() -> None:
    model = build("llama").to(torch.bfloat16)
    assert weights_hash(model) != weights_hash(build("llama"))
