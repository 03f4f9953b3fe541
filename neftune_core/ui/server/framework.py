"""Combine about eighty style sheets and small scripts of Gradio into two files, and patch two slow scripts."""

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
"""Maximum size in bytes of combined style sheets; larger ones belong to an editor that the page does not use."""
LARGEST_SCRIPT = 4_500
"""Maximum size in bytes of combined scripts; larger ones are faster to fetch and compile in parallel."""
SPECIFIER = "framework/"
"""Prefix that replaces `./` in the imports of combined scripts (assets/page/framework.js)."""
_RELATIVE = re.compile(r"""url\((["']?)(?:\./)?(?!data:|["'#/]|\w+:)""")
_ENTRY = re.compile(r'<script type="module"[^>]*src="\./assets/([^"]+)"')
_STATIC = re.compile(r'\b(from|import)"\./([^"]+\.js)"')
_COMPONENT = re.compile(r"\b(\w+):\{[^{}]*?component:\(\)=>\w+\(\(\)=>import\(`\./([^`]+)`\)[^{}]*\}")
_SHELL = re.compile(r"import\(`\./((?:Index|Blocks)-[^`]+)`\)")
PATCHES = (
    # While the page opens, Gradio searches the tree of components twice per event for the component whose properties
    # the event sets, even if it sets none. These searches took half of the scripts' time.
    ("Blocks", re.compile(r"async set_event_args\(\w+,(\w+)\)\{"), r"\g<0>if(!Object.keys(\1).length)return()=>{};"),
    # The clock next to "Loading..." continues after the page has opened, and drew every frame as long as the page was
    # open, which took a quarter of a core. Now it ends with its component.
    (
        "statustracker",
        re.compile(r"(\w+)\(\(\)=>\{\w+\.status===`pending`\?\w+\(\):\w+\(\(\)=>\{(\w+)\(\)\}\)\}\)"),
        r"\1(()=>\2),\g<0>",
    ),
)
"""Patches of Gradio's scripts that save time and change nothing else: script, pattern and replacement."""


def sheets() -> Mapping[str, Path]:
    """Return Gradio's style sheets by the URL that its scripts use, basic ones first."""
    found = [path for path in FOLDER.glob("*.css") if path.stat().st_size < LARGEST_SHEET]
    basic = sorted(found, key=lambda path: (not path.name.startswith(("index-", "core-")), path.name))
    return {f"./assets/{path.name}": path for path in basic}


def one_sheet() -> str:
    """Combine Gradio's style sheets into one, which is served two levels below the root of the page."""
    texts = (path.read_text(encoding="utf-8") for path in sheets().values())
    return "\n".join(_RELATIVE.sub(r"url(\1../../assets/", sheet) for sheet in texts)


def scripts(components: Iterable[str]) -> dict[str, str]:
    """Return Gradio's small scripts for a page with `components`, by file name; their imports begin with `SPECIFIER`.

    Components have names such as "textbox". Scripts that depend on their own URL, or import others dynamically, are
    omitted.
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
def patched_scripts() -> dict[str, str]:
    """Return the patched scripts of Gradio by file name; those without a pattern of `PATCHES` are omitted."""
    found = {}
    for name, pattern, replacement in PATCHES:
        for path in FOLDER.glob(f"{name}-*.js"):
            text, count = pattern.subn(replacement, path.read_text(encoding="utf-8"))
            if count:
                found[path.name] = text
    return found


def one_script(components: Iterable[str]) -> str:
    """Return one script that contains Gradio's small scripts and makes the browser use them."""
    loader = (assets() / "page" / "framework.js").read_text(encoding="utf-8")
    return f"window.labFramework = {json.dumps(scripts(components))};\n{loader}"
