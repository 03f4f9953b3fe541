"""Steps on the page that several browser tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# The third row has no answer.
BAD_ROW = (
    '{"instruction": "Name a fruit.", "output": "An apple."}\n'
    '{"instruction": "Name a <i>tree</i>.", "output": "An oak."}\n'
    '{"instruction": "Name a bird.", "response": "A wren."}\n'
    '{"instruction": "Name a river.", "output": "The Elbe."}\n'
    '{"instruction": "Name a colour.", "output": "Blue."}\n'
)


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def text_of(page: Any, selector: str, words: str) -> str:
    """Return the text of the element once it contains `words`."""
    found = page.locator(selector, has_text=words)
    found.wait_for()
    return found.inner_text()


def upload(page: Any, box: str, path: Path) -> None:
    page.locator(f"{box} input[type=file]").set_input_files(str(path))


def choose(page: Any, box: str, option: str) -> None:
    """Choose from a list, and wait until it is closed."""
    page.locator(f"{box} input").click()
    page.get_by_role("option", name=option, exact=True).click()
    page.locator("[role=option]").first.wait_for(state="detached")


def own_file(page: Any) -> None:
    open_tab(page, "Data")
    text_of(page, "#data-report", "In use: world-format")
    page.locator("#data-source label", has_text="Your file").click()


def calls_from(page: Any, prefix: str) -> list[str]:
    """Collect the calls to the server, from now on, that components whose name begins with `prefix` cause.

    What the page asks for as it opens, which may be late on a slow machine, is not among them.
    """
    named = "(prefix) => gradio_config.components.filter(({ props }) => props.elem_id?.startsWith(prefix))"
    own, found = page.evaluate(f"{named}.map(({{ id }}) => id)", prefix), list[str]()

    def look(request: Any) -> None:
        if request.method == "POST" and request.post_data_json.get("trigger_id") in own:
            found.append(request.post_data)

    page.on("request", look)
    assert own
    return found
