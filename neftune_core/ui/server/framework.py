"""Combine Gradio's style sheets and small scripts into two files, instead of about eighty; mend two scripts."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import gradio as gr

from neftune_core.home import assets

FOLDER = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
LARGEST_SHEET = 50_000
"""Size in bytes up to which style sheets are combined; larger ones belong to an editor that the page does not use."""
LARGEST_SCRIPT = 4_500
"""Size in bytes up to which scripts are combined; larger ones are faster to fetch and compile in parallel."""
SPECIFIER = "framework/"
"""Prefix that replaces `./` in the imports of combined scripts (assets/page/framework.js)."""
_RELATIVE = re.compile(r"""url\((["']?)(?:\./)?(?!data:|["'#/]|\w+:)""")
_ENTRY = re.compile(r'<script type="module"[^>]*src="\./assets/([^"]+)"')
_STATIC = re.compile(r'\b(from|import)"\./([^"]+\.js)"')
_COMPONENT = re.compile(r"\b(\w+):\{[^{}]*?component:\(\)=>\w+\(\(\)=>import\(`\./([^`]+)`\)[^{}]*\}")
_SHELL = re.compile(r"import\(`\./((?:Index|Blocks)-[^`]+)`\)")
MENDED = (
    # For every event, Gradio searches the tree of components for the component whose properties the event sets, twice
    # while the page opens, even if the event sets none. These searches took half of the scripts' time.
    ("Blocks", re.compile(r"async set_event_args\(\w+,(\w+)\)\{"), r"\g<0>if(!Object.keys(\1).length)return()=>{};"),
    # The clock beside "Loading..." goes on after the page has opened: it drew every frame for as long as the page was
    # open, a quarter of a core. It ends with its component.
    (
        "statustracker",
        re.compile(r"(\w+)\(\(\)=>\{\w+\.status===`pending`\?\w+\(\):\w+\(\(\)=>\{(\w+)\(\)\}\)\}\)"),
        r"\1(()=>\2),\g<0>",
    ),
)
"""Places in Gradio's scripts that cost time and change nothing: the script, the place, and its replacement."""


def sheets() -> Mapping[str, Path]:
    """Return Gradio's style sheets by the URL that its scripts use, basic ones first."""
    found = [path for path in FOLDER.glob("*.css") if path.stat().st_size < LARGEST_SHEET]
    basic = sorted(found, key=lambda path: (not path.name.startswith(("index-", "core-")), path.name))
    return {f"./assets/{path.name}": path for path in basic}


def one_sheet(up: str) -> str:
    """Combine Gradio's style sheets into one; `up` is the relative path from it to the root of the page."""
    texts = (path.read_text(encoding="utf-8") for path in sheets().values())
    return "\n".join(_RELATIVE.sub(rf"url(\1{up}/assets/", sheet) for sheet in texts)


def scripts(components: Iterable[str]) -> dict[str, str]:
    """Return Gradio's small scripts for a page, by file name, with `SPECIFIER` in their imports.

    Scripts that use their own URL or dynamic imports are omitted, since they depend on the original URL.

    Components are named as in "textbox".
    """
    texts: dict[str, str] = {}
    entry = _ENTRY.search((FOLDER.parent / "index.html").read_text(encoding="utf-8"))
    wanted = [entry[1]] if entry else []
    while wanted:
        name = wanted.pop()
        if name not in texts and (FOLDER / name).is_file():
            texts[name] = (FOLDER / name).read_text(encoding="utf-8")
            wanted += _imported(texts[name], set(components))
    return {
        name: _STATIC.sub(rf'\1"{SPECIFIER}\2"', text)
        for name, text in sorted(texts.items())
        if len(text) <= LARGEST_SCRIPT and "import.meta" not in text and "import(" not in text
    }


def _imported(text: str, components: set[str]) -> Iterator[str]:
    """Yield the scripts that a script imports for a page with `components`."""
    yield from (name for _, name in _STATIC.findall(text))
    yield from (name for component, name in _COMPONENT.findall(text) if component in components)
    yield from _SHELL.findall(_COMPONENT.sub("", text))


@functools.cache
def mended_scripts() -> dict[str, str]:
    """Return Gradio's scripts that have a place of `MENDED`, by file name, with the replacement.

    A version of Gradio without such a place is served as it is.
    """
    found = {}
    for name, place, replacement in MENDED:
        for path in FOLDER.glob(f"{name}-*.js"):
            text, count = place.subn(replacement, path.read_text(encoding="utf-8"))
            if count:
                found[path.name] = text
    return found


def one_script(components: Iterable[str]) -> str:
    """Return one script that contains Gradio's small scripts and makes the browser use them."""
    loader = (assets() / "page" / "framework.js").read_text(encoding="utf-8")
    return f"window.labFramework = {json.dumps(scripts(components))};\n{loader}"
