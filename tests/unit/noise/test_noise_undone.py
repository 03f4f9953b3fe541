"""Cleanup after noise on a live model however its block ends, and models that are refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from live_noise import ALPHA5, BATCH, IDS, LABELS, MASK, noise_at, site_of
from transformers import LlamaConfig, LlamaForCausalLM

from neftune_core import NoiseSettings, noisy_embeddings
from neftune_core.errors import NoEffect
from neftune_core.noise.sites import noise_sites
from tests.stress.families.tiny import FAMILIES


def _hooks(model: torch.nn.Module) -> list[int]:
    return [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def _interrupted(model: Any) -> None:
    with pytest.raises(KeyboardInterrupt), noisy_embeddings(model, ALPHA5):
        model(**BATCH)
        raise KeyboardInterrupt


def _failed_in_the_pass(model: Any) -> None:
    with pytest.raises((IndexError, RuntimeError)), noisy_embeddings(model, ALPHA5):
        model(input_ids=torch.tensor([[10_000]]))


def _closed_generator(model: Any) -> None:
    def steps() -> Iterator[Any]:
        with noisy_embeddings(model, ALPHA5):
            while True:
                yield model(**BATCH).logits

    running = steps()
    next(running)
    running.close()


@pytest.mark.parametrize("leave", [_interrupted, _failed_in_the_pass, _closed_generator])
def test_nothing_is_left_however_the_block_ends(model: Any, leave: Any) -> None:
    hooks, keys = _hooks(model), list(model.state_dict())
    clean = model(**BATCH).logits
    leave(model)
    assert _hooks(model) == hooks
    assert list(model.state_dict()) == keys
    assert all(module.training for module in model.modules())
    assert torch.equal(model(**BATCH).logits, clean)


def test_a_call_after_one_that_was_interrupted_is_read_again(model: Any) -> None:
    whole = noise_at(model, ALPHA5, BATCH, calls=2)[1]

    def interrupt(module: Any, args: Any) -> None:
        raise KeyboardInterrupt

    seen: list[torch.Tensor] = []
    clean = site_of(model)(IDS).detach()
    with noisy_embeddings(model, ALPHA5):
        handle = model.model.layers[0].register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            model(input_ids=IDS[:1], attention_mask=MASK[:1])
        handle.remove()
        site_of(model).register_forward_hook(lambda module, args, output: seen.append(output.detach() - clean))
        model(**BATCH)
    assert torch.equal(seen[0], whole)


def test_the_state_dict_has_nothing_of_it(model: Any) -> None:
    keys = list(model.state_dict())
    with noisy_embeddings(model, ALPHA5):
        model(**BATCH)
        assert list(model.state_dict()) == keys


def test_no_noise_puts_nothing_on_the_model(model: Any) -> None:
    hooks = _hooks(model)
    with noisy_embeddings(model, NoiseSettings(strength=0, kind="adversarial")):
        assert _hooks(model) == hooks


def test_a_copy_made_inside_is_clean(model: Any) -> None:
    clean = model(**BATCH).logits
    with noisy_embeddings(model, ALPHA5):
        model(**BATCH)
        copied = copy.deepcopy(model)
        assert torch.equal(copied(**BATCH).logits, clean)
        assert not torch.equal(model(**BATCH).logits, clean)
    assert torch.equal(copied(**BATCH).logits, clean)


def test_a_tied_head_sees_clean_weights(model: Any) -> None:
    weight, seen = model.lm_head.weight.detach().clone(), []
    model.lm_head.register_forward_pre_hook(lambda module, args: seen.append(module.weight.detach().clone()))
    with noisy_embeddings(model, ALPHA5):
        model(**BATCH)
        assert model.lm_head.weight is model.get_input_embeddings().weight
    assert all(torch.equal(found, weight) for found in seen)


@pytest.mark.parametrize("name", ["Llama", "T5"])
def test_noise_works_under_peft(name: str) -> None:
    from peft import LoraConfig, get_peft_model

    model = FAMILIES[name].build()
    module = noise_sites(model)[0].module
    plain = noise_at(model.train(), ALPHA5, {**BATCH, "labels": LABELS}, module=module)[0]
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q", "q_proj"])).train()
    assert torch.equal(noise_at(wrapped, ALPHA5, {**BATCH, "labels": LABELS}, module=module)[0], plain)


def test_virtual_tokens_of_prompt_tuning_get_no_noise_at_the_embedding(model: Any) -> None:
    from peft import PromptTuningConfig, get_peft_model

    plain = noise_at(model, ALPHA5, BATCH)[0]
    wrapped = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)).train()
    assert torch.equal(noise_at(wrapped, ALPHA5, BATCH, module=site_of(model))[0], plain)


def test_a_model_that_never_calls_its_embedding_is_refused(model: Any) -> None:
    unused = torch.nn.Embedding(50, 32)
    model.get_input_embeddings = lambda: unused
    with pytest.raises(NoEffect, match="Noise on the embedding of the decoder would not reach the output of llama"):
        noisy_embeddings(model, ALPHA5).__enter__()
    assert all(module.training for module in model.modules())


def test_a_model_without_an_embedding_is_refused() -> None:
    bare = torch.nn.Linear(2, 2)
    with pytest.raises(NoEffect, match="No stack of layers was found in the model"), noisy_embeddings(bare, ALPHA5):
        pass


def test_a_call_that_gives_vectors_is_refused(model: Any) -> None:
    vectors = site_of(model)(IDS).detach()
    with noisy_embeddings(model, ALPHA5), pytest.raises(NoEffect, match="pass input_ids"):
        model(inputs_embeds=vectors, attention_mask=MASK)


def test_copies_of_data_parallelism_in_threads_are_refused(model: Any) -> None:
    with noisy_embeddings(model, ALPHA5), pytest.raises(NoEffect, match="DataParallel"):
        model._replicate_for_data_parallel()(**BATCH)


def test_token_dropout_of_every_token_keeps_the_gradient_of_a_deep_model_finite() -> None:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=30,
        num_attention_heads=2,
        rms_norm_eps=1e-6,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    ids = torch.arange(12).view(1, 12)
    noise = NoiseSettings(kind="token-dropout", unit="share", strength=1)
    with noisy_embeddings(model.train(), noise):
        model(input_ids=ids, labels=ids).loss.backward()
    assert all(bool(torch.as_tensor(parameter.grad).isfinite().all()) for parameter in model.parameters())
