"""Prompts that fit what a model can read, with room for the answer; longer ones lose their beginning.

The earliest turns go first, then the beginning of the last message, then the system prompt.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.data.chat import prompt_ids
from neftune_core.data.examples import Message


@dataclass(frozen=True)
class Room:
    """The tokens that a prompt may have.

    Attributes:
        wanted: With room for the whole answer, or for one of half the context if the answer may be longer.
        most: With room for a single token of the answer.
    """

    wanted: int
    most: int


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt that fits: its tokens, and whether something of its beginning was left out."""

    ids: list[int]
    cut: bool = False


def room_for(context: int, new_tokens: int, *, encoder_decoder: bool) -> Room:
    """Return the room for a prompt in a model that reads `context` tokens and is to write up to `new_tokens`.

    The answer of an encoder-decoder takes nothing from its prompt.
    """
    if encoder_decoder:
        return Room(context, context)
    return Room(context - min(new_tokens, context // 2), context - 1)


def fitted_prompt(
    messages: Sequence[Message], tokenizer: Any, room: Room, *, thinking: bool = False, shorten: bool = True
) -> FittedPrompt | None:
    """Return the tokens of a prompt that fit into `room`, or None if no part of its last message does.

    Args:
        messages: The messages before the reply, the last one the user's.
        tokenizer: The model's tokenizer.
        room: What fits.
        thinking: As for `prompt_ids`.
        shorten: Whether the last message may lose its beginning, and the system prompt. If not, earlier turns alone
            are left out, and the rest may take all the room there is.

    Raises:
        DataError: If the model's chat template refuses these messages.
    """

    def ids(kept: Sequence[Message]) -> list[int]:
        return prompt_ids(kept, tokenizer, thinking=thinking)

    whole = ids(messages)
    if len(whole) <= room.wanted:
        return FittedPrompt(whole)
    system = [message for message in messages[:1] if message.role == "system"]
    starts = [place for place, message in enumerate(messages) if message.role == "user" and place > len(system)]
    for place in starts:
        shorter = ids([*system, *messages[place:]])
        if len(shorter) <= room.wanted:
            return FittedPrompt(shorter, cut=True)
    last = messages[starts[-1] if starts else len(system) :]
    if not shorten:
        rest = ids([*system, *last])
        return FittedPrompt(rest, cut=bool(starts)) if len(rest) <= room.most else None
    for head in (system, []) if system else ([],):
        ending = _longest_ending(last[-1], room, lambda message, head=head: ids([*head, message]))  # type: ignore[misc]
        if ending:
            return FittedPrompt(ending, cut=True)
    return None


def _longest_ending(message: Message, room: Room, ids: Callable[[Message], list[int]]) -> list[int]:
    """The tokens with the longest ending of a message's text that fits, by characters; none if not even one fits."""

    def ending(count: int) -> list[int]:
        return ids(message._replace(content=message.content[-count:]))

    counts = range(1, len(message.content) + 1)
    kept = bisect_right(counts, room.wanted, key=lambda count: len(ending(count)))
    while kept and len(ending(kept)) > room.wanted:  # a character more may be a token less
        kept -= 1
    return ending(kept) if kept else []
