"""Two pages for Chromium: one with an invented preview (no model, no torch), and the complete lab."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_lab import SharedLab, served, visiting

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


# The Noise tab with what comes after its first picture: the other views, the ruler, and the repeated draws.
WHOLE = """Lab.noise?.views.map && document.querySelector('.lab-ruler svg').hasAttribute('aria-label')
    && Lab.noise.detailsOf(document.querySelector('#noise-figure .lab-figure-plot').labFigure?.value?.payload)"""


@pytest.fixture(scope="session")
def address(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the page with an invented preview."""
    with served([str(Path(__file__).parent / "invented.py")], tmp_path_factory.mktemp("home")) as found:
        yield found


@pytest.fixture(scope="session")
def shared_lab(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    """Return the complete lab with the bundled model, which all browser tests share."""
    with contextlib.closing(SharedLab(lambda: tmp_path_factory.mktemp("lab"))) as lab:
        yield lab


@pytest.fixture
def lab_address(shared_lab: SharedLab, request: pytest.FixtureRequest) -> str:
    """Return the address of the complete lab."""
    return shared_lab.opened(request.session.testsfailed)[0]


@pytest.fixture
def lab_home(shared_lab: SharedLab, request: pytest.FixtureRequest) -> Path:
    """Return the home folder of the complete lab."""
    return shared_lab.opened(request.session.testsfailed)[1]


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
    """Return a new visitor's page with the invented preview."""
    with visiting(browser, address, link="?tab=Noise") as opened:
        opened.wait_for_function("document.querySelector('#noise-figure .lab-figure-plot')?._fullLayout")
        opened.wait_for_function(WHOLE)
        yield opened


@pytest.fixture
def lab_page(browser: Any, lab_address: str) -> Iterator[Any]:
    """Return a new visitor's page of the complete lab."""
    with visiting(browser, lab_address) as opened:
        yield opened
