"""JavaScript modules of the page as one script, for what must contain its script: the first view and a report."""

from __future__ import annotations

import re
from pathlib import Path

from neftune_core.home import assets

_IMPORT = re.compile(r'^import (?:\{[^}]*\} from )?"(\.\.?/[\w./-]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const|let|class|function)", re.MULTILINE)


def as_one(name: str) -> str:
    """Return a module and all that it imports as one script with its own namespace.

    The modules import by plain names (`import { short } from "./numbers.js";`), and no two of them have the same name
    at their top level.

    Args:
        name: The module, relative to the assets, such as "page/first.js".
    """
    modules: dict[Path, str] = {}
    _collect((assets() / name).resolve(), modules)
    return '(() => {\n"use strict";\n' + "\n".join(modules.values()) + "})();\n"


def _collect(path: Path, modules: dict[Path, str]) -> None:
    """Add a module to `modules` after those that it imports."""
    if path in modules:
        return
    text = path.read_text(encoding="utf-8")
    for imported in _IMPORT.findall(text):
        _collect((path.parent / imported).resolve(), modules)
    modules[path] = _EXPORT.sub("", _IMPORT.sub("", text))
