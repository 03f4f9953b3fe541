"""What an example is, and what a row is that could not become one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

TEXT = "text"
"""The role of the two messages of a row that is a whole text: its opening and the rest."""


class Message(NamedTuple):
    """One turn of a conversation.

    Attributes:
        role: "system", "user", "assistant", "tool", or `TEXT`.
        content: Its text; "" for a reply that only calls tools.
        trained: Whether the loss is taken on it, if it is a reply.
        fields: What else a chat template reads of it, as names with their values as JSON text: `reasoning_content`,
            `tool_calls`, `name`, `tool_call_id`; on the first message also `tools`, those of the whole conversation.
    """

    role: str
    content: str
    trained: bool = True
    fields: tuple[tuple[str, str], ...] = ()


_PLAIN = (True, ())


@dataclass(frozen=True)
class Example:
    """One conversation whose last message is the assistant's; `row` is its 1-based place in its source."""

    messages: tuple[Message, ...]
    row: int

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Every message but the last."""
        return self.messages[:-1]

    def with_last_reply_only(self) -> Example:
        """The same conversation with its last reply alone trained on."""
        earlier = [turn._replace(trained=False) if turn.role == "assistant" else turn for turn in self.prompt]
        return Example((*earlier, self.messages[-1]), self.row)

    @property
    def response(self) -> str:
        """The text of the last message, with the calls of tools in it as JSON."""
        calls = [text for name, text in self.messages[-1].fields if name == "tool_calls"]
        return "\n".join(filter(None, [self.messages[-1].content, *calls]))


@dataclass(frozen=True)
class Refusal:
    """A row that is not used, and why, in a few plain words; `held_out` if it is a row of the own held-out file."""

    row: int
    reason: str
    held_out: bool = False


@dataclass(frozen=True)
class Duplicate:
    """A row that is left out since another row that stays has the same prompt and answer.

    Attributes:
        row: 1-based place of the row in its source.
        same_as: Place of the row that stays.
        held_out: Whether `row` is a row of the own held-out file.
        same_as_held_out: Whether `same_as` is one; a training row is also left out if only its prompt is held out.
    """

    row: int
    same_as: int
    held_out: bool = False
    same_as_held_out: bool = False


@dataclass(frozen=True)
class CutRow:
    """A row whose end did not fit, with the number of tokens that were removed from it."""

    row: int
    tokens_removed: int
    held_out: bool = False


class RowRefused(Exception):
    """Raised while a row is read; its text is the reason of the `Refusal`."""


def fingerprint(examples: Iterable[Example], day: str = "") -> str:
    """sha256 (hex) of the messages as canonical JSON, in order, and of the day that their template prints, if it does.

    Row numbers do not count.
    """
    digest = hashlib.sha256(f"{day}\n".encode() if day else b"")
    for example in examples:
        turns = [message if message[2:] != _PLAIN else message[:2] for message in example.messages]
        line = json.dumps(turns, ensure_ascii=False, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
