"""Attacks on startup: settings that would lift a limit, and occupied ports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .target import Attack, Target

ROOT = Path(__file__).parents[2]


def _started(lab: Target, **variables: str) -> tuple[int, str]:
    """Start a lab with these variables; return its exit status and output."""
    own = {"NEFTUNE_HOME": str(lab.scratch / "start"), **variables}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr


def a_limit_that_is_open_because_it_is_wrong(lab: Target) -> None:
    """Start with malformed, out-of-range or misspelt limits."""
    for name, value in (
        ("NEFTUNE_LIMIT_STEPS", "-1"),
        ("NEFTUNE_LIMIT_STEP", "20"),
    ):  # a process each; `unit/ui/test_serve.py` tries many more values in one process
        status, said = _started(lab, **{name: value})
        assert status == 2, f"{name}={value} ended with status {status}"
        assert len(said.strip().splitlines()) == 1 and name in said, said


def a_port_that_is_taken(lab: Target) -> None:
    """Start on the port of another server."""
    port = lab.server.address.rpartition(":")[2].strip("/")
    status, said = _started(lab, GRADIO_SERVER_PORT=port)
    assert status == 2, f"it ended with status {status}"
    assert len(said.strip().splitlines()) == 1 and f"Port {port} is already in use" in said, said


ATTACKS: tuple[Attack, ...] = (a_limit_that_is_open_because_it_is_wrong, a_port_that_is_taken)
