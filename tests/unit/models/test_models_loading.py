"""Loading: the stand-in, invalid folders, and models shared by threads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from model_folders import float32, saved
from random_models import build
from safetensors.torch import load_file, save_file
from tiny_tokenizers import bart_tokenizer, bert_tokenizer, t5_tokenizer

from neftune_core.errors import Cancelled, ModelError
from neftune_core.models import checks, loading
from neftune_core.models.architecture.anatomy import reads_ahead
from neftune_core.models.loading import LoadedModel, evict_all, load
from neftune_core.models.settings import ModelSettings
from neftune_core.models.sources import resolve
from neftune_core.models.sources.folders import create_once, models_home
from neftune_core.models.tokenizing import decoder_start
from tests import standin
from tests.stress.families.tiny import FAMILIES
from tests.weights import weights_hash

pytestmark = pytest.mark.usefixtures("standin_bundled")


def loaded_models() -> list[LoadedModel]:
    """Return the cached models, most recently used last."""
    return list(loading._cache.models.values())


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


def before_reading(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call `act` each time before the weights of a model are read."""
    read = transformers.AutoModelForCausalLM.from_pretrained
    reading = lambda *given, **options: (act(), read(*given, **options))[1]  # noqa: E731
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", reading)


def test_two_threads_that_ask_for_one_model_get_the_same_one(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    reads: list[str] = []
    before_reading(monkeypatch, lambda: reads.append("read"))
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


def test_room_is_made_by_forgetting_other_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(float32("bundled"))
    monkeypatch.setattr(checks, "available_memory", lambda device: 0 if loaded_models() else 10**9)
    load(float32(folder))
    assert [loaded.name for loaded in loaded_models()] == ["my-model"]


def test_loading_ends_when_asked() -> None:
    with pytest.raises(Cancelled):
        load(float32("bundled"), cancelled=lambda: True)
    assert loaded_models() == []


def test_whoever_waits_for_another_thread_s_model_can_still_stop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = threading.Event(), threading.Event()
    before_reading(monkeypatch, lambda: (started.set(), go_on.wait(30)))
    thread = threading.Thread(target=lambda: load(float32(folder)))
    thread.start()
    started.wait(30)
    with pytest.raises(Cancelled):
        load(float32(folder), cancelled=lambda: True)
    go_on.set()
    thread.join(30)
    assert len(loaded_models()) == 1


def test_two_models_are_read_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on, checked = threading.Event(), threading.Event(), list[str]()
    require = checks.require_memory
    monkeypatch.setattr(checks, "require_memory", lambda *given: checked.append(given[1]) or require(*given))
    before_reading(monkeypatch, lambda: (started.set(), go_on.wait(30)))
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
