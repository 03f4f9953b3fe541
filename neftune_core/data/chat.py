"""Tokenise conversations, and mask the tokens that are trained on.

Training and generation share the rendering (see `rendering`), so the tokens before a reply equal `prompt_ids` of the
same messages. The loss covers the tokens of every reply marked as trained, including its end token. Encoder-decoders
use no template (see `encoder_decoder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neftune_core.data.encoder_decoder import frame, source_ids, target_ids
from neftune_core.data.escaping import split_protected
from neftune_core.data.examples import TEXT, Example, Message, Refusal, UnusableRow
from neftune_core.data.rendering import (
    has_reasoning,
    opening,
    rendered_text,
    rendering_of,
    require_rendered,
    token_ids,
    without_repeated_thinking,
)
from neftune_core.errors import DataError
from neftune_core.language import say
from neftune_core.models.token_text import whole_text
from neftune_core.models.tokenizing import decoder_start


@dataclass(frozen=True)
class EncodedExample:
    """A tokenised example.

    Attributes:
        ids: `[length]`, int32; for an encoder-decoder, the decoder's tokens (its start token, then the reply).
        trained: `[length]`, bool; True for loss targets: the tokens of trained replies with their end tokens, or all
            tokens of a whole text except the first.
        example: The example, including an added system message.
        tokens_removed: Number of tokens cut from the end.
        special: Ids of the tokenizer's special tokens.
        source: Tokens of the encoder, `[source_length]`, int32; None for a causal model.
    """

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    example: Example
    tokens_removed: int = 0
    special: frozenset[int] = frozenset()
    source: NDArray[np.int32] | None = None

    @property
    def cut(self) -> bool:
        """Whether the end was cut."""
        return self.tokens_removed > 0

    @property
    def prompt_length(self) -> int:
        """Number of tokens before the first trained one; for an encoder-decoder, length of the source."""
        return int(np.argmax(self.trained)) if self.source is None else len(self.source)

    @property
    def length(self) -> int:
        """Number of tokens that the model processes for this row."""
        return len(self.ids) + (0 if self.source is None else len(self.source))


def encode(
    example: Example, tokenizer: Any, maximum_length: int, *, too_long: str = "truncate", system: str = ""
) -> EncodedExample | Refusal:
    """Tokenise an example, and mark the tokens to train on.

    All replies marked as trained are trained on if the template renders earlier replies consistently, otherwise only
    the last one. For an encoder-decoder, only the last reply is trained on. Whole texts are trained on from their
    second token, without a template.

    Args:
        example: The conversation or whole text.
        tokenizer: The model's tokenizer.
        maximum_length: Limit in tokens; for an encoder-decoder, on the prompt and on the reply separately.
        too_long: "truncate" cuts the end, including the end-of-turn token; "drop" refuses the row.
        system: System message for examples that have none.

    Returns:
        The tokens, or a `Refusal` if the row is too long, leaves no room for a reply, or cannot be rendered.
    """
    example = Example(with_system(example.messages, system), example.row)
    try:
        ids, trained, source = _tokenise(example, tokenizer, maximum_length)
    except (UnusableRow, DataError) as error:
        return Refusal(example.row, str(error).rstrip(".。"))
    if source is not None and len(source) > maximum_length:
        return Refusal(example.row, say("its prompt is longer than {most:,} tokens", most=maximum_length))
    removed = max(0, len(ids) - maximum_length)
    if removed and too_long == "drop":
        return Refusal(example.row, say("it is longer than {most:,} tokens", most=maximum_length))
    trained = trained[:maximum_length]
    if not any(trained):
        return Refusal(
            example.row, say("its prompt leaves no room for a reply within {most:,} tokens", most=maximum_length)
        )
    length = max(index for index, target in enumerate(trained) if target) + 1
    return EncodedExample(
        ids=np.array(ids[:length], dtype=np.int32),
        trained=np.array(trained[:length], dtype=np.bool_),
        example=example,
        tokens_removed=removed,
        special=rendering_of(tokenizer).special,
        source=None if source is None else np.array(source, dtype=np.int32),
    )


def _tokenise(example: Example, tokenizer: Any, length_needed: int) -> tuple[list[int], list[bool], list[int] | None]:
    """Return the tokens, the mask of trained tokens, and an encoder-decoder's source (None for a causal model)."""
    start = decoder_start(tokenizer)
    if _is_text(example.messages):
        ids = _whole_text_ids(example.messages, tokenizer)
        ids += [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        return ids, [False] + [True] * (len(ids) - 1), None
    require_rendered(example.messages, tokenizer)
    if start is None:
        return *_label(example.messages, tokenizer, length_needed), None
    ids = target_ids(example.response, start, tokenizer)
    return ids, [False] + [True] * (len(ids) - 1), source_ids(example.prompt, tokenizer)


def with_system(messages: Sequence[Message], system: str) -> tuple[Message, ...]:
    """Prepend a system message; do nothing if it is blank, or if the messages have one or are a whole text.

    Args:
        messages: The conversation.
        system: Text of the system message.

    Returns:
        The messages.
    """
    has_own = bool(messages) and messages[0].role in ("system", TEXT)
    own = tuple(messages)
    return own if has_own or not system.strip() else (Message("system", system), *own)


def prompt_ids(messages: Sequence[Message], tokenizer: Any, *, thinking: bool = False) -> list[int]:
    """Tokenise the messages before a reply.

    Args:
        messages: The messages before the reply.
        tokenizer: The model's tokenizer.
        thinking: Whether to leave out an empty thinking block, because the reply contains a thinking block.

    Returns:
        Token ids for the model to continue; for an encoder-decoder, the input of the encoder.

    Raises:
        DataError: If the messages cannot be rendered for the model, such as with unsupported fields.
    """
    try:
        if _is_text(messages):
            return _whole_text_ids(messages, tokenizer)
        require_rendered(messages, tokenizer)
        if decoder_start(tokenizer) is not None:
            return source_ids(messages, tokenizer)
        return token_ids(opening(messages, tokenizer, thinking=thinking), tokenizer, begin=True)
    except UnusableRow as refused:
        raise DataError(say("The prompt cannot be used: {reason}.", reason=refused)) from None


def response_text(ids: Sequence[int], tokenizer: Any) -> str:
    """Decode a reply up to its first end token, without an incomplete last character.

    Args:
        ids: Token ids of the reply.
        tokenizer: The model's tokenizer.

    Returns:
        The text.
    """
    ending = end_ids(tokenizer)
    reply = list(takewhile(lambda token: token not in ending, map(int, ids)))
    return whole_text(reply, tokenizer, skip_special_tokens=True)


def end_ids(tokenizer: Any) -> set[int]:
    """Return the ids of the tokens that end an answer: end-of-sequence and the template's end-of-turn token."""
    end = rendering_of(tokenizer).end
    found = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(end) if end else None}
    return {int(token) for token in found if token is not None}


