"""Families that people pick today, each from a saved folder: loaded, trained in two arms, asked, exported, merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from each_family import family_case
from packaging.version import Version
from tiny_tokenizers import bart_tokenizer

from neftune_core.data.preparing import prepare
from neftune_core.data.settings import DataSettings
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import TrainingSettings
from neftune_core.engine.stack import AdapterStack
from neftune_core.errors import InvalidSetting, ModelError, NoEffect
from neftune_core.models.architecture.anatomy import linear_maps
from neftune_core.models.architecture.caches import KEYS, NOTHING, STATES
from neftune_core.models.loading import LoadedModel, load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.attach import noisy_embeddings
from neftune_core.noise.batch import ArmNoise, BatchNoise, Rows
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import chosen_sites
from neftune_core.settings import Limits
from neftune_core.studies.settings import StudySettings
from tests.stress.families.engine import (
    ALPHA,
    PENALTY,
    RANK,
    answers_of,
    batch_of,
    generated,
    loaded_family,
    own_loss,
    prompts_of,
    stack_of,
)
from tests.stress.families.recent import PUBLISHED, RECENT
from tests.weights import weights_hash

FOLDERS = {**RECENT, **PUBLISHED}
ALSO_FAST = ("LFM2", *PUBLISHED)
"""Families whose test from a folder is fast although they are not representatives: a hybrid, and those as published."""
MEMORIES = {
    NOTHING: {"RecurrentGemma", "Mamba", "Falcon-Mamba", "RWKV", "xLSTM"},
    KEYS: {"Granite 4", "SmolLM3", "Ministral 3", "Qwen3-MoE", "Mixtral", "Ministral 3, as published"},
}


def folder_of(family: str, folder: Path) -> Path:
    """A tiny model as it is published: a folder with its weights and a tokenizer."""
    FOLDERS[family].build().save_pretrained(folder)
    bart_tokenizer().save_pretrained(folder)
    return folder


def loaded_from(family: str, folder: Path, precision: str = "float32") -> LoadedModel:
    return load(ModelSettings(source=str(folder_of(family, folder)), precision=precision, device="cpu"))


@pytest.mark.parametrize("family", [name if name in ALSO_FAST else family_case(name) for name in FOLDERS])
def test_a_family_from_a_folder_is_loaded_trained_in_two_arms_asked_exported_and_merged(
    family: str, tmp_path: Path
) -> None:
    loaded = loaded_from(family, tmp_path / "model")
    before = weights_hash(loaded.model)
    stack = _trained(loaded)
    answers = answers_of(stack, [0, 1], prompts_of(loaded)[:2], PENALTY)
    assert answers[0] == [generated(loaded.model, prompt, loaded, PENALTY) for prompt in prompts_of(loaded)[:2]]
    stack.save(2, tmp_path / "adapter")
    again = AdapterStack(loaded, 2, rank=RANK, alpha=ALPHA)
    again.load(2, tmp_path / "adapter")
    batch = batch_of(loaded)
    with torch.no_grad(), stack.running([2]) as tree:
        ours = own_loss(tree, batch)
    torch.testing.assert_close(
        _loss_under_peft(tmp_path / "model", tmp_path / "adapter", batch), ours, rtol=0, atol=1e-4
    )
    stack.merged(2).save_pretrained(tmp_path / "merged")
    bart_tokenizer().save_pretrained(tmp_path / "merged")
    merged = load(ModelSettings(source=str(tmp_path / "merged"), precision="float32", device="cpu"))
    with torch.no_grad():
        torch.testing.assert_close(own_loss(merged.model, batch), ours, rtol=0, atol=1e-4)
    assert weights_hash(loaded.model) == before


def _trained(loaded: LoadedModel) -> AdapterStack:
    """Two arms after a short study, in which their losses fall and differ."""
    study = StudySettings(
        model=ModelSettings(source=loaded.source, precision="float32", device="cpu"),
        data=DataSettings(source="starter:english-german", maximum_length=96, rows=12),
        training=TrainingSettings(epochs=1, batch_size=6, learning_rate=1e-2, evaluations=1),
        noise=(NoiseSettings(strength=5),),
    )
    prepared = prepare(study.data, loaded.tokenizer, Limits())
    stack = AdapterStack(loaded, len(study.arms), rank=RANK, alpha=ALPHA)
    events = list(Lockstep(study, stack, prepared).run(lambda: False))
    losses = [numbers["held_out_loss"] for numbers in events[-1]["arms"].values()]
    assert len(set(losses)) == len(losses) == 2
    return stack


def _loss_under_peft(folder: Path, adapter: Path, batch: Any) -> torch.Tensor:
    """The loss of the saved adapter on the model that the automatic classes of transformers give."""
    from peft import PeftModel

    config = transformers.AutoConfig.from_pretrained(folder)
    kinds = (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText)
    kind = next(kind for kind in kinds if type(config) in kind._model_mapping)
    base = kind.from_pretrained(folder, dtype=torch.float32).eval()
    if hasattr(base.config, "rescale_every"):
        base.config.rescale_every = 0
    with torch.no_grad():
        return own_loss(PeftModel.from_pretrained(base, adapter).eval(), batch)


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.23"), reason="earlier versions have other caches for some families"
)
@pytest.mark.parametrize("family", RECENT)
def test_what_a_family_remembers_is_found_by_running_it(family: str) -> None:
    expected = next((kind for kind, names in MEMORIES.items() if family in names), STATES)
    assert loaded_family(RECENT[family]).memory == expected


@pytest.mark.parametrize("family", ["Granite 4-H", "Qwen3.5", "RecurrentGemma", "LFM2"])
def test_an_answer_is_the_same_alone_and_beside_rows_that_end_earlier(family: str) -> None:
    loaded = loaded_family(RECENT[family])
    stack, prompts = stack_of(loaded), prompts_of(loaded)
    first = answers_of(stack, [0], prompts, PENALTY)[0]
    loaded.tokenizer.eos_token = f"w{first[1][2]}"  # the second answer ends after two tokens
    together = answers_of(stack, [0, 1], prompts, PENALTY)
    assert len(together[0][1]) <= 2 < max(map(len, together[0]))
    for slot in (0, 1):
        for number, prompt in enumerate(prompts):
            assert answers_of(stack, [slot], [prompt], PENALTY)[0][0] == together[slot][number]


def test_a_model_that_also_reads_images_holds_its_text_part_alone(tmp_path: Path) -> None:
    loaded = loaded_from("Gemma 4, as published", tmp_path)
    assert type(loaded.model).__name__ == "Gemma4ForCausalLM"
    assert loaded.published is not None and loaded.published.causal
    assert loaded.model.name_or_path == str(tmp_path)
    assert not any("vision" in name for name, _ in loaded.model.named_parameters())
    whole = FOLDERS["Gemma 4, as published"].build()
    ids = torch.tensor([[5, 9, 11, 7]])
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(input_ids=ids).logits, whole(input_ids=ids).logits)


def test_a_model_that_fails_in_bfloat16_runs_in_float32_where_the_choice_is_automatic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neftune_core.models.device.fast_bfloat16", lambda device: True)
    with pytest.raises(
        ModelError, match=r"\(mamba2\) fails when it is run in bfloat16 \(.*\): choose another precision"
    ):
        loaded_from("Mamba-2", tmp_path, "bfloat16")
    assert loaded_from("Mamba-2", tmp_path, "auto").precision == "float32"


def test_layers_with_several_streams_refuse_noise_with_a_sentence(tmp_path: Path) -> None:
    loaded = loaded_family(RECENT["Gemma 3n"])
    with (
        pytest.raises(NoEffect, match="choose the embedding as the only site"),
        noisy_embeddings(loaded.model.train(), NoiseSettings(strength=5, sites="1")) as model,
    ):
        own_loss(model, batch_of(loaded))


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("Gemma 3n", "embedding table (embed_tokens_per_layer) also feeds the layers"),
        ("Gemma 4", "multiplies its vectors by 5.66 before noise is added: relative to the multiplied vectors, "),
        ("Granite 4", "multiplies the vectors of its embedding by 12, and their noise with them"),
        ("Falcon-H1", "alpha 5 reaches the first layer as alpha 25"),
        ("Qwen3-MoE", "cover 25% of the weights in the model's layers; they do not cover mlp.experts"),
        ("LFM2", "Attention adapters cover only 1 of the 2 layers"),
        ("Mamba-2", "no attention, so attention adapters are not available"),
    ],
)  # fmt: skip
def test_what_noise_and_adapters_do_not_reach_is_said(family: str, words: str) -> None:
    assert words in " ".join(loaded_family(RECENT[family]).reach)


@pytest.mark.parametrize("family", ["SmolLM3", "Ministral 3", "ModernBERT-decoder", "Qwen3.5"])
def test_nothing_is_said_where_everything_is_reached(family: str) -> None:
    assert loaded_family(RECENT[family]).reach == ()


def test_a_target_that_a_model_lacks_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(ModelError, match="have no attention to adapt: choose all linear layers"):
        linear_maps(loaded_family(RECENT["Mamba-2"]).model, "attention")


@pytest.mark.parametrize("family", ["Gemma 3n", "Gemma 4"])
def test_the_tables_per_layer_are_a_site_of_their_own_that_is_clean_unless_chosen(family: str) -> None:
    loaded = loaded_family(RECENT[family])
    stack, batch = stack_of(loaded), batch_of(loaded)
    assert [site.number for site in stack.sites] == [0, -1, 1, 2]
    assert len({site.key for site in stack.sites}) == len(stack.sites)

    def loss(sites: str) -> float:
        noise = NoiseSettings(strength=5, sites=sites)
        arms = [ArmNoise(noise, noise.site_numbers(2, tables=True))]
        rows = noise_rows_of(batch)
        with torch.no_grad(), stack.running([1], noise=BatchNoise(arms, rows)) as tree:
            return float(own_loss(tree, batch))

    found = [loss(sites) for sites in ("embedding", "tables", "embedding, tables")]
    assert len(set(found)) == 3
    assert found == [loss(sites) for sites in ("embedding", "tables", "embedding, tables")]
    with noisy_embeddings(loaded.model.train(), NoiseSettings(strength=5, sites="embedding, tables")) as model:
        live = float(own_loss(model, batch))
    assert live != float(own_loss(loaded.model.eval(), batch))


def noise_rows_of(batch: Any) -> dict[str, Rows]:
    lengths = batch.lengths.tolist()
    keys = [(0, 0, number) for number in range(len(lengths))]
    return {"decoder": Rows(keys, lengths, max(lengths), batch.trained, torch.zeros_like(batch.trained))}


def test_tables_are_refused_in_a_model_that_has_none() -> None:
    with pytest.raises(InvalidSetting, match="no per-layer embeddings: remove tables from the sites"):
        chosen_sites(loaded_family(RECENT["SmolLM3"]).model, NoiseSettings(strength=5, sites="embedding, tables"))
