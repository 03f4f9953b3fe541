"""What an encoder-decoder reads and writes: a source for its encoder, and a target for its decoder.

No chat template is used. The source is the message of the user, as plain text and with the special tokens that the
tokenizer itself puts around a text; a system message and earlier turns come before it. The target is the reply.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from neftune_core.data.examples import Message
from neftune_core.data.plain_text import MARK, any_of, marked, special_names

TURNS = {"user": "User: {content}", "assistant": "Assistant: {content}"}
"""How turns are told apart where a prompt has more than one; a single one stands for itself."""

SOURCE, TARGET = "text", "text_target"  # what tokenizers call the two: some have a vocabulary for each

Frame = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class _Habits:
    """What one tokenizer does, found by trying it once: what it puts around a text, and which names it protects."""

    frames: dict[str, Frame]
    protected: re.Pattern[str]


_habits: WeakKeyDictionary[Any, _Habits] = WeakKeyDictionary()


def source_text(messages: Sequence[Message]) -> str:
    """The text that the encoder reads, for the messages before a reply."""
    system = [message.content for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if len(turns) > 1:
        said = "\n".join(TURNS[turn.role].format(content=turn.content) for turn in turns)
        return "\n\n".join([*system, said])
    return "\n\n".join([*system, *(turn.content for turn in turns)])


def source_ids(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """The tokens that the encoder reads; raises `RowRefused` for a text that cannot stay text."""
    return _tokens(source_text(messages), tokenizer, SOURCE)


def target_ids(reply: str, start: int, tokenizer: Any) -> list[int]:
    """The tokens of the decoder: `start`, and the reply with what the tokenizer puts around a target."""
    return [start, *_tokens(reply, tokenizer, TARGET)]


def frame(tokenizer: Any, side: str = SOURCE) -> Frame:
    """The ids that the tokenizer itself puts before and after a text, or a target."""
    plain = tokenizer(**{side: "a"}, add_special_tokens=False)["input_ids"]
    whole = tokenizer(**{side: "a"}, add_special_tokens=True)["input_ids"]
    places = (place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)
    start = next(places, 0)
    return tuple(whole[:start]), tuple(whole[start + len(plain) :])


def _tokens(text: str, tokenizer: Any, side: str) -> list[int]:
    known = _habits.get(tokenizer)
    if known is None:
        frames = {name: frame(tokenizer, name) for name in (SOURCE, TARGET)}
        known = _habits[tokenizer] = _Habits(frames, any_of(special_names(tokenizer)))
    before, after = known.frames[side]
    ids = list(before)
    for piece in marked(text, known.protected).split(MARK):
        ids += tokenizer(**{side: piece}, add_special_tokens=False, verbose=False)["input_ids"]
    return [*ids, *after]
