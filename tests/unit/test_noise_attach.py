"""Noise on a live model: where it is, where it is not, and what is left afterwards."""

from __future__ import annotations

import copy
import math
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM

from neftune_core import NoiseSettings, noisy_embeddings
from neftune_core.bench.tiny_families import FAMILIES, WIDTH
from neftune_core.errors import InvalidSetting, NoEffect
from neftune_core.noise.calls import Call
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.live import LiveNoise
from neftune_core.noise.sites import noise_sites

IDS = torch.tensor([[5, 6, 7, 8, 9, 0, 0, 0], [0, 0, 5, 6, 7, 8, 9, 10]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1]])
BATCH = {"input_ids": IDS, "attention_mask": MASK}
LENGTHS = (5, 6)
ONE_DRAW = sorted(name for name, kind in KINDS.items() if kind.passes == "one" and not kind.drops)
ALPHA5 = NoiseSettings(strength=5)


@pytest.fixture
def model() -> Any:
    return FAMILIES["Llama"].build().train()


@pytest.fixture
def pair() -> Any:
    return FAMILIES["T5"].build().train()


def _site(model: Any, number: int = 0, part: str = "decoder") -> torch.nn.Module:
    return next(site.module for site in noise_sites(model) if (site.number, site.part) == (number, part))


def noise_at(
    model: Any, settings: NoiseSettings, batch: dict[str, Any], *, module: Any = None, calls: int = 1, **options: Any
) -> list[torch.Tensor]:
    """What `noisy_embeddings` adds to the output of `module` in each of some calls, seen from before and after it."""
    module = _site(model) if module is None else module
    before: list[torch.Tensor] = []
    after: list[torch.Tensor] = []

    def note(seen: list[torch.Tensor]) -> Any:
        return lambda _, args, output: seen.append((output[0] if isinstance(output, tuple) else output).detach())

    first = module.register_forward_hook(note(before))
    try:
        with noisy_embeddings(model, settings, **options):
            last = module.register_forward_hook(note(after))
            before.clear()  # what the check for an effect let through
            for _ in range(calls):
                model(**batch)
            last.remove()
    finally:
        first.remove()
    return [noisy - clean for clean, noisy in zip(before, after, strict=True)]


def _assert_bounded(noise: torch.Tensor, bound: float) -> None:
    assert 0.8 * bound < noise.abs().max() <= bound * (1 + 1e-4)  # float32 rounding of the sum


# Where it is


@pytest.mark.parametrize("positional", [False, True])
def test_noise_reaches_true_tokens_only_and_is_bounded_by_their_length(model: Any, positional: bool) -> None:
    wrapped = model
    if positional:
        wrapped = _Positional(model)
    noise = noise_at(wrapped, ALPHA5, BATCH, module=_site(model))[0]
    assert torch.equal(noise[MASK == 0], torch.zeros_like(noise[MASK == 0]))
    for row, length in enumerate(LENGTHS):
        _assert_bounded(noise[row], 5 / math.sqrt(length * WIDTH))


