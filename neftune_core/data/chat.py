"""Conversations as tokens, and the mask of tokens that are trained on.

A conversation is rendered with the model's chat template, or with `plain_text.PLAIN` if the tokenizer has none.
Training and generation share the rendering: the tokens before a reply equal `prompt_ids` of the same messages.
The loss covers the tokens of every reply and the token that ends it.

Names of special tokens inside a row's text remain text (see `plain_text`). Prompts of an encoder-decoder use no
template (see `pairs`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from neftune_core.data.examples import TEXT, Example, Message, Refusal, RowRefused
from neftune_core.data.pairs import frame, source_ids, target_ids
from neftune_core.data.plain_text import MARK, any_of, marked, plain_rendering, special_names
from neftune_core.data.template_fields import (
    NO_FIELDS,
    RenderedFields,
    Turns,
    marked_message,
    probe,
    require_rendered,
    template_turns,
)
from neftune_core.errors import DataError
from neftune_core.language import say
from neftune_core.models.token_text import whole_text
from neftune_core.models.tokenizing import decoder_start

_PROBE = "Zq7"  # a reply that no template changes
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_THOUGHT = re.compile(r"\s*<think>\s*(?!</think>)\S")
_EMPTY = r"<think>\s*</think>\s*"
_EMPTY_AT_START, _EMPTY_AT_END = re.compile(rf"\A\s*{_EMPTY}"), re.compile(rf"{_EMPTY}\Z")
_EMPTY_BEFORE_ANOTHER = re.compile(rf"\A\s*{_EMPTY}(?=<think>)")
_OPENING_AT_START = re.compile(r"\A\s*<think>\s*")


@dataclass(frozen=True)
class Encoded:
    """An example as tokens.

    Attributes:
        ids: `[length]`, int32; for an encoder-decoder the decoder's tokens (its start token, then the reply).
        trained: `[length]`, bool; True for loss targets: tokens of replies, and the token that ends each.
        example: The example, including an added system message.
        tokens_removed: Number of tokens cut from its end.
        special: Ids of the tokenizer's special tokens.
        source: Tokens of the encoder, int32; None for a causal model.
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
        """Number of tokens that the model reads for this row."""
        return len(self.ids) + (0 if self.source is None else len(self.source))


@dataclass(frozen=True)
class _Rendering:
    """Properties of one tokenizer's template, found by probing.

    Attributes:
        template: The chat template; "" for none.
        beginning: Ids before a plain prompt.
        protected: Pattern for the names of special tokens.
        special: Ids of the special tokens.
        end: Text of the token that ends a reply; "" if none.
        suffix: Everything that follows a reply.
        takes_system: Whether a system message is rendered.
        rendered: Fields that the template renders besides message text.
    """

    template: str
    beginning: tuple[int, ...]
    protected: re.Pattern[str]
    special: frozenset[int]
    end: str
    suffix: str
    takes_system: bool
    rendered: RenderedFields


_renderings: WeakKeyDictionary[Any, _Rendering] = WeakKeyDictionary()


def encode(
    example: Example, tokenizer: Any, maximum_length: int, *, too_long: str = "truncate", system: str = ""
) -> Encoded | Refusal:
    """Tokenise an example, and mark the tokens to train on.

    All replies marked as trained are trained on if the template renders earlier replies consistently, otherwise only
    the last. Whole texts are trained on from their second token, without a template. For an encoder-decoder only the
    last reply is trained on.

    Args:
        example: The conversation or whole text.
        tokenizer: The model's tokenizer.
        maximum_length: Limit in tokens; for an encoder-decoder, of prompt and reply each.
        too_long: "truncate" cuts the end, and leaves the end-of-turn token untrained; "drop" refuses the row.
        system: System message for examples that have none.

    Returns:
        The tokens; or a `Refusal` if the row is too long, leaves no room for a reply, or the template rejects it.
    """
    example = Example(with_system(example.messages, system), example.row)
    try:
        ids, trained, source = _tokenised(example, tokenizer, maximum_length)
    except (RowRefused, DataError) as error:
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
    return Encoded(
        ids=np.array(ids[:length], dtype=np.int32),
        trained=np.array(trained[:length], dtype=np.bool_),
        example=example,
        tokens_removed=removed,
        special=_rendering(tokenizer).special,
        source=None if source is None else np.array(source, dtype=np.int32),
    )


