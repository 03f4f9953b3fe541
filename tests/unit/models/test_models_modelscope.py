"""ModelScope, from a server on this machine that speaks as much of its protocol as reading a model takes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from neftune_core.errors import LabError, ModelError, NotAvailable
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.models.sources import resolve
from neftune_core.models.sources.download_progress import ModelRequest, Watch
from neftune_core.models.sources.modelscope import commit_in, fetch_modelscope
from tests.standin import standin

SOURCE, COMMIT = "ms:lab/tiny", "c0ffee" * 6 + "c0de"
NOBODY = Watch()


class _Answers(BaseHTTPRequestHandler):
    server: Any

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.asked.append((asked, self.headers.get("Range", "")))
        if self.server.status != 200 or not parts.path.startswith("/api/v1/models/lab/tiny/"):
            self._send(404 if self.server.status == 200 else self.server.status, b"{}")
        elif parts.path.endswith("/repo/files"):
            self._send(200, json.dumps({"Code": 200, "Data": {"Files": self._listing()}}).encode())
        else:
            self._send_file(self.server.files[asked["FilePath"]])

    def _listing(self) -> list[dict[str, Any]]:
        files = [
            {
                "Path": name,
                "Type": "blob",
                "Size": len(content),
                "Sha256": self.server.digests.get(name) or hashlib.sha256(content).hexdigest(),
                "Revision": COMMIT if name == "config.json" else "d" * 40,
                "CommittedDate": 2 if name == "config.json" else 1,
            }
            for name, content in self.server.files.items()
        ]
        return [{"Path": "onnx", "Type": "tree"}, *files]

    def _send_file(self, content: bytes) -> None:
        begun = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        rest = content[begun:]
        self._send(206 if begun else 200, rest[: self.server.cut], length=len(rest))

    def _send(self, status: int, content: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> Iterator[Any]:
    """A site with the stand-in as `lab/tiny`; `status` refuses everything, `cut` ends a file early."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.files = {file.name: file.read_bytes() for file in standin().iterdir()}
    server.files |= {"README.md": b"---\nlicense: mit\n---\n", "run.py": b"boom", "onnx/model.safetensors": b"x"}
    server.asked, server.status, server.cut, server.digests = [], 200, None, {}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("MODELSCOPE_DOMAIN", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_is_downloaded_loaded_and_its_commit_recorded(served: Any) -> None:
    seen = []
    loaded = load(ModelSettings(source=SOURCE, device="cpu"), progress=seen.append)
    assert (loaded.name, loaded.licence, loaded.revision) == ("tiny", "mit", COMMIT)
    assert any(progress.what == f"Downloading {SOURCE}" and progress.total_bytes for progress in seen)
    assert {asked.get("Revision") for asked, _ in served.asked} == {"master"}


def test_only_what_a_model_needs_is_downloaded_and_only_once(served: Any) -> None:
    folder = fetch_modelscope(SOURCE, "v1", NOBODY)
    unwanted = {"run.py", "onnx/model.safetensors"}
    assert {file.name for file in folder.iterdir()} == {*served.files, ".commit"} - unwanted
    assert commit_in(folder) == COMMIT
    served.asked.clear()
    assert fetch_modelscope(SOURCE, "v1", NOBODY) == folder
    assert len(served.asked) == 1  # the list of files


def test_a_download_that_broke_off_goes_on_where_it_ended(served: Any) -> None:
    served.cut = 5000
    with pytest.raises(NotAvailable, match="was interrupted: try again to continue it"):
        fetch_modelscope(SOURCE, "", NOBODY)
    served.cut = None
    served.asked.clear()
    folder = fetch_modelscope(SOURCE, "", NOBODY)
    assert "bytes=5000-" in {begun for _, begun in served.asked}
    assert (folder / "model.safetensors").read_bytes() == served.files["model.safetensors"]


def test_a_file_that_differs_from_its_checksum_is_refused(served: Any) -> None:
    served.digests["config.json"] = "0" * 64
    with pytest.raises(ModelError, match=r"config\.json of lab/tiny does not match the listing on ModelScope"):
        fetch_modelscope(SOURCE, "", NOBODY)


def test_what_is_on_this_machine_is_used_where_the_site_is_out_of_reach(served: Any) -> None:
    folder = fetch_modelscope(SOURCE, "", NOBODY)
    served.status = 503
    assert fetch_modelscope(SOURCE, "", NOBODY) == folder
    with pytest.raises(NotAvailable, match="status 503"):
        fetch_modelscope(SOURCE, "v2", NOBODY)


@pytest.mark.parametrize(
    ("source", "words"), [("ms:lab/none", "no public model lab/none"), ("ms:lab", "No model matches 'ms:lab'")]
)
def test_an_id_that_names_nothing_is_refused(served: Any, source: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        resolve.resolve_source(ModelRequest(source), NOBODY)


def test_a_model_without_safetensors_is_not_downloaded(served: Any) -> None:
    served.files.pop("model.safetensors")
    with pytest.raises(ModelError, match="no safetensors files at this revision"):
        fetch_modelscope(SOURCE, "", NOBODY)
    assert len(served.asked) == 1


def test_a_site_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://127.0.0.1:9")
    with pytest.raises(NotAvailable, match="ModelScope cannot be reached: check the network"):
        fetch_modelscope(SOURCE, "", NOBODY)
