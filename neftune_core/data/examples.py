"""What an example is, and what a row is that could not become one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Message(NamedTuple):
    """One turn. `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """One conversation whose last message is the assistant's; `row` is its 1-based place in its source."""

    messages: tuple[Message, ...]
    row: int

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Every message but the last."""
        return self.messages[:-1]

    @property
    def response(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content


@dataclass(frozen=True)
class Refusal:
    """A row that is not used, and why, in a few plain words."""

    row: int
    reason: str


class RowRefused(Exception):
    """Raised while a row is read; its text is the reason of the `Refusal`."""


def fingerprint(examples: Iterable[Example]) -> str:
    """sha256 (hex) of the messages as canonical JSON, in order; row numbers do not count."""
    digest = hashlib.sha256()
    for example in examples:
        line = json.dumps(example.messages, ensure_ascii=False, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
