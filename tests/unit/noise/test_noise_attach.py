"""Noise on a live model: where it is added, and how strong it is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from live_noise import ALPHA5, BATCH, IDS, LABELS, LENGTHS, MASK, assert_bounded, noise_at, site_of

from neftune_core import NoiseSettings, noisy_embeddings
from neftune_core.errors import InvalidSetting, NoEffect
from neftune_core.noise.kinds import KINDS
from tests.stress.families.building import WIDTH
from tests.stress.families.tiny import FAMILIES

ONE_DRAW = sorted(name for name, kind in KINDS.items() if kind.passes == "one" and not kind.drops)


@pytest.mark.parametrize("positional", [False, True])
def test_noise_reaches_true_tokens_only_and_is_bounded_by_their_length(model: Any, positional: bool) -> None:
    wrapped = model
    if positional:
        wrapped = _Positional(model)
    noise = noise_at(wrapped, ALPHA5, BATCH, module=site_of(model))[0]
    assert torch.equal(noise[MASK == 0], torch.zeros_like(noise[MASK == 0]))
    for row, length in enumerate(LENGTHS):
        assert_bounded(noise[row], 5 / math.sqrt(length * WIDTH))


class _Positional(torch.nn.Module):
    """A wrapper like those of data-parallel training, which passes positional arguments."""

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
        site_of(model).weight[5:8] *= 50
    ids = torch.cat([torch.full((1, 100), 6), torch.full((1, 100), 20)])
    clean = site_of(model)(ids).detach()
    noise = noise_at(model, NoiseSettings(strength=0.5, unit="relative"), {"input_ids": ids})[0]
    for row in range(2):
        signal = float(clean[row].square().mean().sqrt())
        assert float(noise[row].std()) == pytest.approx(0.5 * signal, rel=0.05)  # 3,200 draws: error about 0.8%


def test_token_dropout_sets_a_share_of_the_true_tokens_to_zero(model: Any) -> None:
    ids = torch.full((64, 50), 7)
    mask = (torch.arange(50) < 40).long().expand(64, 50)
    settings = NoiseSettings(kind="token-dropout", unit="share", strength=0.3)
    clean = site_of(model)(ids).detach()
    noisy = clean + noise_at(model, settings, {"input_ids": ids, "attention_mask": mask})[0]
    dropped = (noisy == 0).all(-1)
    assert torch.equal(noisy[~dropped], clean[~dropped])
    assert not dropped[mask == 0].any()
    assert float(dropped[mask == 1].float().mean()) == pytest.approx(0.3, abs=0.05)  # 2,560 tokens: error 0.9%


@pytest.mark.parametrize("number", [1, 2])
def test_the_output_of_a_layer_can_be_noised_alone(model: Any, number: int) -> None:
    settings = NoiseSettings(strength=0.1, unit="relative", sites=str(number))
    noise = noise_at(model, settings, BATCH, module=site_of(model, number))[0]
    assert torch.equal(noise[MASK == 0], torch.zeros_like(noise[MASK == 0]))
    assert noise[MASK == 1].abs().min() > 0
    assert not noise_at(model, settings, BATCH)[0].any()


def test_sites_draw_different_noise(model: Any) -> None:
    settings = NoiseSettings(strength=1, unit="std", sites="embedding, 1-2")
    found = [noise_at(model, settings, BATCH, module=site_of(model, number))[0] for number in range(3)]
    for first, second in ((0, 1), (1, 2)):
        assert not torch.allclose(found[first], found[second], atol=0.1)


def test_a_layer_that_the_model_does_not_have_is_refused(model: Any) -> None:
    with pytest.raises(InvalidSetting, match="layer 3"), noisy_embeddings(model, NoiseSettings(sites="3")):
        pass


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
        pytest.raises(NoEffect, match="needs labels"),
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
        pytest.raises(InvalidSetting, match="The configuration of llama has no special token ids"),
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
        assert_bounded(noise[:4], 5 / math.sqrt(4 * WIDTH))
        assert_bounded(noise[4:], 5 / math.sqrt(36 * WIDTH))


def test_a_mask_with_a_hole_is_one_sequence(model: Any) -> None:
    mask = torch.tensor([[1, 1, 0, 0, 1, 1, 1, 1]])
    batch = {"input_ids": IDS[1:], "attention_mask": mask, "position_ids": torch.arange(8)[None]}
    noise = noise_at(model, ALPHA5, batch)[0]
    assert torch.equal(noise.abs().amax(-1) > 0, mask == 1)
    assert_bounded(noise, 5 / math.sqrt(6 * WIDTH))


def test_a_mask_without_lengths_is_refused(model: Any) -> None:
    with noisy_embeddings(model, ALPHA5), pytest.raises(NoEffect, match="cannot be read"):
        model(input_ids=IDS, attention_mask=torch.zeros(2, 1, 8, 8))


def test_each_part_is_scaled_by_its_own_length(pair: Any) -> None:
    labels = torch.tensor([[7, 8, 9, -100], [7, 8, -100, -100]])
    batch = {**BATCH, "labels": labels}
    encoder = noise_at(pair, ALPHA5, batch, module=site_of(pair, part="encoder"))[0]
    decoder = noise_at(pair, ALPHA5, batch, module=site_of(pair, part="decoder"))[0]
    assert not encoder[MASK == 0].any()
    assert not decoder[labels == -100].any()
    for row, lengths in enumerate(((5, 3), (6, 2))):
        assert_bounded(encoder[row], 5 / math.sqrt(lengths[0] * WIDTH))
        assert_bounded(decoder[row], 5 / math.sqrt(lengths[1] * WIDTH))


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
        part: bool(noise_at(pair, settings, batch, module=site_of(pair, part=part))[0].any())
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
    assert_bounded(encoder[0], 5 / math.sqrt(5 * WIDTH))
    assert_bounded(decoder[0], 5 / math.sqrt(3 * WIDTH))
    assert not torch.equal(encoder[1, 2:5] * math.sqrt(2), decoder[1])  # a different draw, not the same one scaled
