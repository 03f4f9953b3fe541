"""Rendering of conversations with a model's chat template, or with `plain_text.PLAIN` if the tokenizer has none.

Each template is probed once to find out what it renders. Names of special tokens inside the text of a row remain text
(see `plain_text`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from neftune_core.data.examples import Message, UnusableRow
from neftune_core.data.pairs import frame
from neftune_core.data.plain_text import MARK, any_of, plain_rendering, special_names
from neftune_core.data.template_fields import (
    NO_FIELDS,
    RenderedFields,
    Turns,
    escape_message,
    probe,
    template_turns,
)
from neftune_core.language import say
from neftune_core.models.tokenizing import decoder_start

_PROBE = "Zq7"  # a reply that no template changes
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_THOUGHT = re.compile(r"\s*<think>\s*(?!</think>)\S")
_EMPTY = r"<think>\s*</think>\s*"
_EMPTY_AT_START, _EMPTY_AT_END = re.compile(rf"\A\s*{_EMPTY}"), re.compile(rf"{_EMPTY}\Z")
_EMPTY_BEFORE_ANOTHER = re.compile(rf"\A\s*{_EMPTY}(?=<think>)")
_OPENING_AT_START = re.compile(r"\A\s*<think>\s*")


@dataclass(frozen=True)
class Rendering:
    """Properties of one tokenizer's template, found by probing.

    Attributes:
        beginning: Token ids before a prompt without a chat template; empty for a chat template.
        protected: Pattern for the names of special tokens, which have the ids `special`.
        end: Text of the token that ends a reply; "" if none.
        suffix: Text that the template adds after a reply.
        takes_system: Whether a system message is rendered.
    """

    template: str
    beginning: tuple[int, ...]
    protected: re.Pattern[str]
    special: frozenset[int]
    end: str
    suffix: str
    takes_system: bool
    rendered: RenderedFields


_renderings: WeakKeyDictionary[Any, Rendering] = WeakKeyDictionary()


def rendering_of(tokenizer: Any) -> Rendering:
    """Return the properties of the tokenizer's template, cached until the template changes."""
    template = "" if decoder_start(tokenizer) is not None else getattr(tokenizer, "chat_template", None) or ""
    known = _renderings.get(tokenizer)
    if known is None or known.template != template:
        known = _renderings[tokenizer] = _probe(tokenizer, template)
    return known


def has_reasoning(reply: Message) -> bool:
    """Return whether a reply contains reasoning, in a thinking block or a field."""
    return bool(_THOUGHT.match(reply.content)) or any(name in _REASONING_FIELDS for name, _ in reply.fields)


def token_ids(text: str, tokenizer: Any, *, begin: bool) -> list[int]:
    """Tokenise a text in which `MARK` separates pieces that are tokenised on their own.

    Args:
        text: The text with marks.
        tokenizer: The model's tokenizer.
        begin: Whether to prepend `Rendering.beginning`.

    Returns:
        The token ids.
    """
    ids = list(rendering_of(tokenizer).beginning) if begin else []
    for piece in text.split(MARK):
        ids += tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def rendered_text(messages: Sequence[Message], tokenizer: Any, *, generation: bool, thinking: bool = False) -> str:
    """Render messages, with marks inside the names of special tokens.

    Args:
        messages: Messages to render.
        tokenizer: The model's tokenizer.
        generation: Whether to append the generation prompt, the beginning of the assistant's reply.
        thinking: Whether the template may open a thinking block.

    Returns:
        The text with marks.
    """
    rendering = rendering_of(tokenizer)
    messages = [escape_message(turn, rendering.protected) for turn in messages]
    if not rendering.takes_system:
        messages = _with_merged_system(messages)
    return _render(
        messages, tokenizer, rendering.template, rendering.rendered, generation=generation, thinking=thinking
    )


def opening(messages: Sequence[Message], tokenizer: Any, *, thinking: bool) -> str:
    """Render the messages before a reply and the generation prompt, which may open a thinking block.

    Args:
        messages: The messages before the reply.
        tokenizer: The model's tokenizer.
        thinking: Whether the reply has reasoning; an empty thinking block is then removed.

    Returns:
        The text with marks.
    """
    text = rendered_text(messages, tokenizer, generation=True, thinking=thinking)
    return _EMPTY_AT_END.sub("", text) if thinking else text


def without_repeated_thinking(before: str, reply: str) -> str:
    """Remove an empty thinking block, or an opening tag, that duplicates one in `before`.

    Args:
        before: Text before the reply.
        reply: Text of the reply.

    Returns:
        The reply without the duplicate.
    """
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
    thinking: bool = False,
) -> str:
    if not template:
        return plain_rendering(messages, tokenizer.eos_token or "", generation=generation)
    turns, tools = template_turns(messages, rendered)
    return _apply_template(tokenizer, turns, {**tools, "enable_thinking": thinking}, generation)


def _apply_template(tokenizer: Any, turns: Turns, more: Mapping[str, Any], generation: bool) -> str:
    more = {"enable_thinking": False, **more}
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation, **more)
    except Exception as error:  # templates are third-party code and may raise anything
        raise UnusableRow(
            say("the model's chat template refuses it ({reason})", reason=str(error)[:100].strip())
        ) from None


def _probe(tokenizer: Any, template: str) -> Rendering:
    question, reply = Message("user", "Hello"), Message("assistant", _PROBE)
    suffix = _render([question, reply], tokenizer, template, generation=False).rpartition(_PROBE)[2]
    special = special_names(tokenizer)
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
    end = _first_name(suffix, special) or _first_name(suffix, added)
    names = sorted({*special, *([end] if end else [])})
    return Rendering(
        template=template,
        beginning=() if template else frame(tokenizer)[0],
        protected=any_of(names),
        special=frozenset(int(number) for number in tokenizer.convert_tokens_to_ids(names)),
        end=end,
        suffix=suffix,
        takes_system=_takes_system(tokenizer, template),
        rendered=probe(partial(_apply_template, tokenizer)) if template else NO_FIELDS,
    )


def _first_name(text: str, names: Sequence[str]) -> str:
    found = any_of(names).search(text)
    return found.group(1) if found else ""


def _takes_system(tokenizer: Any, template: str) -> bool:
    """Return whether the template renders a system message; some raise an error, others drop it silently."""
    try:
        messages = [Message("system", _PROBE), Message("user", "Hello")]
        return _PROBE in _render(messages, tokenizer, template, generation=True)
    except UnusableRow:
        return False
