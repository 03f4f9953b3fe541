"""A model that a page downloads from a hub: the download ends with its page."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from served_lab import served, visiting

pytestmark = pytest.mark.browser

COMMIT = "b" * 40
PIECE, PIECES, PIECE_SECONDS = 1 << 20, 2000, 0.05
FILES = {"config.json": 2, "tokenizer.json": 2, "model.safetensors": PIECE * PIECES}
"""Their sizes: the weights take longer than the test."""
PATIENCE_SECONDS = 20


class SlowHub(ThreadingHTTPServer):
    """A hub with one model; `begun` and `hung_up` are about its weights."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.begun, self.hung_up, self.pieces = threading.Event(), threading.Event(), 0


class _Answers(BaseHTTPRequestHandler):
    server: SlowHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        if "/resolve/" in self.path:
            self.send(FILES[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
            if self.command == "GET" and name == "model.safetensors":
                self.trickle()
            elif self.command == "GET":
                self.wfile.write(b"{}")
            return
        listed = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in FILES.items()]
        siblings = [{"rfilename": name, "size": size, "blobId": "b"} for name, size in FILES.items()]
        model = {"_id": "1", "id": "lab/slow", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        answer = json.dumps(listed if "/tree/" in self.path else model).encode()
        self.send(len(answer), {"Content-Type": "application/json"})
        if self.command == "GET":
            self.wfile.write(answer)

    def send(self, size: int, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()

    def trickle(self) -> None:
        self.server.begun.set()
        for _ in range(PIECES):
            try:
                self.wfile.write(bytes(PIECE))
            except OSError:
                self.server.hung_up.set()
                return
            self.server.pieces += 1
            time.sleep(PIECE_SECONDS)


@pytest.fixture
def hub() -> Iterator[SlowHub]:
    with SlowHub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def lab(browser: Any, hub: SlowHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a page of its own, whose hub is the slow one; yield its address."""
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with served([str(Path(__file__).parent / "invented.py")], tmp_path / "home") as address:
        yield address


def begin_download(page: Any, hub: SlowHub) -> None:
    page.locator("[data-do=model]").click()
    box = page.locator("#model-source input")
    box.fill("lab/slow")
    box.press("Enter")
    page.locator("#model-use").click()
    page.locator("#model-progress", has_text="Downloading lab/slow").wait_for()
    assert hub.begun.wait(PATIENCE_SECONDS)


def test_a_download_ends_with_its_page_or_at_a_press_of_cancel(browser: Any, lab: str, hub: SlowHub) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(lab)
    page.wait_for_function("window.Lab && document.body.dataset.labOpened")
    begin_download(page, hub)
    assert not hub.hung_up.is_set()
    page.close()
    assert hub.hung_up.wait(PATIENCE_SECONDS)
    assert hub.pieces < PIECES
    context.close()
    hub.begun.clear()
    hub.hung_up.clear()
    with visiting(browser, lab) as page:
        begin_download(page, hub)
        page.locator("#model-cancel").click()
        assert hub.hung_up.wait(PATIENCE_SECONDS)
        assert hub.pieces < PIECES
