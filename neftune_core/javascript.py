"""Bundle JavaScript modules of the page as one script, for fewer requests, for the first view and for reports."""

from __future__ import annotations

import re
from pathlib import Path

from neftune_core.home import assets

_IMPORT = re.compile(r'^import (?:(\{[^}]*\}|\* as \w+) from )?"(\.\.?/[\w./-]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|class|function)\*? (\w+))", re.MULTILINE)


def as_one(name: str) -> str:
    """Return a module and everything that it imports as one script, in which each module keeps its own scope.

    Modules import static names (`import { short, read as readBox } from "./numbers.js";`) or everything
    (`import * as state from "./state.js";`), never circularly, and export constants, classes and functions where they
    are declared.

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
    for found in _IMPORT.finditer(text):
        _collect((path.parent / found[2]).resolve(), modules)
    places = {known: place for place, known in enumerate(modules)}

    def taken(found: re.Match[str]) -> str:
        what, place = found[1], places[(path.parent / found[2]).resolve()]
        return f"const {what.removeprefix('* as ').replace(' as ', ': ')} = module{place};\n" if what else ""

    exported = ", ".join(found[1] for found in _EXPORT.finditer(text))
    body = _EXPORT.sub("", _IMPORT.sub(taken, text))
    modules[path] = f"const module{len(places)} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();\n"
