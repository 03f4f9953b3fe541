"""Run commands and code exactly as the documentation gives them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

NEFTUNE = str(Path(sys.executable).with_name("neftune"))
"""Path of the installed `neftune` command, beside the interpreter."""


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a Markdown text in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def require_installed(requirements: Sequence[str]) -> None:
    """Assert that `pip install` with these requirements would change nothing."""
    for one in map(Requirement, requirements):
        assert one.specifier.contains(version(one.name).partition("+")[0]), one


def run_commands(commands: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run commands in a shell with the current Python and pip, and return their output.

    `pip install` commands are not run; their requirements must already be installed.

    Args:
        commands: The commands, one per line.
        folder: Working directory.
        environment: Environment variables to set in addition to the current ones.
    """
    lines = []
    for command in commands:
        if command.startswith("pip install "):
            require_installed([word.strip('"') for word in command.split()[2:]])
        else:
            lines.append(command)
    with tempfile.TemporaryDirectory() as programs:
        for name, words in {"python": "", "pip": "-m pip "}.items():
            program = Path(programs) / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n', encoding="utf-8")
            program.chmod(0o755)
        here = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", **(environment or {})}
        here.pop("PYTHONPATH", None)
        done = subprocess.run(
            ["sh", "-e", "-c", "\n".join(lines)], cwd=folder, env=here, capture_output=True, text=True, timeout=400
        )
    assert done.returncode == 0, done.stderr
    return done.stdout
