"""Run the example notebook and store its outputs: `python -m tests.tools.notebook assets/docs/example.ipynb`.

The study is recorded in a temporary folder. No Jupyter is needed: the value of a final expression is shown as Jupyter
shows it.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import pprint
import sys
import tempfile
from pathlib import Path
from typing import Any


def executed(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the code cells in order.

    Args:
        cells: The cells of a notebook.

    Returns:
        The cells with new outputs.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    found, count = [], 0
    for cell in cells:
        if cell["cell_type"] == "code":
            count += 1
            cell = {**cell, "execution_count": count, "outputs": _outputs("".join(cell["source"]), names, count)}
        found.append(cell)
    return found


def _outputs(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run one cell; return its printed text and the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())})
    if value is not None:
        shown = {"data": _shown(value), "execution_count": count, "metadata": {}, "output_type": "execute_result"}
        outputs.append(shown)
    return outputs


def _shown(value: Any) -> dict[str, list[str]]:
    html = {"text/html": _lines(value._repr_html_())} if hasattr(value, "_repr_html_") else {}
    plain = pprint.pformat(value, sort_dicts=False) if type(value).__repr__ is list.__repr__ else repr(value)
    return {**html, "text/plain": _lines(plain)}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    notebook = json.loads(file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NEFTUNE_HOME"] = folder
        notebook["cells"] = executed(notebook["cells"])
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