class _Positional(torch.nn.Module):
    """A wrapper as data parallel training makes them, that gives its model positional arguments."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **others: Any) -> Any:
        return self.module(input_ids, attention_mask, **others)


@pytest.mark.parametrize("kind", ONE_DRAW)
def test_every_kind_of_one_draw_has_the_standard_deviation_of_the_settings(model: Any, kind: str) -> None:
    batch = {"input_ids": torch.randint(3, 250, (16, 100), generator=torch.Generator().manual_seed(0))}
    noise = noise_at(model, NoiseSettings(strength=0.02, unit="std", kind=kind), batch)[0]
    error = math.sqrt((KINDS[kind].kurtosis - 1) / noise.numel()) / 2  # of a standard deviation, relative
    assert float(noise.std()) == pytest.approx(0.02, rel=5 * error + 1e-4)  # float32 rounding of the sum


def test_relative_noise_goes_by_the_clean_vectors_of_each_sequence(model: Any) -> None:
    with torch.no_grad():
        _site(model).weight[5:8] *= 50
    ids = torch.cat([torch.full((1, 100), 6), torch.full((1, 100), 20)])
    clean = _site(model)(ids).detach()
    noise = noise_at(model, NoiseSettings(strength=0.5, unit="relative"), {"input_ids": ids})[0]
    for row in range(2):
        signal = float(clean[row].square().mean().sqrt())
        assert float(noise[row].std()) == pytest.approx(0.5 * signal, rel=0.05)  # 3,200 draws: error about 0.8 %


def test_token_dropout_sets_a_share_of_the_true_tokens_to_zero(model: Any) -> None:
    ids = torch.full((64, 50), 7)
    mask = (torch.arange(50) < 40).long().expand(64, 50)
    settings = NoiseSettings(kind="token-dropout", unit="share", strength=0.3)
    clean = _site(model)(ids).detach()
    noisy = clean + noise_at(model, settings, {"input_ids": ids, "attention_mask": mask})[0]
    dropped = (noisy == 0).all(-1)
    assert torch.equal(noisy[~dropped], clean[~dropped])
    assert not dropped[mask == 0].any()
    assert float(dropped[mask == 1].float().mean()) == pytest.approx(0.3, abs=0.05)  # 2,560 tokens: error 0.9 %


@pytest.mark.parametrize("number", [1, 2])
def test_the_output_of_a_layer_can_be_noised_alone(model: Any, number: int) -> None:
    settings = NoiseSettings(strength=0.1, unit="relative", sites=str(number))
    noise = noise_at(model, settings, BATCH, module=_site(model, number))[0]
    assert torch.equal(noise[MASK == 0], torch.zeros_like(noise[MASK == 0]))
    assert noise[MASK == 1].abs().min() > 0
    assert not noise_at(model, settings, BATCH)[0].any()


def test_sites_draw_different_noise(model: Any) -> None:
    settings = NoiseSettings(strength=1, unit="std", sites="embedding, 1-2")
    found = [noise_at(model, settings, BATCH, module=_site(model, number))[0] for number in range(3)]
    for first, second in ((0, 1), (1, 2)):
        assert not torch.allclose(found[first], found[second], atol=0.1)


def test_a_layer_that_the_model_does_not_have_is_refused(model: Any) -> None:
    with pytest.raises(InvalidSetting, match="layer 3"), noisy_embeddings(model, NoiseSettings(sites="3")):
        pass


# Which tokens

LABELS = torch.tensor([[-100, -100, 7, 8, 9, -100, -100, -100], [-100, -100, -100, 6, 7, 8, 9, 10]])


@pytest.mark.parametrize("side", ["prompt", "response"])
def test_noise_on_one_side_leaves_the_other_clean_and_keeps_the_draw(model: Any, side: str) -> None:
    both = noise_at(model, ALPHA5, {**BATCH, "labels": LABELS})[0]
    one = noise_at(model, NoiseSettings(strength=5, tokens=side), {**BATCH, "labels": LABELS})[0]
    chosen = (MASK == 1) & ((LABELS == -100) == (side == "prompt"))
    assert torch.equal(one, both * chosen[..., None])
    assert chosen.any()


def test_noise_on_one_side_needs_labels(model: Any) -> None:
    with (
        noisy_embeddings(model, NoiseSettings(strength=5, tokens="prompt")),
        pytest.raises(NoEffect, match="came without them"),
    ):
        model(**BATCH)


def test_special_tokens_can_be_left_out_and_the_length_stays(model: Any) -> None:
    ids = torch.tensor([[1, 7, 8, 9, 2, 7, 1, 2]])  # 1 and 2 begin and end a sequence
    noise = noise_at(model, NoiseSettings(strength=5, special_tokens=False), {"input_ids": ids})[0]
    every = noise_at(model, ALPHA5, {"input_ids": ids})[0]
    assert torch.equal(noise, every * (ids > 2)[..., None])


def test_special_tokens_of_a_model_that_names_none_cannot_be_left_out(model: Any) -> None:
    for name in ("bos", "eos", "pad"):
        for config in (model.config, model.generation_config):
            setattr(config, f"{name}_token_id", None)
    with (
        pytest.raises(InvalidSetting, match="names no special tokens"),
        noisy_embeddings(model, NoiseSettings(special_tokens=False)),
    ):
        pass


def test_packed_documents_are_scaled_by_their_own_length(model: Any) -> None:
    ids = torch.arange(40)[None] + 5
    marks = {
        "position_ids": torch.cat([torch.arange(4), torch.arange(36)])[None],
        "cu_seq_lens_q": torch.tensor([0, 4, 40], dtype=torch.int32),
    }
    for name, value in marks.items():
        noise = noise_at(model, ALPHA5, {"input_ids": ids, name: value})[0][0]
        _assert_bounded(noise[:4], 5 / math.sqrt(4 * WIDTH))
        _assert_bounded(noise[4:], 5 / math.sqrt(36 * WIDTH))


def test_a_mask_with_a_hole_is_one_sequence(model: Any) -> None:
    mask = torch.tensor([[1, 1, 0, 0, 1, 1, 1, 1]])
    batch = {"input_ids": IDS[1:], "attention_mask": mask, "position_ids": torch.arange(8)[None]}
    noise = noise_at(model, ALPHA5, batch)[0]
    assert torch.equal(noise.abs().amax(-1) > 0, mask == 1)
    _assert_bounded(noise, 5 / math.sqrt(6 * WIDTH))


def test_a_mask_that_tells_no_lengths_is_refused(model: Any) -> None:
    with noisy_embeddings(model, ALPHA5), pytest.raises(NoEffect, match="cannot be read"):
        model(input_ids=IDS, attention_mask=torch.zeros(2, 1, 8, 8))


# Encoder-decoders


def test_each_part_is_scaled_by_its_own_length(pair: Any) -> None:
    labels = torch.tensor([[7, 8, 9, -100], [7, 8, -100, -100]])
    batch = {**BATCH, "labels": labels}
    encoder = noise_at(pair, ALPHA5, batch, module=_site(pair, part="encoder"))[0]
    decoder = noise_at(pair, ALPHA5, batch, module=_site(pair, part="decoder"))[0]
    assert not encoder[MASK == 0].any()
    assert not decoder[labels == -100].any()
    for row, lengths in enumerate(((5, 3), (6, 2))):
        _assert_bounded(encoder[row], 5 / math.sqrt(lengths[0] * WIDTH))
        _assert_bounded(decoder[row], 5 / math.sqrt(lengths[1] * WIDTH))


def test_a_mask_of_the_decoder_goes_before_its_labels(pair: Any) -> None:
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    batch = {**BATCH, "labels": torch.full((2, 4), 7), "decoder_attention_mask": mask}
    noise = noise_at(pair, ALPHA5, batch)[0]
    assert torch.equal(noise.abs().amax(-1) > 0, mask == 1)
    without = noise_at(pair, ALPHA5, {**BATCH, "decoder_input_ids": IDS[:, :4]})[0]
    assert (without.abs().amax(-1) > 0).all()  # nothing says otherwise


@pytest.mark.parametrize("side", ["prompt", "response"])
def test_the_encoder_reads_the_prompt_and_the_decoder_writes_the_response(pair: Any, side: str) -> None:
    settings = NoiseSettings(strength=5, tokens=side)
    batch = {**BATCH, "labels": IDS[:, 2:5].contiguous()}
    reached = {
        part: bool(noise_at(pair, settings, batch, module=_site(pair, part=part))[0].any())
        for part in ("encoder", "decoder")
    }
    assert reached == {"encoder": side == "prompt", "decoder": side == "response"}


@pytest.mark.parametrize("name", ["T5", "BART", "Marian"])
def test_an_embedding_that_both_parts_share_knows_whose_pass_it_is(name: str) -> None:
    model = FAMILIES[name].build().train()
    model.set_input_embeddings(model.get_encoder().get_input_embeddings())
    model.get_decoder().embed_tokens = model.get_encoder().embed_tokens
    encoder, decoder = noise_at(
        model, ALPHA5, {**BATCH, "labels": IDS[:, 2:5].contiguous()}, module=model.get_encoder().embed_tokens
    )
    assert not encoder[MASK == 0].any()
    _assert_bounded(encoder[0], 5 / math.sqrt(5 * WIDTH))
    _assert_bounded(decoder[0], 5 / math.sqrt(3 * WIDTH))
    assert not torch.equal(encoder[1, 2:5] * math.sqrt(2), decoder[1])  # another draw, not the same scaled


# When


def test_evaluation_is_clean_and_each_training_call_draws_anew(model: Any) -> None:
    first, second = noise_at(model, ALPHA5, BATCH, calls=2)
    assert not torch.equal(first, second)
    model.eval()
    assert not noise_at(model, ALPHA5, BATCH)[0].any()


def test_the_same_seed_gives_the_same_draws_and_the_global_generators_are_untouched(model: Any) -> None:
    before = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    draws = [noise_at(model, NoiseSettings(kind="gaussian"), BATCH, seed=seed)[0] for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (str(np.random.get_state()), random.getstate())


def test_each_rank_draws_its_own(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        draws.append(noise_at(model, ALPHA5, BATCH)[0])
    assert not torch.equal(*draws)


def test_evaluation_between_training_calls_changes_no_draw(model: Any) -> None:
    whole = noise_at(model, ALPHA5, BATCH, calls=2)
    seen: list[torch.Tensor] = []
    clean = _site(model)(IDS).detach()
    with noisy_embeddings(model, ALPHA5):
        handle = _site(model).register_forward_hook(lambda module, args, output: seen.append(output.detach() - clean))
        for training in (True, False, True):
            model.train(training)(**BATCH)
        handle.remove()
    assert torch.equal(seen[0], whole[0])
    assert not seen[1].any()
    assert torch.equal(seen[2], whole[1])


def test_a_schedule_follows_the_training_calls_and_keeps_its_end(model: Any) -> None:
    settings = NoiseSettings(strength=1, unit="std", kind="bernoulli", schedule="linear")
    noises = _with_calls(model, settings, total=5, made=7)
    found = [float(noise[MASK == 1].abs().mean()) for noise in noises]
    assert found == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0, 0], abs=1e-6)


def _with_calls(model: Any, settings: NoiseSettings, *, total: int, made: int) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    clean = _site(model)(IDS).detach()
    with noisy_embeddings(model, settings, calls=total):
        handle = _site(model).register_forward_hook(lambda module, args, output: seen.append(output.detach() - clean))
        for _ in range(made):
            model(**BATCH)
        handle.remove()
    return seen


def test_token_dropout_of_equal_energy_spares_padding(model: Any) -> None:
    settings = NoiseSettings(kind="token-dropout", unit="share", strength=1, schedule="linear", equal_energy=True)
    first = _with_calls(model, settings, total=4, made=1)[0]
    dropped = MASK == 1
    dropped[[0, 1], [0, 2]] = False  # the first token of each row stays
    assert torch.equal(first.abs().amax(-1) > 0, dropped)


@pytest.mark.parametrize(
    ("settings", "calls", "words"),
    [
        (NoiseSettings(kind="symmetric"), None, "second pass"),
        (NoiseSettings(kind="adversarial"), None, "climb the loss"),
        (NoiseSettings(schedule="adaptive"), 10, "follows the loss"),
        (NoiseSettings(schedule="linear"), None, "how long the run is"),
        (NoiseSettings(schedule="linear"), 0, "how long the run is"),
    ],
)
def test_what_needs_more_than_the_call_is_refused_with_a_sentence(
    model: Any, settings: NoiseSettings, calls: int | None, words: str
) -> None:
    with pytest.raises(InvalidSetting, match=words) as caught, noisy_embeddings(model, settings, calls=calls):
        pass
    assert str(caught.value).endswith(".")


def test_a_negative_seed_gets_a_sentence(model: Any) -> None:
    with noisy_embeddings(model, ALPHA5, seed=-1), pytest.raises(InvalidSetting, match="negative"):
        model(input_ids=IDS)


# Numbers


def test_noise_on_bfloat16_is_added_in_float32_and_rounded_once(model: Any) -> None:
    model, seen = model.to(torch.bfloat16), {}
    for precision in (torch.float32, torch.bfloat16):
        model = model.to(precision)
        with noisy_embeddings(model, NoiseSettings(strength=0.01, unit="std")):
            handle = _site(model).register_forward_hook(
                lambda module, args, output, precision=precision: seen.update({precision: output.detach()})
            )
            model(**BATCH)
            handle.remove()
    assert seen[torch.bfloat16].dtype == torch.bfloat16
    assert torch.equal(seen[torch.bfloat16], seen[torch.float32].to(torch.bfloat16))


def test_vectors_of_float64_keep_their_precision(model: Any) -> None:
    noise = noise_at(model.double(), NoiseSettings(strength=1e-12, unit="std"), BATCH)[0]
    assert noise.dtype == torch.float64
    assert float(noise[MASK == 1].std()) == pytest.approx(1e-12, rel=0.1)  # 352 draws: error about 2 %


def test_noise_takes_no_more_memory_than_one_float32_tensor_of_the_vectors(model: Any) -> None:
    clean = torch.zeros(4, 512, 256)
    call = Call(number=1, paired=False)
    noise = LiveNoise(ALPHA5, (0, 0), multipliers=[1.0])
    noise.on(clean, noise_sites(model)[0], call)
    tracemalloc.start()
    noise.on(clean, noise_sites(model)[0], call)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.05 * clean.numel() * 4


# Gradient checkpointing: hooks in a recomputed block run twice


def _gradients(model: Any, settings: NoiseSettings, batches: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Two forward passes before one backward pass."""
    model.zero_grad()
    with noisy_embeddings(model, settings):
        torch.stack([model(**batch).loss for batch in batches]).sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def _run_layers_in_checkpoints(model: Any, *, reentrant: bool) -> None:
    """Checkpoint whole calls of the layers, their hooks within, as older versions of transformers do."""
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


