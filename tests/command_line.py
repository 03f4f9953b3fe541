"""Run the `neftune` command inside the test process, because the imports of a new process take seconds."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from neftune_core.cli import main


def neftune_here(*words: object, home: Path | None = None) -> CompletedProcess[str]:
    """Run `neftune` in this process, and undo its changes to logging and the environment.

    Args:
        words: The command and its options.
        home: Home folder, passed as an option; None uses the home folder of the environment.

    Returns:
        The exit status and the output.
    """
    command = ["neftune", *map(str, words), *(["--home", str(home)] if home else [])]
    log = logging.getLogger("neftune_core")
    before, propagate = [*log.handlers], log.propagate
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))  # like the streams of a terminal
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setenv("NEFTUNE_HOME", os.environ["NEFTUNE_HOME"])
        patch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
    for handler in {*log.handlers} - {*before}:
        log.removeHandler(handler)
        handler.close()
    log.propagate = propagate
    said = [_text_of(stream) for stream in (output, errors)]
    return CompletedProcess(command, int(end.value.code or 0), *said)


def _text_of(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