def _label(
    messages: Sequence[Message], tokenizer: Any, length_needed: int, *, only_last: bool = False
) -> tuple[list[int], list[bool]]:
    """Return the tokens and the mask of trained tokens; replies beyond `length_needed` may be masked."""
    replies = [index for index, message in enumerate(messages) if message.role == "assistant"]
    ids: list[int] = []
    trained: list[bool] = []
    for index in replies[-1:] if only_last else replies:
        before = opening(messages[:index], tokenizer, thinking=has_reasoning(messages[index]))
        prompt = token_ids(before, tokenizer, begin=True)
        if prompt[: len(ids)] != ids:  # the template renders an earlier reply differently in a longer conversation
            return _label(messages, tokenizer, length_needed, only_last=True)
        trained += [False] * (len(prompt) - len(ids))
        ids = prompt + _reply_tokens(messages[: index + 1], before, prompt, tokenizer, last=index == replies[-1])
        trained += [messages[index].trained] * (len(ids) - len(prompt))
        if len(ids) > length_needed and index != replies[-1]:
            rest = token_ids(rendered_text(messages, tokenizer, generation=False), tokenizer, begin=True)[len(ids) :]
            return ids + rest, trained + [False] * len(rest)
    return ids, trained


def _is_text(messages: Sequence[Message]) -> bool:
    return bool(messages) and messages[0].role == TEXT


def _whole_text_ids(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """Tokenise a whole text, or its opening, with the tokenizer's own prefix.

    Raises:
        UnusableRow: If the model has an encoder.
    """
    if decoder_start(tokenizer) is not None:
        raise UnusableRow(say("whole texts can only be used with models without an encoder"))
    text = split_protected("".join(message.content for message in messages), rendering_of(tokenizer).protected)
    return [*frame(tokenizer)[0], *token_ids(text, tokenizer, begin=False)]


def _after_common_lines(whole: str, before: str) -> str:
    """Return `whole` without the lines that it shares with the beginning of `before`."""
    pairs = zip(whole.splitlines(keepends=True), before.splitlines(keepends=True), strict=False)
    return whole[sum(len(line) for line, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) :]


def _reply_tokens(
    messages: Sequence[Message], before: str, prompt: list[int], tokenizer: Any, *, last: bool
) -> list[int]:
    """Return the tokens of the last message, including its end token, after a prompt (`before` is its text)."""
    rendering = rendering_of(tokenizer)
    whole = rendered_text(messages, tokenizer, generation=False, thinking=has_reasoning(messages[-1]))
    if whole.startswith(before):
        reply = whole[len(before) :]
    elif messages[-1].fields:
        reply = _after_common_lines(whole, before)
    else:  # the generation prompt contains text that is missing from a finished answer
        reply = split_protected(messages[-1].content, rendering.protected) + rendering.suffix
    reply = without_repeated_thinking(before, reply)
    if rendering.end and rendering.end in reply:
        reply = reply[: reply.index(rendering.end) + len(rendering.end)]
    else:
        reply = reply.removesuffix(rendering.suffix)
    tokens = token_ids(before + reply, tokenizer, begin=True)
    # If tokens would merge across the boundary, tokenise the reply alone, as generation tokenises the prompt alone.
    merges = tokens[: len(prompt)] != prompt
    tokens = token_ids(reply, tokenizer, begin=False) if merges else tokens[len(prompt) :]
    ending = end_ids(tokenizer)
    if last and ending and (not tokens or tokens[-1] not in ending) and tokenizer.eos_token_id is not None:
        tokens = [*tokens, tokenizer.eos_token_id]
    return tokens