# What is left


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


def test_a_call_after_one_that_was_broken_off_is_read_anew(model: Any) -> None:
    whole = noise_at(model, ALPHA5, BATCH, calls=2)[1]

    def interrupt(module: Any, args: Any) -> None:
        raise KeyboardInterrupt

    seen: list[torch.Tensor] = []
    clean = _site(model)(IDS).detach()
    with noisy_embeddings(model, ALPHA5):
        handle = model.model.layers[0].register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            model(input_ids=IDS[:1], attention_mask=MASK[:1])
        handle.remove()
        _site(model).register_forward_hook(lambda module, args, output: seen.append(output.detach() - clean))
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


# Whose model


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
    assert torch.equal(noise_at(wrapped, ALPHA5, BATCH, module=_site(model))[0], plain)


def test_a_model_that_never_calls_its_embedding_is_refused(model: Any) -> None:
    unused = torch.nn.Embedding(50, 32)
    model.get_input_embeddings = lambda: unused
    with pytest.raises(NoEffect, match="Noise on the Embedding of the decoder would not reach the output of Llama"):
        noisy_embeddings(model, ALPHA5).__enter__()
    assert all(module.training for module in model.modules())


def test_a_model_without_an_embedding_is_refused() -> None:
    with pytest.raises(NoEffect, match="Linear"), noisy_embeddings(torch.nn.Linear(2, 2), ALPHA5):
        pass


def test_a_call_that_gives_vectors_is_refused(model: Any) -> None:
    vectors = _site(model)(IDS).detach()
    with noisy_embeddings(model, ALPHA5), pytest.raises(NoEffect, match="give the model input_ids"):
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
