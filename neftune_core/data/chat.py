"""Conversations to tokens, and which of them are trained on.

A conversation is rendered by the model's own chat template, or by `PLAIN` (see `_plain`) where the tokenizer has
none. Training and answering share the rendering: the tokens before a reply are those of `prompt_ids` for the same
messages, one by one. The loss is taken on the tokens of every reply and on the token that ends it.

Names of special tokens inside a row's text are kept as text: rendering breaks each of them in two with `_MARK`,
and the pieces are tokenised one by one, so that a row which says "<|im_end|>" cannot end its turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from neftune_core.data.examples import Example, Message, Refusal, RowRefused
from neftune_core.errors import DataError

_MARK = "\ufdd0"  # a code point that is no character; it is taken out again before the text reaches the tokenizer
_PROBE = "Zq7"  # a reply that no template changes

PLAIN = {
    "system": "### System:\n{content}\n\n",
    "user": "### Instruction:\n{content}\n\n",
    "assistant": "### Response:\n{content}{end}\n\n",
}
"""The template for tokenizers without one. An answer is written after "### Response:" and its line break."""


@dataclass(frozen=True)
class Encoded:
    """An example as tokens.

    ids: int32 `[length]`; trained: bool `[length]`, True where the token is a loss target (tokens of replies and
    the token that ends them); example: with the system message that was put before it; cut: whether its end did
    not fit; special: the ids of the tokenizer's special tokens.

    For an encoder-decoder, source (int32) is what the encoder reads, and ids are the decoder's: the token it starts
    from, then the reply, all of which is trained on.
    """

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    example: Example
    cut: bool
    special: frozenset[int] = frozenset()
    source: NDArray[np.int32] | None = None

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

    beginning: ids put before a plain prompt; protected: a pattern of the names of special tokens; end: the text
    of the token that ends a reply ("" if none); suffix: all that follows a reply; takes_system: whether a system
    message is rendered.
    """

    template: str
    beginning: tuple[int, ...]
    protected: re.Pattern[str]
    end: str
    suffix: str
    takes_system: bool


_renderings: WeakKeyDictionary[Any, _Rendering] = WeakKeyDictionary()


def encode(
    example: Example, tokenizer: Any, maximum_length: int, *, too_long: str = "truncate", system: str = ""
) -> Encoded | Refusal:
    """The tokens of `example`, at most `maximum_length`, with `system` before it if it has no system message.

    Every reply is trained on where the template renders earlier replies in one way only; else the last alone.
    A longer example is cut at its end (`too_long="truncate"`; its end-of-turn token then goes untrained, since
    the answer does not end there) or refused ("drop"). Refused as well: no room for a reply, and what the
    template refuses.
    """
    example = Example(with_system(example.messages, system), example.row)
    try:
        ids, trained = _labelled(example.messages, tokenizer, maximum_length)
    except (RowRefused, DataError) as error:
        return Refusal(example.row, str(error).rstrip("."))
    cut = len(ids) > maximum_length
    if cut and too_long == "drop":
        return Refusal(example.row, f"it is longer than {maximum_length:,} tokens")
    trained = trained[:maximum_length]
    if not any(trained):
        return Refusal(example.row, f"its prompt leaves no room for a reply within {maximum_length:,} tokens")
    length = max(place for place, target in enumerate(trained) if target) + 1
    return Encoded(np.array(ids[:length], dtype=np.int32), np.array(trained[:length], dtype=np.bool_), example, cut)


def with_system(messages: Sequence[Message], system: str) -> tuple[Message, ...]:
    """The messages with `system` put before them, where there is such a text and they have none of their own."""
    has_own = bool(messages) and messages[0].role == "system"
    own = tuple(messages)
    return own if has_own or not system.strip() else (Message("system", system), *own)


def prompt_ids(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """The tokens after which the model writes its reply to `messages` (the last is the user's).

    Raises `DataError` where the model's template refuses these messages.
    """
    try:
        return _tokens(_text(messages, tokenizer, generation=True), tokenizer, begin=True)
    except RowRefused as refused:
        raise DataError(f"The prompt cannot be used: {refused}.") from None


def response_text(ids: Sequence[int], tokenizer: Any) -> str:
    """The words of a reply: everything before the first token that ends an answer."""
    ending = end_ids(tokenizer)
    kept: list[int] = []
    for token in ids:
        if int(token) in ending:
            break
        kept.append(int(token))
    return tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def end_ids(tokenizer: Any) -> set[int]:
    """The tokens that end an answer: end-of-sequence, and the template's end-of-turn token."""
    end = _rendering(tokenizer).end
    found = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(end) if end else None}
    return {int(token) for token in found if token is not None}


def _labelled(messages: Sequence[Message], tokenizer: Any, enough: int) -> tuple[list[int], list[bool]]:
    """Tokens, and which are trained on; replies after the first `enough` tokens may be missing."""
    replies = [place for place, message in enumerate(messages) if message.role == "assistant"]
    ids: list[int] = []
    trained: list[bool] = []
    for place in replies:
        before = _text(messages[:place], tokenizer, generation=True)
        prompt = _tokens(before, tokenizer, begin=True)
        if prompt[: len(ids)] != ids:  # the template renders an earlier reply differently later on
            return _labelled_last(messages, tokenizer)
        trained += [False] * (len(prompt) - len(ids))
        ids = prompt + _reply_tokens(messages[: place + 1], before, prompt, tokenizer, last=place == replies[-1])
        trained += [True] * (len(ids) - len(prompt))
        if len(ids) > enough:
            break
    return ids, trained


