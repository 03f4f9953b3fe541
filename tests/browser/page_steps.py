"""Steps on the page that several browser tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def text_of(page: Any, selector: str, words: str) -> str:
    """Return the text of the element once it contains `words`."""
    found = page.locator(selector, has_text=words)
    found.wait_for()
    return found.inner_text()


def upload(page: Any, box: str, path: Path) -> None:
    page.locator(f"{box} input[type=file]").set_input_files(str(path))


def own_file(page: Any) -> None:
    open_tab(page, "Data")
    text_of(page, "#data-report", "In use: world-format")
    page.locator("#data-source label", has_text="Your file").click()
