"""The parts of models of each family, on tiny random models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from random_models import FAMILIES, LLAMA_LIKE, build
from transformers import pytorch_utils

from neftune_core.errors import ModelError
from neftune_core.models.architecture.anatomy import (
    all_layers,
    body,
    first_position,
    head_logits,
    head_matches,
    leave_out,
    linear_maps,
    reads_ahead,
    set_model_dropout,
)
from neftune_core.models.architecture.module_trees import private_tree
from neftune_core.models.architecture.trials import has_gradient, keeps_rows_separate, require_supported, unreached_maps
from tests.stress.families.engine import loaded_family
from tests.stress.families.tiny import FAMILIES as TINY


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_on_the_body_gives_the_model_s_own_logits(family: str) -> None:
    model = build(family)
    ids = torch.tensor([[5, 9, 23, 7], [4, 4, 31, 50]])
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        parts = head_logits(model, body(model)(input_ids=ids).last_hidden_state)
    torch.testing.assert_close(parts, whole)
    assert head_matches(model)


@pytest.mark.parametrize("family", TINY)
def test_every_family_is_known_by_running_it(family: str) -> None:
    model = loaded_family(TINY[family]).model
    assert head_matches(model)
    assert not reads_ahead(model)
    assert first_position(model) == (2 if family == "RoBERTa" else 0)


def test_a_head_without_its_bias_is_noticed() -> None:
    model = loaded_family(TINY["BART"]).model
    model.final_logits_bias.fill_(3.0)
    assert head_matches(model)
    parts = head_logits(model, torch.zeros(1, 1, 32))
    model.final_logits_bias.zero_()
    assert torch.equal(parts, head_logits(model, torch.zeros(1, 1, 32)) + 3.0)


def test_an_encoder_that_is_not_run_as_a_decoder_reads_ahead() -> None:
    config = TINY["BERT"].build().config
    config.is_decoder = False
    assert reads_ahead(transformers.BertLMHeadModel(config).eval())


@pytest.mark.parametrize("family", [name for name, tiny in TINY.items() if tiny.encoder_decoder])
def test_an_encoder_decoder_gives_the_maps_of_both_parts_and_of_the_attention_between_them(family: str) -> None:
    model = TINY[family].build()
    assert body(model) is model.get_decoder()
    assert len(all_layers(model)) == 4
    every, attention = set(linear_maps(model, "all")), set(linear_maps(model, "attention"))
    for part, count in (("encoder", 4), ("decoder", 8)):  # the decoder's layers attend to themselves and to the encoder
        inside = {name for name in attention if part in name.split(".")}
        assert len(inside) == 2 * count
    assert attention < every
    heads = model.get_output_embeddings()
    assert not any(module is heads for name, module in model.named_modules() if name in every)


def test_a_head_that_does_more_than_is_known_is_noticed() -> None:
    model = build("llama")
    forward = model.forward

    def biased(**inputs: Any) -> Any:
        output = forward(**inputs)
        output.logits = output.logits + 1
        return output

    model.forward = biased
    assert not head_matches(model)


def test_checking_the_head_leaves_the_training_mode_as_it_was() -> None:
    model = build("llama").train()
    head_matches(model)
    assert model.training


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_gives_its_linear_maps_and_nothing_else_does(family: str) -> None:
    model = build(family)
    _, _, every, attention = FAMILIES[family]
    layers = all_layers(model)
    assert len(layers) == 2
    inside = {id(module) for layer in layers for module in layer.modules()}
    modules = dict(model.named_modules())
    for targets, count in (("all", every), ("attention", attention)):
        names = linear_maps(model, targets)
        assert len(names) == len(set(names)) == 2 * count
        assert all(isinstance(modules[name], torch.nn.Linear | pytorch_utils.Conv1D) for name in names)
        assert all(id(modules[name]) in inside for name in names)
    assert set(linear_maps(model, "attention")) < set(linear_maps(model, "all"))


def test_the_attention_is_what_mixes_tokens() -> None:
    names = {name.rpartition(".")[2] for name in linear_maps(build("gpt2"), "attention")}
    assert names == {"c_attn", "c_proj"}
    assert all(".attn." in name for name in linear_maps(build("gpt2"), "attention"))


def test_a_model_without_layers_is_refused_with_a_sentence() -> None:
    bare = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match="The structure of the model is not supported"):
        body(bare)


DROPOUT = {
    "gpt2": {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
    "opt-125m": {"dropout": 0.5, "attention_dropout": 0.5, "layerdrop": 0.5},
    "gpt-neox": {"attention_dropout": 0.5, "hidden_dropout": 0.5},
    "llama": {"attention_dropout": 0.5},
}


@pytest.mark.parametrize("family", DROPOUT)
def test_without_dropout_training_mode_computes_what_evaluation_mode_does(family: str) -> None:
    model = build(family, **DROPOUT[family])
    ids = torch.tensor([[5, 9, 23, 7, 4, 4, 31, 50]])
    with torch.no_grad():
        clean = model(input_ids=ids).logits
        model.train()
        assert not torch.equal(model(input_ids=ids).logits, clean)  # the rates above are at work
        set_model_dropout(model, 0.0)
        assert all(torch.equal(model(input_ids=ids).logits, clean) for _ in range(5))


@pytest.mark.parametrize("family", DROPOUT)
def test_dropout_can_be_switched_on_in_a_model_that_has_none(family: str) -> None:
    model = build(family, **dict.fromkeys(DROPOUT[family], 0.0)).train()
    set_model_dropout(model, 0.5)
    ids = torch.tensor([[5, 9, 23, 7]])
    with torch.no_grad():
        assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("name", TINY)
def test_the_rows_of_a_batch_stay_apart_and_a_gradient_arrives_in_every_family(name: str) -> None:
    model = TINY[name].build()
    assert keeps_rows_separate(model)
    assert has_gradient(private_tree(model))


class _Changed(transformers.models.llama.modeling_llama.LlamaMLP):
    """The part of a layer that does something that the engine does not expect."""

    def __init__(self, config: Any, fault: str) -> None:
        super().__init__(config)
        self.fault = fault

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = super().forward(x)
        if self.fault == "mixes":
            return found + 9 * x.mean(0, keepdim=True)
        if self.fault == "writes":
            self.up_proj.weight.mul_(1)
            return found
        return torch.full_like(found, float("nan")) if self.training else found


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("mixes", "does not process the rows of a batch independently of each other"),
        ("writes", "changes its weights while it runs"),
        ("not a number", "passes no gradient to its embedding"),
    ],
)
def test_a_model_that_the_engine_would_be_wrong_about_is_refused(fault: str, words: str) -> None:
    config = transformers.LlamaConfig(**LLAMA_LIKE)
    model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    require_supported(model, "it", "float32")
    model.model.layers[1].mlp = _Changed(config, fault).requires_grad_(False)
    with pytest.raises(ModelError, match=words):
        require_supported(model, "it", "float32")


def test_a_map_that_reads_time_first_or_is_never_called_is_found() -> None:
    longformer = transformers.LEDConfig(
        vocab_size=64,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        attention_window=4,
        max_encoder_position_embeddings=64,
        max_decoder_position_embeddings=64,
    )
    torch.manual_seed(0)
    led = transformers.LEDForConditionalGeneration(longformer).eval()
    set_model_dropout(led, 0.0)  # as the loader does: dropout would make every map look unreached
    found = unreached_maps(led)
    assert found and all("longformer_self_attn" in name for name in found)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA_LIKE))
    model.model.layers[0].unused = torch.nn.Linear(32, 32)
    assert unreached_maps(model) == ["model.layers.0.unused"]
    leave_out(model, unreached_maps(model))
    assert "model.layers.0.unused" not in linear_maps(private_tree(model), "all")
