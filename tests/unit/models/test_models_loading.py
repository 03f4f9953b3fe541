"""Loading: the stand-in, invalid folders, and models shared by threads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from random_models import build
from safetensors.torch import load_file, save_file
from tiny_tokenizers import bart_tokenizer, bert_tokenizer, t5_tokenizer

from neftune_core.errors import Cancelled, DoesNotFit, InvalidSetting, ModelError, NotAvailable
from neftune_core.models import checks, loading
from neftune_core.models.architecture.anatomy import reads_ahead
from neftune_core.models.loading import LoadedModel, evict_all, load, loaded_models, weights_hash
from neftune_core.models.settings import ModelSettings
from neftune_core.models.sources import resolve
from neftune_core.models.sources.folders import create_once, models_home
from neftune_core.models.tokenizing import decoder_start
from tests import standin
from tests.stress.families.tiny import FAMILIES


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Clear cached models, and use the stand-in as the bundled model."""
    loading._cache.clear()
    shutil.copytree(standin.standin(), tmp_path / "assets" / "model")
    monkeypatch.setattr(resolve, "assets", lambda: tmp_path / "assets")
    yield
    loading._cache.clear()


def float32(source: str | Path, **more: str) -> ModelSettings:
    return ModelSettings(source=str(source), precision="float32", device="cpu", **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the stand-in's folder to damage."""
    return Path(shutil.copytree(standin.standin(), tmp_path / "my-model"))


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_the_bundled_model_is_loaded_frozen_and_described() -> None:
    loaded = load(float32("bundled"))
    assert (loaded.name, loaded.precision) == ("bundled model", "float32")
    assert (loaded.parameters, loaded.width, loaded.layers) == (standin.PARAMETERS, standin.WIDTH, standin.LAYERS)
    assert loaded.vocabulary == len(loaded.tokenizer) == standin.VOCABULARY
    assert loaded.context == standin.CONTEXT
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_copy_without_its_bundled_model_reports_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolve, "assets", lambda: tmp_path / "no assets")
    with pytest.raises(ModelError, match="bundled model is missing from this installation"):
        load(float32("bundled"))


def test_two_threads_that_ask_for_one_model_get_the_same_one(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    reads: list[str] = []
    read = loading._weights
    monkeypatch.setattr(loading, "_weights", lambda *arguments: (reads.append("read"), read(*arguments))[1])
    found: list[LoadedModel] = []
    threads = [threading.Thread(target=lambda: found.append(load(float32(folder)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert reads == ["read"]
    assert len(found) == 4
    assert len({id(loaded) for loaded in found}) == 1


def test_auto_and_its_outcome_are_one_model() -> None:
    auto = load(ModelSettings(device="cpu"))
    assert load(ModelSettings(device="cpu", precision=auto.precision)) is auto


def test_the_three_models_used_last_are_kept(folder: Path) -> None:
    folders = [folder] + [Path(shutil.copytree(folder, folder.with_name(f"model-{number}"))) for number in range(3)]
    for each in folders[:3]:
        load(float32(each))
    first = load(float32(folders[0]))
    load(float32(folders[3]))
    assert [loaded.name for loaded in loaded_models()] == ["model-1", "my-model", "model-2"]
    assert load(float32(folders[0])) is first
    evict_all()
    assert loaded_models() == []


def test_a_folder_that_was_rewritten_is_read_again(folder: Path) -> None:
    first = load(float32(folder))
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    assert weights_hash(load(float32(folder)).model) != weights_hash(first.model)


def test_dropout_of_the_configuration_is_off_in_a_loaded_model(tmp_path: Path, folder: Path) -> None:
    build("opt-125m", vocab_size=2048, dropout=0.3).save_pretrained(tmp_path / "opt")
    for file in folder.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "opt")
    loaded = load(float32(tmp_path / "opt"))
    assert {module.dropout for module in loaded.model.modules() if hasattr(module, "dropout")} == {0.0}


def test_a_file_with_only_the_tied_head_gives_the_embedding_too(tmp_path: Path, folder: Path) -> None:
    """OPT conversions on the hub store the tied weight under the head's name."""
    model = build("opt-125m", vocab_size=2048, tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "opt")
    weights = load_file(tmp_path / "opt" / "model.safetensors")
    weights["lm_head.weight"] = weights.pop("model.decoder.embed_tokens.weight")
    save_file(weights, tmp_path / "opt" / "model.safetensors", {"format": "pt"})
    for file in folder.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "opt")
    assert weights_hash(load(float32(tmp_path / "opt")).model) == weights_hash(model)


def test_padding_takes_a_token_that_the_embedding_has(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(
        json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "pad_token"})
    )
    loaded = load(float32(folder))
    assert loaded.tokenizer.pad_token == loaded.tokenizer.eos_token
    assert loaded.model.get_input_embeddings().weight.shape[0] == standin.VOCABULARY


def test_the_licence_is_read_from_the_model_s_own_page(folder: Path) -> None:
    assert load(float32(folder)).licence == "not stated"
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert load(float32(folder)).licence == "mit"


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
    assert "There is no model at" in sentence_of(float32(source))


def test_a_missing_gguf_file_is_refused() -> None:
    assert "The file '/nowhere/model.gguf' does not exist" in sentence_of(float32("/nowhere/model.gguf"))


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    assert "pickled" in sentence_of(float32(folder))


def saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("family", "tokenizer"), [("T5", t5_tokenizer), ("BART", bart_tokenizer)])
def test_an_encoder_decoder_is_loaded_with_its_head(family: str, tokenizer: Any, tmp_path: Path) -> None:
    model = FAMILIES[family].build()
    loaded = load(float32(saved(model, tokenizer(), tmp_path / "pair")))
    assert (loaded.encoder_decoder, loaded.layers, loaded.note) == (True, 4, "")
    assert decoder_start(loaded.tokenizer) == model.config.decoder_start_token_id
    ids = torch.tensor([[5, 9, 11]])
    theirs = model(input_ids=ids, decoder_input_ids=ids).logits
    torch.testing.assert_close(loaded.model(input_ids=ids, decoder_input_ids=ids).logits, theirs, rtol=0, atol=1e-5)


def test_an_encoder_decoder_published_without_its_head_is_loaded(tmp_path: Path) -> None:
    model = FAMILIES["BART"].build()
    loaded = load(float32(saved(model.model, bart_tokenizer(), tmp_path / "body")))
    ids = torch.tensor([[5, 9, 11]])
    theirs = model(input_ids=ids, decoder_input_ids=ids).logits
    torch.testing.assert_close(loaded.model(input_ids=ids, decoder_input_ids=ids).logits, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "context"), [("Bert", 128), ("Roberta", 126)])
