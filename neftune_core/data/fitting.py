"""Shorten prompts to fit the context, with room for the answer.

The earliest turns are dropped first, then the beginning of the user's last message, then the system prompt. The list of
tools is kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from neftune_core.data.chat import prompt_ids
from neftune_core.data.examples import Message


class TokenLimits(NamedTuple):
    """Token limits of a prompt.

    Attributes:
        preferred: Leaves room for the longest answer, but for at most half the context.
        hard: Leaves room for one token of the answer.
    """

    preferred: int
    hard: int


class FittedPrompt(NamedTuple):
    """A prompt that fits the context.

    Attributes:
        ids: Token ids.
        cut: Whether the prompt was shortened.
    """

    ids: list[int]
    cut: bool = False


def token_limits(context: int, new_tokens: int, *, encoder_decoder: bool) -> TokenLimits:
    """Return the token limits of a prompt.

    Args:
        context: Context length of the model.
        new_tokens: Maximum length of the answer.
        encoder_decoder: Whether the model is an encoder-decoder, with separate limits for prompt and answer.

    Returns:
        The limits.
    """
    if encoder_decoder:
        return TokenLimits(context, context)
    return TokenLimits(context - min(new_tokens, context // 2), context - 1)


def fitted_prompt(
    messages: Sequence[Message], tokenizer: Any, limits: TokenLimits, *, thinking: bool = False, shorten: bool = True
) -> FittedPrompt | None:
    """Shorten a prompt until it fits.

    Args:
        messages: The messages before the reply. Only tool calls and results may follow the last user message.
        tokenizer: The model's tokenizer.
        limits: Token limits.
        thinking: Passed to `prompt_ids`.
        shorten: Whether the user's last message and the system prompt may be shortened. Otherwise only earlier turns
            are dropped, and the rest may take up to `limits.hard` tokens.

    Returns:
        The prompt; None if it cannot be shortened enough.

    Raises:
        DataError: If the model's chat template rejects the messages.
    """

    def ids(kept: Sequence[Message]) -> list[int]:
        return prompt_ids(_with_tools_of(messages, kept), tokenizer, thinking=thinking)

    whole = ids(messages)
    if len(whole) <= limits.preferred:
        return FittedPrompt(whole)
    system = [message for message in messages[:1] if message.role == "system"]
    starts = [index for index, message in enumerate(messages) if message.role == "user" and index > len(system)]
    for index in starts:
        shorter = ids([*system, *messages[index:]])
        if len(shorter) <= limits.preferred:
            return FittedPrompt(shorter, cut=True)
    last = messages[starts[-1] if starts else len(system) :]
    if not last:  # only a system prompt
        system, last = [], system
    if not shorten:
        rest = ids([*system, *last])
        return FittedPrompt(rest, cut=bool(starts)) if len(rest) <= limits.hard else None
    first, *after = last

    def longest(head: Sequence[Message]) -> list[int]:
        return _longest_ending(first, limits.preferred, lambda one: ids([*head, one, *after]))

    ending = longest(system) or (longest([]) if system else [])
    return FittedPrompt(ending, cut=True) if ending else None


def _with_tools_of(messages: Sequence[Message], kept: Sequence[Message]) -> Sequence[Message]:
    """Return the kept messages with the list of tools, which is stored on the first of `messages`."""
    tools = tuple(field for field in messages[0].fields if field[0] == "tools")
    first, *rest = kept
    if not tools or any(name == "tools" for name, _ in first.fields):
        return kept
    return [first._replace(fields=(*first.fields, *tools)), *rest]


def _longest_ending(message: Message, limit: int, ids: Callable[[Message], list[int]]) -> list[int]:
    """Return the tokens of the longest ending of a message, in characters, that fits; empty if none does."""

    def ending(count: int) -> list[int]:
        return ids(message._replace(content=message.content[-count:]))

    counts = range(1, len(message.content) + 1)
    kept = bisect_right(counts, limit, key=lambda count: len(ending(count)))
    while kept and len(ending(kept)) > limit:  # one more character can mean one token fewer
        kept -= 1
    return ending(kept) if kept else []