def _tokenised(example: Example, tokenizer: Any, length_needed: int) -> tuple[list[int], list[bool], list[int] | None]:
    """Return the tokens, which are trained on, and the source of an encoder-decoder (None for a causal model)."""
    start = decoder_start(tokenizer)
    if _is_text(example.messages):
        ids = _whole_text_ids(example.messages, tokenizer)
        ids += [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        return ids, [False] + [True] * (len(ids) - 1), None
    require_rendered(example.messages, _rendering(tokenizer).rendered)
    if start is None:
        return *_labelled(example.messages, tokenizer, length_needed), None
    ids = target_ids(example.response, start, tokenizer)
    return ids, [False] + [True] * (len(ids) - 1), source_ids(example.prompt, tokenizer)


def with_system(messages: Sequence[Message], system: str) -> tuple[Message, ...]:
    """Prepend a system message, unless it is blank, the conversation has one, or it is a whole text.

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
        messages: The conversation, the last message being the user's.
        tokenizer: The model's tokenizer.
        thinking: Leave out the empty thinking block, because the reply has its own.

    Returns:
        Token ids that the model continues; for an encoder-decoder, those of its encoder.

    Raises:
        DataError: The model's template rejects the messages.
    """
    try:
        if _is_text(messages):
            return _whole_text_ids(messages, tokenizer)
        require_rendered(messages, _rendering(tokenizer).rendered)
        if decoder_start(tokenizer) is not None:
            return source_ids(messages, tokenizer)
        return _tokens(_opening(messages, tokenizer, thinking=thinking), tokenizer, begin=True)
    except RowRefused as refused:
        raise DataError(say("The prompt cannot be used: {reason}.", reason=refused)) from None


def takes_system(tokenizer: Any) -> bool:
    """Return whether the model's chat template renders a system prompt."""
    return _rendering(tokenizer).takes_system


def has_reasoning(reply: Message) -> bool:
    """Return whether a reply contains reasoning, in a thinking block or a field."""
    return bool(_THOUGHT.match(reply.content)) or any(name in _REASONING_FIELDS for name, _ in reply.fields)


def response_text(ids: Sequence[int], tokenizer: Any) -> str:
    """Decode a reply up to the first token that ends an answer, in whole characters.

    Args:
        ids: Token ids of the reply.
        tokenizer: The model's tokenizer.

    Returns:
        The text.
    """
    ending = end_ids(tokenizer)
    kept: list[int] = []
    for token in ids:
        if int(token) in ending:
            break
        kept.append(int(token))
    return whole_text(kept, tokenizer, skip_special_tokens=True)


def end_ids(tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer: end-of-sequence and the template's end-of-turn token."""
    end = _rendering(tokenizer).end
    found = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(end) if end else None}
    return {int(token) for token in found if token is not None}


def _labelled(messages: Sequence[Message], tokenizer: Any, length_needed: int) -> tuple[list[int], list[bool]]:
    """Return the tokens, and which are trained on; replies beyond `length_needed` may stay untrained."""
    replies = [index for index, message in enumerate(messages) if message.role == "assistant"]
    ids: list[int] = []
    trained: list[bool] = []
    for index in replies:
        before = _opening(messages[:index], tokenizer, thinking=has_reasoning(messages[index]))
        prompt = _tokens(before, tokenizer, begin=True)
        if prompt[: len(ids)] != ids:  # the template renders an earlier reply differently later on
            return _labelled_last(messages, tokenizer)
        trained += [False] * (len(prompt) - len(ids))
        ids = prompt + _reply_tokens(messages[: index + 1], before, prompt, tokenizer, last=index == replies[-1])
        trained += [messages[index].trained] * (len(ids) - len(prompt))
        if len(ids) > length_needed and index != replies[-1]:
            rest = _tokens(_text(messages, tokenizer, generation=False), tokenizer, begin=True)[len(ids) :]
            return ids + rest, trained + [False] * len(rest)
    return ids, trained


def _labelled_last(messages: Sequence[Message], tokenizer: Any) -> tuple[list[int], list[bool]]:
    before = _opening(messages[:-1], tokenizer, thinking=has_reasoning(messages[-1]))
    prompt = _tokens(before, tokenizer, begin=True)
    reply = _reply_tokens(messages, before, prompt, tokenizer, last=True)
    return prompt + reply, [False] * len(prompt) + [True] * len(reply)


def _is_text(messages: Sequence[Message]) -> bool:
    return bool(messages) and messages[0].role == TEXT


def _whole_text_ids(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """Tokenise a whole text, or its opening, with the tokenizer's own prefix."""
    if decoder_start(tokenizer) is not None:
        raise RowRefused(say("whole texts are for models without an encoder"))
    text = marked("".join(message.content for message in messages), _rendering(tokenizer).protected)
    return [*frame(tokenizer)[0], *_tokens(text, tokenizer, begin=False)]


def _after_common_lines(whole: str, before: str) -> str:
    """Return `whole` without the lines that it shares with the beginning of `before`."""
    pairs = zip(whole.splitlines(keepends=True), before.splitlines(keepends=True), strict=False)
    return whole[sum(len(line) for line, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) :]


def _reply_tokens(
    messages: Sequence[Message], before: str, prompt: list[int], tokenizer: Any, *, last: bool
) -> list[int]:
    """Return the tokens of the last message and its end of turn, as they follow the prompt (`before`, `prompt`)."""
    rendering = _rendering(tokenizer)
    whole = _text(messages, tokenizer, generation=False, thinking=has_reasoning(messages[-1]))
    if whole.startswith(before):
        reply = whole[len(before) :]
    elif messages[-1].fields:
        reply = _after_common_lines(whole, before)
    else:  # the generation prompt contains text that a finished answer lacks
        reply = marked(messages[-1].content, rendering.protected) + rendering.suffix
    reply = _without_repeated_thinking(before, reply)
    if rendering.end and rendering.end in reply:
        reply = reply[: reply.index(rendering.end) + len(rendering.end)]
    else:
        reply = reply.removesuffix(rendering.suffix)
    together = _tokens(before + reply, tokenizer, begin=True)
    # If tokens would merge across the boundary, tokenise the reply alone, as the prompt is when generating.
    alone = together[: len(prompt)] != prompt
    tokens = _tokens(reply, tokenizer, begin=False) if alone else together[len(prompt) :]
    ending = end_ids(tokenizer)
    if last and ending and (not tokens or tokens[-1] not in ending) and tokenizer.eos_token_id is not None:
        tokens = [*tokens, tokenizer.eos_token_id]
    return tokens


def _tokens(text: str, tokenizer: Any, *, begin: bool) -> list[int]:
    """Tokenise a marked text; `begin` prepends the ids before a plain prompt."""
    ids = list(_rendering(tokenizer).beginning) if begin else []
    for piece in text.split(MARK):
        ids += tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _text(messages: Sequence[Message], tokenizer: Any, *, generation: bool, thinking: bool = False) -> str:
    """Render `messages` with marks; with `generation`, up to where the assistant's reply begins."""
    rendering = _rendering(tokenizer)
    messages = [marked_message(turn, rendering.protected) for turn in messages]
    if not rendering.takes_system:
        messages = _with_merged_system(messages)
    more = {"enable_thinking": thinking}
    return _render(messages, tokenizer, rendering.template, rendering.rendered, generation=generation, **more)


def _opening(messages: Sequence[Message], tokenizer: Any, *, thinking: bool) -> str:
    """Render up to where the reply begins; for a reply with reasoning, without an empty thinking block."""
    text = _text(messages, tokenizer, generation=True, thinking=thinking)
    return _EMPTY_AT_END.sub("", text) if thinking else text


def _without_repeated_thinking(before: str, reply: str) -> str:
    """Remove an empty thinking block, or an opening tag, that duplicates one in `before`."""
    if _EMPTY_AT_END.search(before):
        return _EMPTY_AT_START.sub("", reply)
    if before.rstrip().endswith("<think>"):
        return _OPENING_AT_START.sub("", reply)
    return _EMPTY_BEFORE_ANOTHER.sub("", reply)


def _with_merged_system(messages: Sequence[Message]) -> list[Message]:
    """Merge a system message into the first user message."""
    if not messages or messages[0].role != "system":
        return list(messages)
    system, *rest = messages
    first = next((index for index, message in enumerate(rest) if message.role == "user"), None)
    if first is None:
        return [system._replace(role="user"), *rest]
    asked = rest[first]
    rest[first] = asked._replace(content=f"{system.content}\n\n{asked.content}", fields=system.fields + asked.fields)
    return rest


def _render(
    messages: Sequence[Message],
    tokenizer: Any,
    template: str,
    rendered: RenderedFields = NO_FIELDS,
    *,
    generation: bool,
    **more: Any,
) -> str:
    if not template:
        return plain_rendering(messages, tokenizer.eos_token or "", generation=generation)
    turns, tools = template_turns(messages, rendered)
    return _applied(turns, {**tools, **more}, tokenizer, generation=generation)


def _applied(turns: Turns, more: Mapping[str, Any], tokenizer: Any, *, generation: bool) -> str:
    more = {"enable_thinking": False, **more}
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation, **more)
    except Exception as error:  # templates are third-party code and may raise anything
        raise RowRefused(
            say("the model's chat template refuses it ({reason})", reason=str(error)[:100].strip())
        ) from None


def _rendering(tokenizer: Any) -> _Rendering:
    template = "" if decoder_start(tokenizer) is not None else getattr(tokenizer, "chat_template", None) or ""
    known = _renderings.get(tokenizer)
    if known is None or known.template != template:
        known = _renderings[tokenizer] = _probe(tokenizer, template)
    return known


def _probe(tokenizer: Any, template: str) -> _Rendering:
    question, reply = Message("user", "Hello"), Message("assistant", _PROBE)
    suffix = _render([question, reply], tokenizer, template, generation=False).rpartition(_PROBE)[2]
    special = special_names(tokenizer)
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
    end = _first_name(suffix, special) or _first_name(suffix, added)
    names = sorted({*special, *([end] if end else [])})
    return _Rendering(
        template=template,
        beginning=() if template else frame(tokenizer)[0],
        protected=any_of(names),
        special=frozenset(int(number) for number in tokenizer.convert_tokens_to_ids(names)),
        end=end,
        suffix=suffix,
        takes_system=_takes_system(tokenizer, template),
        rendered=_probe_fields(tokenizer) if template else NO_FIELDS,
    )


def _probe_fields(tokenizer: Any) -> RenderedFields:
    return probe(lambda turns, more, reply: _applied(turns, more, tokenizer, generation=reply))


def _first_name(text: str, names: Sequence[str]) -> str:
    found = any_of(names).search(text)
    return found.group(1) if found else ""


def _takes_system(tokenizer: Any, template: str) -> bool:
    """Return whether the template renders a system message; some raise an error, others drop it silently."""
    try:
        messages = [Message("system", _PROBE), Message("user", "Hello")]
        return _PROBE in _render(messages, tokenizer, template, generation=True)
    except RowRefused:
        return False
