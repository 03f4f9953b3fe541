"""The hub, mocked by a local server, and without any hub."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants, errors

from neftune_core.errors import Cancelled, DoesNotFit, LabError, ModelError, NotAvailable
from neftune_core.models.cards import CATALOGUE
from neftune_core.models.loading import LoadProgress, load
from neftune_core.models.settings import ModelSettings
from neftune_core.models.sources import hub_files
from neftune_core.models.sources.download_progress import Watch
from neftune_core.models.sources.hub_files import fetch, licence_in, translate_error
from tests.standin import standin

COMMIT = "1234567890" * 4
NOBODY = Watch()


class Hub(ThreadingHTTPServer):
    """`files` of the one model `lab/tiny`, a log of `requests`; `refusal` (status, code) answers everything."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, bytes] = {}
        self.refusal: tuple[int, str] | None = None
        self.refuse_files_only = False
        self.piece_seconds = 0.0
        self.requests: list[str] = []
        self.hung_up = threading.Event()


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.server.requests.append(self.path)
        path = self.path.partition("?")[0]
        of_file = "/resolve/" in path
        if self.server.refusal and (of_file or not self.server.refuse_files_only):
            status, code = self.server.refusal
            return self.send(status, b"", body, {"X-Error-Code": code} if code else {})
        if of_file:
            return self.send_file(self.server.files[path.rpartition("/")[2]], body)
        return self.send(200, json.dumps(self.listing(path)).encode(), body, {"Content-Type": "application/json"})

    def listing(self, path: str) -> Any:
        files = self.server.files
        if "/tree/" in path:
            return [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
        siblings = [{"rfilename": name, "size": len(content), "blobId": "b"} for name, content in files.items()]
        return {"_id": "1", "id": "lab/tiny", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}

    def send_file(self, content: bytes, body: bool) -> None:
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        self.send(200, content, body, headers)

    def send(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        for start in range(0, len(content), 1 << 20):
            try:
                self.wfile.write(content[start : start + (1 << 20)])
            except OSError:  # the other side has hung up
                self.server.hung_up.set()
                return
            time.sleep(self.server.piece_seconds)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_models: None) -> Iterator[Hub]:
    """Serve a hub with the stand-in as `lab/tiny`, with an empty cache."""
    server = Hub()
    server.files = {file.name: file.read_bytes() for file in standin().iterdir()}
    server.files |= {"README.md": b"---\nlicense: mit\n---\n", "pytorch_model.bin": b"x" * 1000, "run.py": b"boom"}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_is_downloaded_with_progress_and_loaded(served: Hub) -> None:
    seen: list[LoadProgress] = []
    loaded = load(ModelSettings(source="lab/tiny", device="cpu"), progress=seen.append)
    assert (loaded.name, loaded.licence) == ("tiny", "mit")
    downloading = [progress for progress in seen if progress.what == "Downloading lab/tiny"]
    total = sum(len(served.files[name]) for name in served.files if name not in ("pytorch_model.bin", "run.py"))
    assert downloading[0].total_bytes == total
    done = [progress.done_bytes for progress in downloading]
    assert done == sorted(done)


def test_only_what_a_model_needs_is_downloaded(served: Hub) -> None:
    names = {file.name for file in fetch("lab/tiny", "", NOBODY).iterdir()}
    assert names == set(served.files) - {"pytorch_model.bin", "run.py"}


def test_what_is_in_the_cache_needs_no_network(served: Hub) -> None:
    first = fetch("lab/tiny", "", NOBODY)
    served.requests.clear()
    assert fetch("lab/tiny", "", NOBODY) == first
    assert served.requests == []


def test_a_download_that_was_cut_off_is_completed(served: Hub) -> None:
    folder = fetch("lab/tiny", "", NOBODY)
    (folder / "model.safetensors").unlink()
    assert (fetch("lab/tiny", "", NOBODY) / "model.safetensors").is_file()


def forget_list(folder: Path) -> None:
    """Leave the cache like older versions of the library, without a file list of a commit."""
    shutil.rmtree(folder.parents[1] / "trees", ignore_errors=True)
    if importlib.util.find_spec("huggingface_hub._tree_cache"):  # from version 1.20 or so on
        importlib.import_module("huggingface_hub._tree_cache")._IN_MEMORY_TREE_CACHE.clear()


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_cache_with_a_missing_file_is_completed(served: Hub, name: str, listed: bool) -> None:
    folder = fetch("lab/tiny", "", NOBODY)
    (folder / name).resolve().unlink()
    (folder / name).unlink()
    if not listed:
        forget_list(folder)
    assert load(ModelSettings(source="lab/tiny", device="cpu")).tokenizer("a")["input_ids"]
    assert (folder / name).read_bytes() == served.files[name]


def test_weights_that_were_cut_short_in_the_cache_are_fetched_again(served: Hub) -> None:
    file = fetch("lab/tiny", "", NOBODY) / "model.safetensors"
    file.resolve().write_bytes(served.files["model.safetensors"][:1000])
    assert (fetch("lab/tiny", "", NOBODY) / "model.safetensors").read_bytes() == served.files["model.safetensors"]


def test_a_cache_without_a_usual_tokenizer_is_given_where_the_hub_is_out_of_reach(served: Hub) -> None:
    folder = fetch("lab/tiny", "", NOBODY)
    (folder / "tokenizer.json").unlink()
    forget_list(folder)
    served.refusal = (503, "")
    assert fetch("lab/tiny", "", NOBODY) == folder


def test_a_pinned_revision_is_the_one_asked_for(served: Hub) -> None:
    fetch("lab/tiny", "refs/pr/7", NOBODY)
    assert any("refs%2Fpr%2F7" in path for path in served.requests)


def test_the_catalogue_pins_the_revision_where_none_is_given(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    card = CATALOGUE["facebook/opt-125m"]
    monkeypatch.setattr(
        "neftune_core.models.sources.resolve.fetch", lambda name, revision, watch: refuse(name, revision)
    )

    def refuse(name: str, revision: str) -> Path:
        raise ModelError(f"{name} at {revision}.")

    with pytest.raises(ModelError, match=f"opt-125m at {card.revision}"):
        load(ModelSettings(source=card.source, device="cpu"))
    with pytest.raises(ModelError, match="opt-125m at main"):
        load(ModelSettings(source=card.source, device="cpu", revision="main"))


def test_a_download_ends_when_asked(served: Hub) -> None:
    served.files["model.safetensors"] += bytes(30 << 20)
    served.piece_seconds = 0.05
    asked = threading.Event()
    watch = Watch(lambda progress: asked.set() if progress.done_bytes > 1 << 20 else None, asked.is_set)
    with pytest.raises(Cancelled):
        fetch("lab/tiny", "", watch)
    assert served.hung_up.wait(30)  # before all was sent: nothing goes on in the background


def refused(name: str = "lab/tiny", revision: str = "") -> LabError:
    with pytest.raises(LabError) as caught:
        fetch(name, revision, NOBODY)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)
    return caught.value


REFUSALS = [
    (401, "RepoNotFound", ModelError, "There is no model lab/tiny on the hub, or it is private"),
    (404, "RepoNotFound", ModelError, "There is no model lab/tiny on the hub, or it is private"),
    (404, "RevisionNotFound", ModelError, "has no revision 'main'"),
    (403, "GatedRepo", ModelError, "gated: accept the licence on the model's page, and set HF_TOKEN"),
    (403, "", ModelError, "set HF_TOKEN to a token with access"),
]


@pytest.mark.parametrize(("status", "code", "kind", "words"), REFUSALS)
def test_what_the_hub_refuses_becomes_a_sentence(
    served: Hub, status: int, code: str, kind: type[LabError], words: str
) -> None:
    served.refusal = (status, code)
    error = refused()
    assert isinstance(error, kind)
    assert words in str(error)


def test_a_model_whose_page_is_open_and_whose_files_are_gated_is_called_gated(served: Hub) -> None:
    served.refusal, served.refuse_files_only = (403, "GatedRepo"), True
    assert "gated" in str(refused())


def test_a_model_with_pickled_weights_only_is_not_downloaded(served: Hub) -> None:
    served.files.pop("model.safetensors")
    assert "pickled" in str(refused())
    assert not any("/resolve/" in path for path in served.requests)


def test_the_room_on_the_disk_is_checked_before_the_download(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert isinstance(refused(), DoesNotFit)
    assert not any("/resolve/" in path for path in served.requests)


def test_a_hub_that_never_answers_is_given_up(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_files, "REACH_SECONDS", 0.3)
    over = threading.Event()
    monkeypatch.setattr(HfApi, "model_info", lambda *given, **named: over.wait(60))
    assert isinstance(refused(), NotAvailable)
    over.set()


def test_an_id_that_cannot_be_one_is_refused(served: Hub) -> None:
    assert "There is no model" in str(refused("lab/..tiny"))
    assert served.requests == []


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (errors.OfflineModeIsEnabled("off"), NotAvailable, "HF_HUB_OFFLINE"),
        (errors.LocalEntryNotFoundError("not there"), NotAvailable, "check the network"),
        (errors.HFValidationError("bad"), ModelError, "There is no model"),
        (ConnectionError("refused"), NotAvailable, "cannot be reached"),
        (TimeoutError("slow"), NotAvailable, "cannot be reached"),
        (OSError(28, "No space left on device"), DoesNotFit, "disk is full"),
        (RuntimeError("secret token"), ModelError, "could not be fetched from the hub: try again later"),
    ],
)
def test_what_the_library_raises_becomes_a_sentence(error: Exception, kind: type[LabError], words: str) -> None:
    said = translate_error(error, "lab/tiny", "")
    assert isinstance(said, kind)
    assert words in str(said)
    assert "secret" not in str(said)