def test_an_encoder_is_loaded_as_a_decoder_and_says_that_it_never_learnt_that(
    kind: str, context: int, tmp_path: Path
) -> None:
    decoder = FAMILIES["BERT" if kind == "Bert" else "RoBERTa"].build()
    decoder.config.is_decoder = False
    model = getattr(transformers, f"{kind}ForMaskedLM")(decoder.config)
    model.config.architectures = [type(model).__name__]
    loaded = load(float32(saved(model, bert_tokenizer(), tmp_path / "filler")))
    assert "Not pre-trained for generation" in loaded.note
    assert (loaded.encoder_decoder, loaded.model.config.is_decoder, loaded.context) == (False, True, context)
    assert not reads_ahead(loaded.model)
    assert loaded.tokenizer.eos_token == "[SEP]"


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


def test_room_is_made_by_forgetting_other_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(float32("bundled"))
    monkeypatch.setattr(checks, "available_memory", lambda device: 0 if loaded_models() else 10**9)
    load(float32(folder))
    assert [loaded.name for loaded in loaded_models()] == ["my-model"]


def test_a_device_that_is_not_here_is_refused() -> None:
    assert "cuda:99" in sentence_of(ModelSettings(device="cuda:99"), NotAvailable)
    for name in ("toaster", "meta"):
        assert name in sentence_of(ModelSettings(device=name), InvalidSetting)


def test_loading_ends_when_asked() -> None:
    with pytest.raises(Cancelled):
        load(float32("bundled"), cancelled=lambda: True)
    assert loaded_models() == []


def test_whoever_waits_for_another_thread_s_model_can_still_stop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = threading.Event(), threading.Event()
    read = loading._weights

    def slow(*arguments: Any) -> Any:
        started.set()
        go_on.wait(30)
        return read(*arguments)

    monkeypatch.setattr(loading, "_weights", slow)
    thread = threading.Thread(target=lambda: load(float32(folder)))
    thread.start()
    started.wait(30)
    with pytest.raises(Cancelled):
        load(float32(folder), cancelled=lambda: True)
    go_on.set()
    thread.join(30)
    assert len(loaded_models()) == 1


def test_two_models_are_read_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = threading.Event(), threading.Event()
    read, checked = loading._weights, []
    make_room = loading._require_memory

    def slow(*arguments: Any) -> Any:
        started.set()
        go_on.wait(30)
        return read(*arguments)

    monkeypatch.setattr(loading, "_weights", slow)
    monkeypatch.setattr(loading, "_require_memory", lambda *given: checked.append(given[0].name) or make_room(*given))
    thread = threading.Thread(target=lambda: load(float32(folder)))
    thread.start()
    started.wait(30)
    asked = iter([False] * 3)
    with pytest.raises(Cancelled):
        load(float32("bundled"), cancelled=lambda: next(asked, True))
    assert checked == ["my-model"]
    go_on.set()
    thread.join(30)
    assert len(loaded_models()) == 1


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


def test_loading_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(float32(folder))
    assert capfd.readouterr() == ("", "")


def test_a_folder_being_made_is_never_seen_half_done(tmp_path: Path) -> None:
    tmp_path = tmp_path / "own"
    tmp_path.mkdir()
    target = tmp_path / "made"

    def breaks(folder: Path) -> None:
        (folder / "first").write_text("1")
        raise ModelError("It broke.")

    with pytest.raises(ModelError):
        create_once(target, breaks)
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_make_a_folder_the_first_wins(tmp_path: Path) -> None:
    tmp_path = tmp_path / "own"
    tmp_path.mkdir()
    target = tmp_path / "made"

    def slower(folder: Path) -> None:
        create_once(target, lambda other: (other / "file").write_text("first"))
        (folder / "file").write_text("second")

    assert (create_once(target, slower) / "file").read_text() == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def test_what_a_dead_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    import os

    old, young = tmp_path / ".unfinished-old", tmp_path / ".unfinished-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    create_once(tmp_path / "made", lambda folder: None)
    assert not old.exists()
    assert young.exists()


def test_models_are_kept_under_the_lab_s_home() -> None:
    from neftune_core.home import home

    assert standin.standin().parent == models_home()
    assert models_home().parent == home()


MEETING = """
import sys, threading, time
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings

threading.Thread(target=lambda: __import__("transformers")).start()
while "transformers" not in sys.modules:
    time.sleep(0)
print(load(ModelSettings(device="cpu")).parameters > 0)
"""


def test_a_model_is_loaded_while_another_thread_imports_what_reads_it() -> None:
    done = subprocess.run([sys.executable, "-c", MEETING], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "True", done.stderr[-2000:]
