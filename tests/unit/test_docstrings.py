"""Docstrings and documents: what functions take, return and raise, and references that lead somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).parents[2]
FILES = {file: file.read_text(encoding="utf-8") for file in (ROOT / "neftune_core").rglob("*.py")}
TREES = {file: ast.parse(text) for file, text in FILES.items()}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


def _public_functions() -> Iterator[tuple[str, Function, list[str], str]]:
    """Yield the public functions, methods and constructors with two or more arguments.

    Those of private classes and those inside functions are not called from other modules, and are left out. So are the
    other special methods, whose arguments Python or a protocol defines.

    Yields:
        The place, the node, the names of the arguments, and the docstring; that of a class belongs to its constructor.
    """
    for file, tree in TREES.items():
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
        owners: list[Documented] = [tree, *classes]
        for owner in owners:
            for node in owner.body:
                if isinstance(node, Function) and (node.name[0] != "_" or node.name == "__init__"):
                    names = _arguments(node)[isinstance(owner, ast.ClassDef) and not _has(node, "staticmethod") :]
                    documented: list[Documented] = [owner, node] if node.name == "__init__" else [node]
                    if len(names) > 1:
                        words = "\n\n".join(ast.get_docstring(one) or "" for one in documented)
                        yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", node, names, words


def _arguments(node: Function) -> list[str]:
    given = node.args
    every = (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg)
    return [one.arg for one in every if one is not None]


def _has(node: Function, decorator: str) -> bool:
    return any(ast.unparse(one) == decorator for one in node.decorator_list)


def _raised(node: ast.AST) -> Iterator[str]:
    """Yield the exceptions that a function raises itself, without those of functions inside it."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call):
            yield from re.findall(r"^\w*[A-Z]\w*$", ast.unparse(inner.exc.func))  # others are functions that choose one
        if not isinstance(inner, (Function, ast.Lambda, ast.ClassDef)):
            yield from _raised(inner)


def _sections(words: str) -> dict[str, list[str]]:
    """Return the entries of a docstring by section, such as the names of the arguments under `Args`."""
    parts = re.split(r"^(Args|Returns|Yields|Raises|Attributes):\n", words, flags=re.MULTILINE)
    return {
        head: re.findall(r"^    \*{0,2}([\w.]+)(?: \(.*?\))?:", body, re.MULTILINE)
        for head, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_functions_of_two_or_more_arguments_document_them_and_what_they_return_and_raise() -> None:
    """An implementation may refer to the method that it implements instead, by a closing "see `Class.method`"."""
    wrong, count = [], 0
    for place, node, names, words in _public_functions():
        if re.search(rf"see `\w+\.{node.name}`\.$", words):
            continue
        count += 1
        found = _sections(words)
        if found.get("Args") != names:
            wrong.append(f"{place}: Args {found.get('Args')}, not {names}")
        if node.returns and ast.unparse(node.returns) != "None" and not found.keys() & {"Returns", "Yields"}:
            wrong.append(f"{place}: Returns")
        unlisted = set(_raised(node)) - set(found.get("Raises", ()))
        if unlisted and "LabError" not in found.get("Raises", ()):
            wrong.append(f"{place}: Raises {unlisted}")
    assert wrong == []
    assert count > 600


def _is_documented(node: ast.AST) -> TypeGuard[Documented]:
    return isinstance(node, Documented)


def _names(tree: ast.AST) -> Iterator[str]:
    """Yield what is defined or used by name in a module."""
    for node in ast.walk(tree):
        for field in ("name", "id", "attr", "arg"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


def test_files_and_names_that_documents_and_docstrings_refer_to_exist() -> None:
    """Capitals in a path, as in `neftune_core/ui/tabs/NAME_tab.py`, stand for a name of the reader's choice."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "tests").rglob("*.md"), *(ROOT / "assets").rglob("*.md")]
    texts = FILES | {
        file: file.read_text(encoding="utf-8") for file in (*documents, *(ROOT / "assets/page").glob("*.js"))
    }
    paths = {
        path
        for text in texts.values()
        for path in re.findall(r"(?<![\w./])(?:neftune_core|assets|tests)/[\w./-]*\w", text)
    }
    assert sorted(path for path in paths if not (re.search("NAME|CODE", path) or (ROOT / path).exists())) == []
    assert len(paths) > 30
    known = {file.stem for file in FILES} | {name for tree in TREES.values() for name in _names(tree)}
    docstrings = [
        ast.get_docstring(node) or "" for tree in TREES.values() for node in ast.walk(tree) if _is_documented(node)
    ]
    referred = {name for words in docstrings for name in re.findall(r"(?:\bsee `|`(?=_[a-zA-Z]))([\w.]+)`", words)}
    assert sorted(name for name in referred if not set(name.split(".")) <= known) == []
    assert len(referred) > 30
