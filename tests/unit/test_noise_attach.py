"""Noise on a live model: where it is, where it is not, and what is left afterwards."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from neftune_core import NoiseSettings, noisy_embeddings
from neftune_core.errors import InvalidSetting, NoEffect


@pytest.fixture
def model() -> LlamaForCausalLM:
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
    return LlamaForCausalLM(config)


IDS = torch.tensor([[5, 6, 7, 8, 9, 0, 0, 0], [0, 0, 5, 6, 7, 8, 9, 10]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1]])


def _embedded(model: LlamaForCausalLM) -> torch.Tensor:
    """What the layers see, caught at the first one."""
    seen = []
    handle = model.model.layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(args[0]), with_kwargs=True
    )
    try:
        model(input_ids=IDS, attention_mask=MASK)
    finally:
        handle.remove()
    return seen[0].detach()


def test_noise_reaches_true_tokens_only_and_is_bounded_by_their_length(model: LlamaForCausalLM) -> None:
    clean = model.get_input_embeddings()(IDS).detach()
    model.train()
    with noisy_embeddings(model, NoiseSettings(strength=5)):
        difference = _embedded(model) - clean
    assert torch.equal(difference[MASK == 0], torch.zeros_like(difference[MASK == 0]))
    for row, length in enumerate([5, 6]):
        bound = 5 / math.sqrt(length * 32)
        largest = difference[row].abs().max()
        assert 0.9 * bound < largest <= bound * (1 + 1e-5)  # float32 rounding of the sum


def test_evaluation_is_clean_and_each_training_call_draws_anew(model: LlamaForCausalLM) -> None:
    clean = model.get_input_embeddings()(IDS).detach()
    with noisy_embeddings(model, NoiseSettings(strength=5)):
        model.eval()
        assert torch.equal(_embedded(model), clean)
        model.train()
        assert not torch.equal(_embedded(model), _embedded(model))


def test_the_same_seed_gives_the_same_draws_and_the_global_generator_is_untouched(model: LlamaForCausalLM) -> None:
    model.train()
    before = torch.get_rng_state()
    draws = []
    for seed in (3, 3, 4):
        with noisy_embeddings(model, NoiseSettings(strength=5, kind="gaussian"), seed=seed):
            draws.append(_embedded(model))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(before, torch.get_rng_state())


def test_nothing_is_left_after_an_exception(model: LlamaForCausalLM) -> None:
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    keys = set(model.state_dict())
    model.train()
    with pytest.raises(KeyboardInterrupt), noisy_embeddings(model, NoiseSettings(strength=5)):
        assert set(model.state_dict()) == keys
        raise KeyboardInterrupt
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert all(module.training for module in model.modules())


def test_a_tied_head_sees_clean_weights(model: LlamaForCausalLM) -> None:
    model.train()
    weight = model.lm_head.weight.detach().clone()
    with noisy_embeddings(model, NoiseSettings(strength=5)):
        model(input_ids=IDS, attention_mask=MASK)
        assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
        assert torch.equal(model.lm_head.weight, weight)


def test_noise_works_under_peft(model: LlamaForCausalLM) -> None:
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    clean = model.get_input_embeddings()(IDS).detach()
    wrapped.train()
    with noisy_embeddings(wrapped, NoiseSettings(strength=5)):
        difference = _embedded(wrapped.base_model.model) - clean
    assert difference.abs().max() > 0
    assert torch.equal(difference[MASK == 0], torch.zeros_like(difference[MASK == 0]))


def test_a_model_that_never_calls_its_embedding_is_refused(model: LlamaForCausalLM) -> None:
    unused = torch.nn.Embedding(50, 32)
    model.get_input_embeddings = lambda: unused
    with (
        pytest.raises(NoEffect, match="would not reach the output"),
        noisy_embeddings(model, NoiseSettings(strength=5)),
    ):
        pass


def test_packed_documents_are_scaled_by_their_own_length(model: LlamaForCausalLM) -> None:
    ids = torch.arange(40)[None] % 40 + 5
    positions = torch.cat([torch.arange(4), torch.arange(36)])[None]
    seen: list[torch.Tensor] = []
    model.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    model.train()
    with noisy_embeddings(model, NoiseSettings(strength=5)):
        seen.clear()
        model(input_ids=ids, position_ids=positions)
    noise = (seen[0] - model.get_input_embeddings()(ids)).detach()[0]
    for part, length in ((noise[:4], 4), (noise[4:], 36)):
        bound = 5 / math.sqrt(length * 32)
        assert 0.9 * bound < part.abs().max() <= bound * (1 + 1e-5)


def test_a_mask_that_tells_no_lengths_is_refused(model: LlamaForCausalLM) -> None:
    model.train()
    with noisy_embeddings(model, NoiseSettings(strength=5)), pytest.raises(NoEffect, match="cannot be read"):
        model(input_ids=IDS, attention_mask=torch.zeros(2, 1, 8, 8))


def test_a_negative_seed_gets_a_sentence(model: LlamaForCausalLM) -> None:
    model.train()
    with noisy_embeddings(model, NoiseSettings(strength=5), seed=-1), pytest.raises(InvalidSetting, match="negative"):
        model(input_ids=IDS)
