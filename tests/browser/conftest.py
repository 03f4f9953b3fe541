"""A page with a preview of its own (no model, no torch) and Chromium to drive it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def address(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page is served, by a process of its own: this one turns every warning into an error."""
    environment = {**os.environ, "NEFTUNE_HOME": str(tmp_path_factory.mktemp("home"))}
    command = [sys.executable, str(Path(__file__).parent / "invented.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install it, or name it in CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A new visitor on the open page, who must meet no error and whose browser must ask nobody else."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: faults.append(request.url) if _leaves(request.url, address) else None)
    with opened.expect_response(lambda response: "queue/join" in response.url):  # what the page asks as it opens
        opened.goto(address)
    opened.wait_for_function("window.Lab && window.Lab.Plotly")
    yield opened
    context.close()
    assert faults == []


def _leaves(url: str, address: str) -> bool:
    return url.startswith(("http:", "https:")) and not url.startswith(address)