def _labelled_last(messages: Sequence[Message], tokenizer: Any) -> tuple[list[int], list[bool]]:
    before = _text(messages[:-1], tokenizer, generation=True)
    prompt = _tokens(before, tokenizer, begin=True)
    reply = _reply_tokens(messages, before, prompt, tokenizer, last=True)
    return prompt + reply, [False] * len(prompt) + [True] * len(reply)


def _reply_tokens(
    messages: Sequence[Message], before: str, prompt: list[int], tokenizer: Any, *, last: bool
) -> list[int]:
    """The tokens of the last message and of the end of its turn, as they follow the prompt (`before`, `prompt`)."""
    rendering = _rendering(tokenizer)
    whole = _text(messages, tokenizer, generation=False)
    if whole.startswith(before):
        reply = whole[len(before) :]
    else:  # the template opens an answer with words that it leaves out of a finished one
        reply = _marked(messages[-1].content, tokenizer) + rendering.suffix
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


def _tokens(marked: str, tokenizer: Any, *, begin: bool) -> list[int]:
    """The tokens of marked text; `begin` puts the ids before it that a plain prompt has."""
    ids = list(_rendering(tokenizer).beginning) if begin else []
    for piece in marked.split(_MARK):
        ids += tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _text(messages: Sequence[Message], tokenizer: Any, *, generation: bool) -> str:
    """The marked rendering of `messages`, up to where the assistant begins if `generation`."""
    rendering = _rendering(tokenizer)
    messages = [Message(role, _marked(content, tokenizer)) for role, content in messages]
    if not rendering.takes_system:
        messages = _merged(messages)
    return _render(messages, tokenizer, rendering.template, generation=generation)


def _marked(content: str, tokenizer: Any) -> str:
    """`content` with every name of a special token in it broken after its first character."""
    if _MARK in content:
        raise RowRefused("it holds the code point U+FDD0, which is no character")
    protected = _rendering(tokenizer).protected
    marked = protected.sub(lambda found: found.group()[0] + _MARK, content)
    if any(protected.search(piece) for piece in marked.split(_MARK)):
        raise RowRefused("it holds the name of a special token of this model")
    return marked


def _merged(messages: Sequence[Message]) -> list[Message]:
    """The messages with a system message put into the first message of the user."""
    if not messages or messages[0].role != "system":
        return list(messages)
    system, *rest = messages
    first = next((place for place, message in enumerate(rest) if message.role == "user"), None)
    if first is None:
        return [Message("user", system.content), *rest]
    rest[first] = Message("user", f"{system.content}\n\n{rest[first].content}")
    return rest


def _render(messages: Sequence[Message], tokenizer: Any, template: str, *, generation: bool) -> str:
    if not template:
        return _plain(messages, tokenizer, generation=generation)
    turns = [message._asdict() for message in messages]
    try:
        return tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=generation, enable_thinking=False
        )
    except Exception as error:  # a template is the model's own code and may raise anything
        raise RowRefused(f"the model's chat template refuses it ({str(error)[:100].strip()})") from None


def _plain(messages: Sequence[Message], tokenizer: Any, *, generation: bool) -> str:
    end = tokenizer.eos_token or ""
    text = "".join(PLAIN[role].format(content=content, end=end) for role, content in messages)
    return text + (PLAIN["assistant"].partition("{content}")[0] if generation else "")


def _rendering(tokenizer: Any) -> _Rendering:
    template = getattr(tokenizer, "chat_template", None) or ""
    known = _renderings.get(tokenizer)
    if known is None or known.template != template:
        known = _renderings[tokenizer] = _tried(tokenizer, template)
    return known


def _tried(tokenizer: Any, template: str) -> _Rendering:
    question, reply = Message("user", "Hello"), Message("assistant", _PROBE)
    suffix = _render([question, reply], tokenizer, template, generation=False).rpartition(_PROBE)[2]
    special = _special_names(tokenizer)
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
    end = _first_name(suffix, special) or _first_name(suffix, added)
    names = sorted({*special, *([end] if end else [])}, key=len, reverse=True)
    return _Rendering(
        template=template,
        beginning=() if template else _beginning(tokenizer),
        protected=_any_of(names),
        end=end,
        suffix=suffix,
        takes_system=_takes_system(tokenizer, template),
    )


def _special_names(tokenizer: Any) -> list[str]:
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return [name for name in {*added, *tokenizer.all_special_tokens} if name.strip()]


def _first_name(text: str, names: Sequence[str]) -> str:
    found = _any_of(sorted(names, key=len, reverse=True)).search(text)
    return found.group(1) if found else ""


def _any_of(names: Sequence[str]) -> re.Pattern[str]:
    """A pattern that matches the first character of any of `names`, with the whole name as its group 1."""
    choice = "|".join(re.escape(name) for name in names)
    return re.compile(f"(?=({choice}))." if names else r"(?!)", re.DOTALL)


def _takes_system(tokenizer: Any, template: str) -> bool:
    """Whether the template renders a system message; some raise an error, some leave it out in silence."""
    try:
        messages = [Message("system", _PROBE), Message("user", "Hello")]
        return _PROBE in _render(messages, tokenizer, template, generation=True)
    except RowRefused:
        return False


def _beginning(tokenizer: Any) -> tuple[int, ...]:
    """The ids that the tokenizer itself puts before a text (a beginning-of-sequence token, if any)."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    starts = (place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)
    return tuple(whole[: next(starts, 0)])
