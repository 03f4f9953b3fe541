"""Conversations to tokens, and which of them are trained on.

A conversation is rendered by the model's own chat template, or by `plain_text.PLAIN` where the tokenizer has none.
Training and answering share the rendering: the tokens before a reply are those of `prompt_ids` for the same
messages, one by one. The loss is taken on the tokens of every reply and on the token that ends it.

Names of special tokens inside a row's text are kept as text (see `plain_text`). An encoder-decoder reads its prompt
without a template (see `pairs`).
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
    NOTHING,
    Turns,
    Writes,
    marked_message,
    require_written,
    template_turns,
    tried,
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

    ids: int32 `[length]`; trained: bool `[length]`, True where the token is a loss target (tokens of replies and
    the token that ends them); example: with the system message that was put before it; tokens_removed: how many
    tokens of its end did not fit; special: the ids of the tokenizer's special tokens.

    For an encoder-decoder, source (int32) is what the encoder reads, and ids are the decoder's: the token it starts
    from, then the reply, all of which is trained on.
    """

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    example: Example
    tokens_removed: int = 0
    special: frozenset[int] = frozenset()
    source: NDArray[np.int32] | None = None

    @property
    def cut(self) -> bool:
        """Whether its end did not fit."""
        return self.tokens_removed > 0

    @property
    def prompt_length(self) -> int:
        """Tokens before the first one that is trained on; those of the source for an encoder-decoder."""
        return int(np.argmax(self.trained)) if self.source is None else len(self.source)

    @property
    def length(self) -> int:
        """Tokens that a model reads in this row."""
        return len(self.ids) + (0 if self.source is None else len(self.source))


@dataclass(frozen=True)
class _Rendering:
    """What one tokenizer's template does, found by trying it once.

    beginning: ids put before a plain prompt; protected: a pattern of the names of special tokens, and special their
    ids; end: the text of the token that ends a reply ("" if none); suffix: all that follows a reply; takes_system:
    whether a system message is rendered; writes: what it writes beside the text of messages.
    """

    template: str
    beginning: tuple[int, ...]
    protected: re.Pattern[str]
    special: frozenset[int]
    end: str
    suffix: str
    takes_system: bool
    writes: Writes


_renderings: WeakKeyDictionary[Any, _Rendering] = WeakKeyDictionary()


def encode(
    example: Example, tokenizer: Any, maximum_length: int, *, too_long: str = "truncate", system: str = ""
) -> Encoded | Refusal:
    """The tokens of `example`, at most `maximum_length`, with `system` before it if it has no system message.

    Every reply that its message leaves trained is trained on where the template renders earlier replies in one way
    only; else the last alone. Rows of whole texts are trained on from their second token on, without a template.
    A longer example is cut at its end (`too_long="truncate"`; its end-of-turn token then goes untrained, since
    the answer does not end there) or refused ("drop"). Refused as well: no room for a reply, and what the
    template refuses. Of an encoder-decoder the last reply is trained on, and the length bounds prompt and reply each.
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
    length = max(place for place, target in enumerate(trained) if target) + 1
    return Encoded(
        ids=np.array(ids[:length], dtype=np.int32),
        trained=np.array(trained[:length], dtype=np.bool_),
        example=example,
        tokens_removed=removed,
        special=_rendering(tokenizer).special,
        source=None if source is None else np.array(source, dtype=np.int32),
    )


def _tokenised(example: Example, tokenizer: Any, enough: int) -> tuple[list[int], list[bool], list[int] | None]:
    """Tokens, which of them are trained on, and the source of an encoder-decoder (None for a causal model)."""
    start = decoder_start(tokenizer)
    if _is_text(example.messages):
        ids = _whole_text_ids(example.messages, tokenizer)
        ids += [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        return ids, [False] + [True] * (len(ids) - 1), None
    require_written(example.messages, _rendering(tokenizer).writes)
    if start is None:
        return *_labelled(example.messages, tokenizer, enough), None
    ids = target_ids(example.response, start, tokenizer)
    return ids, [False] + [True] * (len(ids) - 1), source_ids(example.prompt, tokenizer)


def with_system(messages: Sequence[Message], system: str) -> tuple[Message, ...]:
    """The messages with `system` put before them, if there is such a text and they are not a whole text or have one."""
    has_own = bool(messages) and messages[0].role in ("system", TEXT)
    own = tuple(messages)
    return own if has_own or not system.strip() else (Message("system", system), *own)


def prompt_ids(messages: Sequence[Message], tokenizer: Any, *, thinking: bool = False) -> list[int]:
    """The tokens after which the model writes its reply to `messages` (the last is the user's).

    With `thinking` the prompt has no empty thinking block, since the reply brings its own. Of an encoder-decoder,
    those that its encoder reads. Raises `DataError` where the model's template refuses these messages.
    """
    try:
        if _is_text(messages):
            return _whole_text_ids(messages, tokenizer)
        require_written(messages, _rendering(tokenizer).writes)
        if decoder_start(tokenizer) is not None:
            return source_ids(messages, tokenizer)
        return _tokens(_opening(messages, tokenizer, thinking=thinking), tokenizer, begin=True)
    except RowRefused as refused:
        raise DataError(say("The prompt cannot be used: {reason}.", reason=refused)) from None


def takes_system(tokenizer: Any) -> bool:
    """Return whether the model's chat template has a place for a system prompt."""
    return _rendering(tokenizer).takes_system


def has_reasoning(reply: Message) -> bool:
    """Whether a reply brings reasoning of its own, in a thinking block or in a field."""
    return bool(_THOUGHT.match(reply.content)) or any(name in _REASONING_FIELDS for name, _ in reply.fields)


def response_text(ids: Sequence[int], tokenizer: Any) -> str:
    """The words of a reply: everything before the first token that ends an answer, in whole characters."""
    ending = end_ids(tokenizer)
    kept: list[int] = []
    for token in ids:
        if int(token) in ending:
            break
        kept.append(int(token))
    return whole_text(kept, tokenizer, skip_special_tokens=True)


def end_ids(tokenizer: Any) -> set[int]:
    """The tokens that end an answer: end-of-sequence, and the template's end-of-turn token."""
    end = _rendering(tokenizer).end
    found = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(end) if end else None}
    return {int(token) for token in found if token is not None}


