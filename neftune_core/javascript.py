"""Bundle the page's JavaScript modules into one script, for the page, its first view and reports."""

from __future__ import annotations

import re
from pathlib import Path

from neftune_core.home import assets

_IMPORT = re.compile(r'^import (?:(\{[^}]*\}|\* as \w+) from )?"(\.\.?/[\w./-]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|class|function)\*? (\w+))", re.MULTILINE)


def as_one(name: str) -> str:
    """Bundle a module and its imports into one script, in which each module keeps its own scope.

    Modules may import names (`import { short, read as readBox } from "./numbers.js";`) or a namespace
    (`import * as state from "./state.js";`), but not circularly. They must export constants, classes and functions in
    their declarations.

    Args:
        name: Path of the module relative to the assets, such as "page/first.js".

    Returns:
        The script.
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
    numbers = {known: number for number, known in enumerate(modules)}

    def as_constant(found: re.Match[str]) -> str:
        names, number = found[1], numbers[(path.parent / found[2]).resolve()]
        return f"const {names.removeprefix('* as ').replace(' as ', ': ')} = module{number};\n" if names else ""

    exported = ", ".join(found[1] for found in _EXPORT.finditer(text))
    body = _EXPORT.sub("", _IMPORT.sub(as_constant, text))
    modules[path] = f"const module{len(numbers)} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();\n"
