"""Two pages to drive in Chromium: one with a preview of its own (no model, no torch), and the whole lab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


LAB = "from neftune_core.ui.serve import serve; serve(host='127.0.0.1')"


@contextmanager
def served(command: list[str], home: Path) -> Iterator[str]:
    """The address of a page served by a process of its own: this one turns every warning into an error."""
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "NEFTUNE_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip().rpartition(" ")[2]
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def address(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page with an invented preview is served."""
    with served([str(Path(__file__).parent / "invented.py")], tmp_path_factory.mktemp("home")) as found:
        yield found


@pytest.fixture(scope="module")
def lab_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def lab_address(browser: Any, lab_home: Path) -> Iterator[str]:
    """Where the whole lab is served, with the bundled model."""
    with served(["-c", LAB], lab_home) as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install it, or name it in CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@contextmanager
def visiting(browser: Any, address: str, *, key: str = "", link: str = "") -> Iterator[Any]:
    """A new visitor on the open page; `key` makes it one who was here before, `link` (`?job=...`) what is opened."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    if key:
        context.add_init_script(f"localStorage.setItem('neftune-lab-owner', '{key}')")
    with opened_page(context, address, link) as opened:
        yield opened
    context.close()


@contextmanager
def opened_page(context: Any, address: str, link: str = "") -> Iterator[Any]:
    """The open page, on which no error may be met and whose browser must ask nobody else; it leaves nothing stored."""
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: faults.append(request.url) if _leaves(request.url, address) else None)
    with opened.expect_response(lambda response: "queue/join" in response.url):  # what the page asks as it opens
        opened.goto(address + link)
    opened.wait_for_function("window.Lab && window.Lab.Plotly")
    yield opened
    opened.evaluate("localStorage.clear()")
    opened.close()
    assert faults == []


@pytest.fixture(scope="session")
def cache(browser: Any) -> Iterator[Any]:
    """What the browser has fetched and compiled need not be fetched for each test; what is stored is."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    yield context
    context.close()


@pytest.fixture
def page(cache: Any, address: str) -> Iterator[Any]:
    """A new visitor of the page with the invented preview."""
    with opened_page(cache, address) as opened:
        yield opened


@pytest.fixture
def lab_page(cache: Any, lab_address: str) -> Iterator[Any]:
    """A new visitor of the whole lab."""
    with opened_page(cache, lab_address) as opened:
        yield opened


def _leaves(url: str, address: str) -> bool:
    return url.startswith(("http:", "https:")) and not url.startswith(address)