def _labelled(messages: Sequence[Message], tokenizer: Any, enough: int) -> tuple[list[int], list[bool]]:
    """Tokens, and which are trained on; replies after the first `enough` tokens may be left untrained."""
    replies = [place for place, message in enumerate(messages) if message.role == "assistant"]
    ids: list[int] = []
    trained: list[bool] = []
    for place in replies:
        before = _opening(messages[:place], tokenizer, thinking=has_reasoning(messages[place]))
        prompt = _tokens(before, tokenizer, begin=True)
        if prompt[: len(ids)] != ids:  # the template renders an earlier reply differently later on
            return _labelled_last(messages, tokenizer)
        trained += [False] * (len(prompt) - len(ids))
        ids = prompt + _reply_tokens(messages[: place + 1], before, prompt, tokenizer, last=place == replies[-1])
        trained += [messages[place].trained] * (len(ids) - len(prompt))
        if len(ids) > enough and place != replies[-1]:
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
    """The tokens of a row that is a whole text, or of its opening, after what the tokenizer puts before a text."""
    if decoder_start(tokenizer) is not None:
        raise RowRefused(say("whole texts are for models without an encoder"))
    text = marked("".join(message.content for message in messages), _rendering(tokenizer).protected)
    return [*frame(tokenizer)[0], *_tokens(text, tokenizer, begin=False)]


def _after_common_lines(whole: str, before: str) -> str:
    """What `whole` has after the lines with which `before` begins as well."""
    pairs = zip(whole.splitlines(keepends=True), before.splitlines(keepends=True), strict=False)
    return whole[sum(len(line) for line, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) :]


def _reply_tokens(
    messages: Sequence[Message], before: str, prompt: list[int], tokenizer: Any, *, last: bool
) -> list[int]:
    """The tokens of the last message and of the end of its turn, as they follow the prompt (`before`, `prompt`)."""
    rendering = _rendering(tokenizer)
    whole = _text(messages, tokenizer, generation=False, thinking=has_reasoning(messages[-1]))
    if whole.startswith(before):
        reply = whole[len(before) :]
    elif messages[-1].fields:
        reply = _after_common_lines(whole, before)
    else:  # the template opens an answer with words that it leaves out of a finished one
        reply = marked(messages[-1].content, rendering.protected) + rendering.suffix
    reply = _thinking_once(before, reply)
    if rendering.end and rendering.end in reply:
        reply = reply[: reply.index(rendering.end) + len(rendering.end)]
    else:
        reply = reply.removesuffix(rendering.suffix)
    together = _tokens(before + reply, tokenizer, begin=True)
    # Where the seam would merge, the reply is tokenised alone: at answering time the prompt comes alone as well.
    alone = together[: len(prompt)] != prompt
    tokens = _tokens(reply, tokenizer, begin=False) if alone else together[len(prompt) :]
    ending = end_ids(tokenizer)
    if last and ending and (not tokens or tokens[-1] not in ending) and tokenizer.eos_token_id is not None:
        tokens = [*tokens, tokenizer.eos_token_id]
    return tokens


