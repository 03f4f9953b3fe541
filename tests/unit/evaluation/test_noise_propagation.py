"""How far noise gets, measured in one batch, against a plain loop of single passes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neftune_core.errors import InvalidSetting, ModelError
from neftune_core.evaluation.noise_propagation import (
    ANSWER_TOKENS,
    CANDIDATES,
    DRAWS,
    Propagation,
    measure_propagation,
    payload,
)
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.kinds import draw_unit
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import Site, noise_sites
from neftune_core.noise.strength import standard_deviation
from tests.stress.families.engine import loaded_family
from tests.stress.families.tiny import FAMILIES
from tests.weights import weights_hash

IDS = [5, 9, 3, 17, 44, 8, 21]
STRENGTHS = [5.0, 60.0]
SEED = 3
ROUNDING = 2e-4  # float32 sums in a different order, through layers with large weights


@contextmanager
def noisy(model: Any, sites: list[Site], add: Any) -> Iterator[dict[int, Tensor]]:
    """Record the output of every site, after `add(site, vectors)`."""
    found: dict[int, Tensor] = {}
    places = {site.module: [other for other in sites if other.module is site.module] for site in sites}

    def after(module: Any, args: Any, output: Any) -> Any:
        site = places[module].pop(0)  # an encoder runs before its decoder
        vectors = add(site, output[0] if isinstance(output, tuple) else output)
        found[site.key] = vectors[0].clone()
        return (vectors, *output[1:]) if isinstance(output, tuple) else vectors

    handles = [module.register_forward_hook(after) for module in places]
    yield found
    for handle in handles:
        handle.remove()


def single_pass(loaded: LoadedModel, found: Propagation, strength: float, epoch: int) -> tuple[dict[int, Tensor], Any]:
    """The vectors at every site and the logits of one pass over one row, with uniform noise on the embeddings."""
    model = copy.deepcopy(loaded.model)
    sites = noise_sites(model)

    def add(site: Site, vectors: Tensor) -> Tensor:
        if site.number or not strength:
            return vectors
        length, width = vectors.shape[1:]
        unit = draw_unit("uniform", (SEED, epoch, 0, site.key), length, width)
        return vectors + torch.from_numpy(unit) * standard_deviation(strength, "alpha", length, width)

    inputs = {"input_ids": torch.tensor([IDS])}
    if loaded.encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([found.ids[len(IDS) :]])
    with torch.no_grad(), noisy(model, sites, add) as seen:
        logits = model(**inputs, use_cache=False).logits[0]
    return seen, torch.log_softmax(logits, -1)


@pytest.fixture
def plain(tiny: LoadedModel) -> LoadedModel:
    """The tiny model, with a tokenizer that has no special tokens."""
    names: Any = SimpleNamespace(pad_token_id=0, eos_token_id=None, all_special_ids=[])
    return replace(tiny, tokenizer=names)


def measured(loaded: LoadedModel, **settings: Any) -> Propagation:
    return measure_propagation(loaded, IDS, NoiseSettings(**settings), STRENGTHS, SEED)


@pytest.mark.parametrize("family", ["Llama", "GPT-2", "OPT-350m", "Granite", "BERT", "T5", "BART"])
def test_one_batch_measures_what_single_passes_do(family: str) -> None:
    loaded = loaded_family(FAMILIES[family])
    found = measured(loaded)
    sites = noise_sites(loaded.model)
    clean, clean_scores = single_pass(loaded, found, 0.0, 0)
    for index, strength in enumerate(STRENGTHS):
        for epoch in range(DRAWS):
            seen, scores = single_pass(loaded, found, strength, epoch)
            for place, site in enumerate(sites):
                before, after = clean[site.key], seen[site.key]
                own = slice(None) if len(before) == len(found.ids) else slice(len(IDS))
                own = slice(len(IDS), None) if loaded.encoder_decoder and site.part == "decoder" else own
                size = (after - before).norm(dim=-1) / before.norm(dim=-1)
                cosine = torch.cosine_similarity(after, before, dim=-1)
                assert found.depth.sizes[index, epoch, place, own] == pytest.approx(size, rel=ROUNDING, abs=1e-5)
                assert found.depth.cosines[index, epoch, place, own] == pytest.approx(cosine, rel=ROUNDING, abs=1e-5)
            divergence = (clean_scores.exp() * (clean_scores - scores)).sum(-1)
            entropy = -(scores.exp() * scores).sum(-1)
            assert found.predictions.divergences[index, epoch] == pytest.approx(divergence, rel=1e-3, abs=1e-4)
            assert found.predictions.entropies[index, epoch] == pytest.approx(entropy, rel=ROUNDING, abs=1e-4)
            kept = scores.argmax(-1) == clean_scores.argmax(-1)
            assert found.predictions.kept[index, epoch].tolist() == kept.tolist()
        _, scores = single_pass(loaded, found, strength, 0)
        same_candidates(found, index + 1, scores)
    same_candidates(found, 0, clean_scores)


def same_candidates(found: Propagation, row: int, scores: Tensor) -> None:
    chances, ids = scores.exp().topk(CANDIDATES)
    assert found.predictions.probabilities[row] == pytest.approx(chances, rel=1e-3, abs=1e-6)
    own = scores.exp().gather(1, torch.from_numpy(found.predictions.candidates[row]))
    assert own == pytest.approx(chances, rel=1e-3, abs=1e-6)  # the ids have these probabilities
    assert found.predictions.candidates[row][:, 0].tolist() == ids[:, 0].tolist()


def test_an_encoder_decoder_is_asked_about_its_own_answer() -> None:
    loaded = loaded_family(FAMILIES["T5"])
    found = measured(loaded)
    answer = found.ids[len(IDS) :]
    assert found.ids[: len(IDS)] == IDS
    assert found.predictions.first == len(IDS)
    written = loaded.model.generate(torch.tensor([IDS]), max_new_tokens=ANSWER_TOKENS - 1, do_sample=False)[0].tolist()
    assert answer == written[: len(answer)]
    encoder = [place for place, layer in enumerate(found.depth.layers) if layer.part == "encoder"]
    decoder = [place for place, layer in enumerate(found.depth.layers) if layer.part == "decoder"]
    assert [found.depth.layers[place].number for place in decoder] == list(range(len(decoder)))
    assert np.isnan(found.depth.sizes[:, :, encoder, len(IDS) :]).all()
    assert np.isnan(found.depth.sizes[:, :, decoder, : len(IDS)]).all()


@pytest.mark.parametrize(("tokens", "noisy", "clean"), [("prompt", 0, 3), ("response", 3, 0)])
def test_prompt_and_response_are_the_parts_of_an_encoder_decoder(tokens: str, noisy: int, clean: int) -> None:
    found = measured(loaded_family(FAMILIES["BART"]), tokens=tokens)
    assert [layer.number for layer in found.depth.layers] == [0, 1, 2, 0, 1, 2]
    sizes = found.depth.sizes
    assert np.nanmin(sizes[:, :, noisy]) > 0.01
    assert np.nanmax(sizes[:, :, clean]) == 0  # the embeddings themselves


@pytest.mark.parametrize("tokens", ["prompt", "response"])
def test_a_sentence_of_a_causal_model_is_the_side_with_noise(plain: LoadedModel, tokens: str) -> None:
    assert (measured(plain, tokens=tokens).depth.sizes == measured(plain).depth.sizes).all()


def test_noise_on_a_layer_leaves_what_is_before_it_clean(plain: LoadedModel) -> None:
    found = measured(plain, sites="2", unit="relative")
    assert (found.depth.sizes[:, :, :2] < 1e-5).all()  # rows of one product may be rounded differently
    assert found.depth.sizes[:, :, 2] == pytest.approx(
        np.broadcast_to(np.array(STRENGTHS)[:, None, None], found.depth.sizes[:, :, 2].shape), rel=0.6
    )
    with pytest.raises(InvalidSetting, match="layer 9"):
        measured(plain, sites="9")


def test_tables_of_embeddings_per_layer_are_not_among_the_layers() -> None:
    depth = measured(loaded_family(FAMILIES["Gemma 4"])).depth
    assert [layer.number for layer in depth.layers] == list(range(len(depth.layers)))
    assert np.nanmin(depth.sizes) > 0
    tables = measured(loaded_family(FAMILIES["Gemma 4"]), sites="tables", unit="relative").depth
    assert np.nanmax(tables.sizes[:, :, 0]) < 1e-5
    assert np.nanmin(tables.sizes[:, :, -1]) > 0


def test_special_tokens_without_noise_are_untouched_at_the_embedding(plain: LoadedModel) -> None:
    plain.tokenizer.all_special_ids = [IDS[0]]
    sizes = measured(plain, special_tokens=False).depth.sizes
    assert (sizes[:, :, 0, 0] == 0).all()
    assert (sizes[:, :, 0, 1:] > 0).all()


def test_a_dropped_token_has_no_direction(plain: LoadedModel) -> None:
    noise = NoiseSettings(kind="token-dropout", unit="share", strength=0.5)
    depth = measure_propagation(plain, IDS, noise, [1.0]).depth
    assert (depth.sizes[0, :, 0, 1:] == 1).all()
    assert np.isnan(depth.cosines[0, :, 0, 1:]).all()
    assert (depth.sizes[0, :, 0, 0] == 0).all()  # the first token stays


def test_draws_are_those_of_a_study_in_its_first_epochs(plain: LoadedModel) -> None:
    again = [measure_propagation(plain, IDS, NoiseSettings(), STRENGTHS, seed) for seed in (0, 0, 1)]
    assert (again[0].depth.sizes == again[1].depth.sizes).all()
    assert (again[0].depth.sizes != again[2].depth.sizes).any()
    first = measure_propagation(plain, IDS, NoiseSettings(schedule="linear"), STRENGTHS, 0)
    assert (first.depth.sizes == again[0].depth.sizes).all()


def test_a_layer_without_one_vector_per_token_is_refused(plain: LoadedModel) -> None:
    layer = plain.model.model.layers[1]
    whole = layer.forward
    layer.forward = lambda *args, **named: whole(*args, **named)[:, :-1]
    with pytest.raises(ModelError, match="one vector per token"):
        measured(plain)


def test_the_model_is_as_it_was(plain: LoadedModel) -> None:
    before = weights_hash(plain.model)
    measured(plain)
    assert weights_hash(plain.model) == before
    assert not any(module._forward_hooks for module in plain.model.modules())


def test_the_payload_averages_over_draws_and_is_json(plain: LoadedModel) -> None:
    found = measured(plain)
    sent = json.loads(json.dumps(payload(found, [str(number) for number in IDS], str), allow_nan=False))
    assert np.array(sent["depth"]["sizes"]) == pytest.approx(found.depth.sizes.mean(1), rel=1e-3)  # four digits
    by_draw = found.depth.sizes.mean(3)
    for name, value in (("mean", by_draw.mean(1)), ("low", by_draw.min(1)), ("high", by_draw.max(1))):
        assert np.array(sent["depth"]["lines"]["sizes"][name]) == pytest.approx(value, rel=1e-3)
    place, rank = 4, 2
    flat = sent["next"]["candidates"][1][place]
    assert sent["next"]["words"][flat[2 * rank]] == str(found.predictions.candidates[1, place, rank])
    assert flat[2 * rank + 1] == pytest.approx(found.predictions.probabilities[1, place, rank], rel=1e-3)
    assert sent["next"]["kept"] == found.predictions.kept.sum(1).tolist()
