"""Models that are refused: each gets one sentence that says what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from model_folders import float32, saved
from safetensors.torch import load_file, save_file
from tiny_tokenizers import bart_tokenizer, bert_tokenizer

from neftune_core.errors import DoesNotFit, InvalidSetting, ModelError, NotAvailable
from neftune_core.models import checks
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from tests.stress.families.tiny import FAMILIES

pytestmark = pytest.mark.usefixtures("standin_bundled")


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def sentence_of(settings: ModelSettings, kind: type[Exception] = ModelError) -> str:
    """Return the error of loading, which must be one sentence without paths."""
    with pytest.raises(kind) as caught:
        load(settings)
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    return said


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "neither a config.json nor a GGUF file" in sentence_of(float32(tmp_path / "empty"))


@pytest.mark.parametrize(
    "source", ["/no/such/folder", "./none", "../none", "a/b/c", "", "https://example.org/model", "own er/name"]
)
def test_a_source_that_names_nothing_is_refused(source: str) -> None:
    assert "No model matches" in sentence_of(float32(source))


def test_a_missing_gguf_file_is_refused() -> None:
    assert "The file '/nowhere/model.gguf' does not exist" in sentence_of(float32("/nowhere/model.gguf"))


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    assert "pickled" in sentence_of(float32(folder))


def test_a_model_that_reads_ahead_is_refused(tmp_path: Path) -> None:
    model = FAMILIES["BERT"].build()
    model.config.is_decoder = False
    assert "attends to later tokens" in sentence_of(float32(saved(model, bert_tokenizer(), tmp_path / "ahead")))


def test_an_encoder_decoder_that_names_no_start_is_refused(tmp_path: Path) -> None:
    folder = saved(FAMILIES["BART"].build(), bart_tokenizer(), tmp_path / "pair")
    change_config(folder, decoder_start_token_id=None)
    (folder / "generation_config.json").unlink()
    assert "decoder_start_token_id" in sentence_of(float32(folder))


def test_a_tokenizer_that_needs_a_package_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **options: Any) -> None:
        raise ImportError("MarianTokenizer requires the SentencePiece library but it was not found")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", missing)
    (folder / "source.spm").write_bytes(b"anything")
    with pytest.raises(NotAvailable, match="pip install sentencepiece"):
        load(float32(folder))


def test_a_model_that_does_not_write_is_refused_by_its_family_and_task(folder: Path) -> None:
    for kind, task, told in (
        ("Bert", "ForSequenceClassification", "bert, sequence classification"),
        ("T5", "ForTokenClassification", "t5, token classification"),
        ("Llama", "Model", "llama"),
    ):
        getattr(transformers, f"{kind}Config")(architectures=[f"{kind}{task}"]).save_pretrained(folder)
        assert f"does not generate text ({told})" in sentence_of(float32(folder))


def test_an_unknown_architecture_is_refused_and_none_of_its_code_run(folder: Path) -> None:
    change_config(folder, model_type="fancy", auto_map={"AutoConfig": "fancy.FancyConfig"})
    (folder / "fancy.py").write_text("raise SystemExit('this code must never run')")
    assert "the architecture 'fancy'" in sentence_of(float32(folder))


def test_quantised_weights_are_refused(folder: Path) -> None:
    change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "quantised" in sentence_of(float32(folder))


@pytest.mark.parametrize("kept", [4, 100, 50_000])
def test_a_weight_file_that_was_cut_short_is_refused(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert "damaged or truncated" in sentence_of(float32(folder))


def test_weights_that_are_missing_are_refused_and_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.3.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "model.layers.3.mlp.up_proj.weight" in sentence_of(float32(folder))


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(7)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "download them again" in sentence_of(float32(folder))


def test_a_missing_piece_of_the_weights_is_refused(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002.safetensors is missing" in sentence_of(float32(folder))


def test_an_index_cannot_name_files_elsewhere(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    assert "is missing" in sentence_of(float32(folder))


def test_a_missing_tokenizer_is_refused(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer" in sentence_of(float32(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_an_empty_configuration_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert "config.json" in sentence_of(float32(folder))


def test_a_model_larger_than_the_free_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "available_memory", lambda device: 1_000_000)
    assert "memory" in sentence_of(float32(folder), DoesNotFit)


def test_a_device_that_is_not_here_is_refused() -> None:
    assert "cuda:99" in sentence_of(ModelSettings(device="cuda:99"), NotAvailable)
    for name in ("toaster", "meta"):
        assert name in sentence_of(ModelSettings(device=name), InvalidSetting)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            "ran out of memory",
        ),
        (MemoryError(), "ran out of memory"),
        (OSError(28, "No space left on device"), "disk is full"),
        (RuntimeError("invalid header"), "damaged"),
    ],
)
def test_what_the_machine_lacks_is_not_called_broken_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fails)
    with pytest.raises((DoesNotFit, ModelError), match=words):
        load(float32(folder))