def _tokens(text: str, tokenizer: Any, *, begin: bool) -> list[int]:
    """The tokens of a marked text; `begin` puts the ids before it that a plain prompt has."""
    ids = list(_rendering(tokenizer).beginning) if begin else []
    for piece in text.split(MARK):
        ids += tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _text(messages: Sequence[Message], tokenizer: Any, *, generation: bool, thinking: bool = False) -> str:
    """The marked rendering of `messages`, up to where the assistant begins if `generation`."""
    rendering = _rendering(tokenizer)
    messages = [marked_message(turn, rendering.protected) for turn in messages]
    if not rendering.takes_system:
        messages = _merged(messages)
    more = {"enable_thinking": thinking}
    return _render(messages, tokenizer, rendering.template, rendering.writes, generation=generation, **more)


def _opening(messages: Sequence[Message], tokenizer: Any, *, thinking: bool) -> str:
    """The marked rendering up to where the reply begins; for a reply that thinks, without an empty thinking block."""
    text = _text(messages, tokenizer, generation=True, thinking=thinking)
    return _EMPTY_AT_END.sub("", text) if thinking else text


def _thinking_once(before: str, reply: str) -> str:
    """The reply without an empty thinking block, or the opening of one, that is there already."""
    if _EMPTY_AT_END.search(before):
        return _EMPTY_AT_START.sub("", reply)
    if before.rstrip().endswith("<think>"):
        return _OPENING_AT_START.sub("", reply)
    return _EMPTY_BEFORE_ANOTHER.sub("", reply)


def _merged(messages: Sequence[Message]) -> list[Message]:
    """The messages with a system message put into the first message of the user."""
    if not messages or messages[0].role != "system":
        return list(messages)
    system, *rest = messages
    first = next((place for place, message in enumerate(rest) if message.role == "user"), None)
    if first is None:
        return [system._replace(role="user"), *rest]
    asked = rest[first]
    rest[first] = asked._replace(content=f"{system.content}\n\n{asked.content}", fields=system.fields + asked.fields)
    return rest


def _render(
    messages: Sequence[Message],
    tokenizer: Any,
    template: str,
    writes: Writes = NOTHING,
    *,
    generation: bool,
    **more: Any,
) -> str:
    if not template:
        return plain_rendering(messages, tokenizer.eos_token or "", generation=generation)
    turns, tools = template_turns(messages, writes)
    return _applied(turns, {**tools, **more}, tokenizer, generation=generation)


def _applied(turns: Turns, more: Mapping[str, Any], tokenizer: Any, *, generation: bool) -> str:
    more = {"enable_thinking": False, **more}
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation, **more)
    except Exception as error:  # a template is the model's own code and may raise anything
        raise RowRefused(
            say("the model's chat template refuses it ({reason})", reason=str(error)[:100].strip())
        ) from None


def _rendering(tokenizer: Any) -> _Rendering:
    template = "" if decoder_start(tokenizer) is not None else getattr(tokenizer, "chat_template", None) or ""
    known = _renderings.get(tokenizer)
    if known is None or known.template != template:
        known = _renderings[tokenizer] = _tried(tokenizer, template)
    return known


def _tried(tokenizer: Any, template: str) -> _Rendering:
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
        writes=_tried_fields(tokenizer) if template else NOTHING,
    )


def _tried_fields(tokenizer: Any) -> Writes:
    return tried(lambda turns, more, reply: _applied(turns, more, tokenizer, generation=reply))


def _first_name(text: str, names: Sequence[str]) -> str:
    found = any_of(names).search(text)
    return found.group(1) if found else ""


def _takes_system(tokenizer: Any, template: str) -> bool:
    """Whether the template renders a system message; some raise an error, some leave it out in silence."""
    try:
        messages = [Message("system", _PROBE), Message("user", "Hello")]
        return _PROBE in _render(messages, tokenizer, template, generation=True)
    except RowRefused:
        return False
