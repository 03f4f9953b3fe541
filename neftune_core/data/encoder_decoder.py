"""Source and target of an encoder-decoder.

No chat template is used. The source is the user's message as plain text, preceded by any system message and earlier
turns. The target is the reply. Both have the tokenizer's own special tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from neftune_core.data.escaping import MARK, any_of, special_names, split_protected
from neftune_core.data.examples import Message

TURNS = {"user": "User: {content}", "assistant": "Assistant: {content}"}
"""Format of each turn in a prompt with several turns."""

SOURCE, TARGET = "text", "text_target"  # tokenizer arguments; some tokenizers have separate vocabularies

Frame = tuple[tuple[int, ...], tuple[int, ...]]

_frames_and_patterns: WeakKeyDictionary[Any, tuple[dict[str, Frame], re.Pattern[str]]] = WeakKeyDictionary()
"""The ids that each tokenizer adds around a text, and a pattern for its special tokens."""


def source_text(messages: Sequence[Message]) -> str:
    """Return the encoder's text for the messages before a reply."""
    system = [message.content for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    texts = [turn.content if len(turns) == 1 else TURNS[turn.role].format(content=turn.content) for turn in turns]
    return "\n\n".join([*system, *(["\n".join(texts)] if turns else [])])


def source_ids(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """Tokenise the messages before a reply for the encoder.

    Args:
        messages: The conversation without the reply.
        tokenizer: The model's tokenizer.

    Returns:
        Token ids.

    Raises:
        UnusableRow: If the text contains a special token that cannot be escaped.
    """
    return _tokens(source_text(messages), tokenizer, SOURCE)


def target_ids(reply: str, start: int, tokenizer: Any) -> list[int]:
    """Tokenise a reply for the decoder.

    Args:
        reply: Text of the reply.
        start: The decoder's start token.
        tokenizer: The model's tokenizer.

    Returns:
        `start`, followed by the ids of the reply with the tokenizer's own special tokens.
    """
    return [start, *_tokens(reply, tokenizer, TARGET)]


def frame(tokenizer: Any, side: str = SOURCE) -> Frame:
    """Return the ids that the tokenizer adds around a text.

    Args:
        tokenizer: The model's tokenizer.
        side: `SOURCE` or `TARGET`.

    Returns:
        The ids before the text, and the ids after it.
    """
    plain = tokenizer(**{side: "a"}, add_special_tokens=False)["input_ids"]
    whole = tokenizer(**{side: "a"}, add_special_tokens=True)["input_ids"]
    starts = (index for index in range(len(whole)) if whole[index : index + len(plain)] == plain)
    start = next(starts, 0)
    return tuple(whole[:start]), tuple(whole[start + len(plain) :])


def _tokens(text: str, tokenizer: Any, side: str) -> list[int]:
    if tokenizer not in _frames_and_patterns:
        frames = {name: frame(tokenizer, name) for name in (SOURCE, TARGET)}
        _frames_and_patterns[tokenizer] = frames, any_of(special_names(tokenizer))
    frames, protected = _frames_and_patterns[tokenizer]
    before, after = frames[side]
    ids = list(before)
    for piece in split_protected(text, protected).split(MARK):
        ids += tokenizer(**{side: piece}, add_special_tokens=False, verbose=False)["input_ids"]
    return [*ids, *after]