def test_the_cause_of_an_error_counts() -> None:
    error = errors.LocalEntryNotFoundError("not there")
    error.__cause__ = errors.OfflineModeIsEnabled("off")
    assert "HF_HUB_OFFLINE" in str(translate_error(error, "lab/tiny", ""))


FETCH = """
import time
import huggingface_hub
from neftune_core.errors import NotAvailable
from neftune_core.models.sources.hub_files import fetch
from neftune_core.models.sources.download_progress import Watch
started = time.monotonic()
try:
    fetch("lab/tiny", "", Watch())
except NotAvailable as error:
    print(round(time.monotonic() - started), error)
"""


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_without_a_network_the_sentence_comes_quickly(setting: dict[str, str], words: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path), **setting}
    done = subprocess.run(
        [sys.executable, "-c", FETCH], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    seconds, _, said = done.stdout.partition(" ")
    assert words in said
    assert int(seconds) <= 5


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\nText", "apache-2.0"),
        ("---\nlicense:\n- mit\n- gpl-3.0\n---\n", "mit, gpl-3.0"),
        ("---\ntitle: [\n---\n", ""),
        ("No head at all.", ""),
    ],
)
def test_the_licence_is_what_the_readme_s_head_states(text: str, licence: str, tmp_path: Path) -> None:
    assert licence_in(tmp_path) == ""
    (tmp_path / "README.md").write_text(text)
    assert licence_in(tmp_path) == licence
