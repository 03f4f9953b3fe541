"""The log of a served lab: a file in its home folder, of limited size and without secrets."""

from __future__ import annotations

import logging
import os
import re
from logging.handlers import RotatingFileHandler

from neftune_core.data.formats.sandboxed_reader import is_secret
from neftune_core.home import home

LARGEST_BYTES = 5_000_000
LONGEST_ENTRY = 20_000
SHORTEST_SECRET = 8
_SECRETS = re.compile(
    r"\b[0-9a-f]{64}\b|\b(?:hf|api_org|sk|pk|ghp|gho|ghs|github_pat|glpat|xox[abprs]|npm)[_\-][\w\-]{16,}|\bAKIA[0-9A-Z]{16}\b|"
    r"(?<=[Bb]earer )[\w.\-~+/=]{8,}|(?<=://)[^\s/:@]*:[^\s/@]+(?=@)|"
    r"(?<=key=)[^\s&\"']{8,}|(?<=token=)[^\s&\"']{8,}|(?<=password=)[^\s&\"']+"
)
"""Secrets in any text: visitors' keys, API keys by their usual prefixes, and passwords in URLs."""


class SecretFilter(logging.Formatter):
    """Formatter that replaces secrets of the environment, visitors' keys and API keys with [secret]."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if len(text) > LONGEST_ENTRY:
            text = f"{text[: LONGEST_ENTRY // 2]}\n[...]\n{text[-LONGEST_ENTRY // 2 :]}"
        text = _SECRETS.sub("[secret]", text)
        for name, value in os.environ.items():
            if is_secret(name) and len(value.strip()) >= SHORTEST_SECRET:
                text = text.replace(value, "[secret]").replace(value.strip(), "[secret]")
        return text


def log_to_file() -> None:
    """Log messages and warnings of this process to `lab.log` in `home()`, not to the terminal."""
    file = RotatingFileHandler(
        home() / "lab.log", maxBytes=LARGEST_BYTES, backupCount=1, delay=True, encoding="utf-8", errors="replace"
    )
    file.setFormatter(SecretFilter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [file]
    own = logging.getLogger("neftune_core")
    own.handlers, own.propagate = [], True
    logging.captureWarnings(True)
