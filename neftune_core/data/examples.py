"""Examples, and rows that cannot be used or are left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

TEXT = "text"
"""Role of both messages of a whole-text row: the opening of the text, and the rest."""


class Message(NamedTuple):
    """One turn of a conversation.

    Attributes:
        role: "system", "user", "assistant", "tool", or `TEXT`.
        content: Text; "" for a reply that only calls tools.
        trained: For a reply, whether the loss covers it.
        fields: Other input for a chat template, as (name, JSON text): `reasoning_content`, `tool_calls`, `name`,
            `tool_call_id`; on the first message also `tools`, for the whole conversation.
    """

    role: str
    content: str
    trained: bool = True
    fields: tuple[tuple[str, str], ...] = ()


def as_context(messages: Iterable[Message]) -> list[Message]:
    """Return the messages with all replies marked as untrained."""
    return [turn._replace(trained=False) if turn.role == "assistant" else turn for turn in messages]


@dataclass(frozen=True)
class Example:
    """A whole text, or a conversation that ends with the assistant's reply.

    Attributes:
        messages: The turns; two messages with the role `TEXT` for a whole text.
        row: 1-based number of the row in its source.
    """

    messages: tuple[Message, ...]
    row: int

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All messages but the last."""
        return self.messages[:-1]

    def with_last_reply_only(self) -> Example:
        """Return the conversation with only its last reply trained on."""
        return Example((*as_context(self.prompt), self.messages[-1]), self.row)

    @property
    def response(self) -> str:
        """Text of the last message, with its tool calls as JSON."""
        calls = [text for name, text in self.messages[-1].fields if name == "tool_calls"]
        return "\n".join(filter(None, [self.messages[-1].content, *calls]))


@dataclass(frozen=True)
class Refusal:
    """A row that cannot be used.

    Attributes:
        row: 1-based number of the row in its source.
        reason: Why the row cannot be used.
        held_out: Whether the source is the separate held-out file.
    """

    row: int
    reason: str
    held_out: bool = False


@dataclass(frozen=True)
class Duplicate:
    """A row that is left out because another row has the same prompt and answer.

    Attributes:
        same_as: Number of the row that is kept.
        held_out: Whether `row` is in a separate held-out file.
        same_as_held_out: Whether `same_as` is in that file; a training row is then left out even if only its prompt is
            the same.
    """

    row: int
    same_as: int
    held_out: bool = False
    same_as_held_out: bool = False


@dataclass(frozen=True)
class CutRow:
    """A row that was cut to the maximum length.

    Attributes:
        row: 1-based number of the row in its source.
        tokens_removed: Number of tokens cut from the end.
        held_out: Whether the source is the separate held-out file.
    """

    row: int
    tokens_removed: int
    held_out: bool = False


class UnusableRow(Exception):
    """Raised if a row cannot be used; the message becomes the reason in its `Refusal`."""


def fingerprint(examples: Iterable[Example], day: str = "") -> str:
    """Return a hash of examples that does not depend on their row numbers.

    Args:
        examples: The examples, in order.
        day: Date that the chat template renders; "" if none.

    Returns:
        SHA-256 of the day and the messages as canonical JSON, in hex.
    """
    digest = hashlib.sha256(f"{day}\n".encode() if day else b"")
    for example in examples:
        turns = [message[:2] if message[2:] == (True, ()) else message for message in example.messages]
        line = json.dumps(turns, ensure_ascii=False, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
