"""Render conversations with a model's chat template, or with `PLAIN` if the tokenizer has none.

Templates silently ignore unknown fields, such as tool calls and reasoning. Therefore, each template is probed once with
words that no template contains, to find out what it renders. Names of special tokens inside the text of a row remain
text (see `escaping`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from neftune_core.data.encoder_decoder import frame
from neftune_core.data.escaping import MARK, any_of, special_names, split_protected
from neftune_core.data.examples import Message, UnusableRow
from neftune_core.language import later, say
from neftune_core.models.tokenizing import decoder_start

_PROBE = "Zq7"  # a reply that no template changes
_REASONED = re.compile(r"\s*<think>\s*(?!</think>)\S")
_EMPTY = r"<think>\s*</think>\s*"
_EMPTY_AT_START, _EMPTY_AT_END = re.compile(rf"\A\s*{_EMPTY}"), re.compile(rf"{_EMPTY}\Z")
_EMPTY_BEFORE_ANOTHER = re.compile(rf"\A\s*{_EMPTY}(?=<think>)")
_OPENING_AT_START = re.compile(r"\A\s*<think>\s*")

PLAIN = {
    "system": "### System:\n{content}\n\n",
    "user": "### Instruction:\n{content}\n\n",
    "assistant": "### Response:\n{content}{end}\n\n",
}
"""Template for tokenizers without one; an answer starts after "### Response:" and a line break."""

REASONING_NAMES = ("reasoning_content", "thinking", "reasoning")
_USER = {"role": "user", "content": "Hello"}
_TEXT, _THOUGHT, _NAME, _ARGUMENT, _VALUE = "Zq1", "Zq2", "Zq3", "Zq4", "Zq5"
_IDENTITY = "Zq6abcdef"  # nine letters and digits, as some templates require
_PARAMETERS = {"type": "object", "properties": {_ARGUMENT: {"type": "string", "description": _VALUE}}}
_TOOL = {"type": "function", "function": {"name": _NAME, "description": _TEXT, "parameters": _PARAMETERS}}

Turns = list[dict[str, Any]]
Render = Callable[[Turns, dict[str, Any], bool], str]
"""Maps (turns, other template arguments, whether to add a generation prompt) to text."""


@dataclass(frozen=True)
class RenderedFields:
    """Fields that one chat template renders.

    Attributes:
        calls: Whether tool calls are rendered.
        arguments_as_text: Whether the arguments of tool calls must be JSON text instead of an object.
        text_with_calls: Whether text next to a tool call is rendered.
        results: Whether tool results are rendered.
        tools: Whether the list of tools is rendered.
        reasoning: Name of the reasoning field that is rendered; "" if none.
    """

    calls: bool = False
    arguments_as_text: bool = False
    text_with_calls: bool = False
    results: bool = False
    tools: bool = False
    reasoning: str = ""


NO_FIELDS = RenderedFields()


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
    return bool(_REASONED.match(reply.content)) or any(name in REASONING_NAMES for name, _ in reply.fields)


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
    messages = [_escape_message(turn, rendering.protected) for turn in messages]
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
    user = rest[first]
    rest[first] = user._replace(content=f"{system.content}\n\n{user.content}", fields=system.fields + user.fields)
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
        end = tokenizer.eos_token or ""
        text = "".join(PLAIN[turn.role].format(content=turn.content, end=end) for turn in messages)
        return text + (PLAIN["assistant"].partition("{content}")[0] if generation else "")
    turns, tools = _template_turns(messages, rendered)
    return _apply_template(tokenizer, turns, {**tools, "enable_thinking": thinking}, generation)


def _apply_template(tokenizer: Any, turns: Turns, more: Mapping[str, Any], generation: bool) -> str:
    more = {"enable_thinking": False, **more}
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation, **more)
    except Exception as error:  # templates are third-party code and may raise anything
        raise UnusableRow(
            say("the model's chat template rejects it ({reason})", reason=str(error)[:100].strip())
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
        rendered=_probe_fields(partial(_apply_template, tokenizer)) if template else NO_FIELDS,
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


# ---------------------------------------------------------------- fields in addition to the text of messages


def _probe_fields(render: Render) -> RenderedFields:
    """Probe a template and return the fields that it renders; `render` may raise `UnusableRow`."""

    def shows(turns: Turns, *words: str, reply: bool = False, **more: Any) -> bool:
        """Return whether the template renders each of the words exactly once.

        Args:
            turns: Messages to render.
            *words: Texts to look for.
            reply: Whether the prompt of a reply is added.
            **more: Further template input.

        Returns:
            False also if the template rejects the messages.
        """
        try:
            text = render(turns, more, reply)
        except UnusableRow:
            return False
        return all(text.count(word) == 1 for word in words)

    as_text = not shows([_USER, _call("", as_text=False)], _NAME, _ARGUMENT, _VALUE)
    calls = not as_text or shows([_USER, _call("", as_text=True)], _NAME, _ARGUMENT, _VALUE)
    called = _call("", as_text=as_text)
    answered = {"role": "tool", "content": _TEXT, "name": _NAME, "tool_call_id": _IDENTITY}
    thinking = {name: {"role": "assistant", "content": _TEXT, name: _THOUGHT} for name in REASONING_NAMES}
    return RenderedFields(
        calls=calls,
        arguments_as_text=calls and as_text,
        text_with_calls=shows([_USER, _call(_TEXT, as_text=as_text)], _TEXT, _NAME),
        results=shows([_USER, called, answered], _TEXT, reply=True),
        tools=shows([_USER], _NAME, reply=True, tools=[_TOOL]),
        reasoning=next(
            (name for name, turn in thinking.items() if shows([_USER, turn], _TEXT, _THOUGHT, enable_thinking=True)), ""
        ),
    )


def _call(content: str, *, as_text: bool) -> dict[str, Any]:
    arguments = {_ARGUMENT: _VALUE}
    function = {"name": _NAME, "arguments": json.dumps(arguments) if as_text else arguments}
    call = {"id": _IDENTITY, "type": "function", "function": function}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def require_rendered(messages: Sequence[Message], tokenizer: Any) -> None:
    """Require that the template renders all fields of the messages.

    Args:
        messages: Messages to check.
        tokenizer: The model's tokenizer.

    Raises:
        UnusableRow: If a field would be lost.
    """
    rendered = rendering_of(tokenizer).rendered
    found = {name for message in messages for name, _ in message.fields}
    text_with_calls = any(message.content.strip() and "tool_calls" in dict(message.fields) for message in messages)
    requirements = (
        ("tool_calls" in found, rendered.calls, later("tool calls")),
        (any(message.role == "tool" for message in messages), rendered.results, later("tool replies")),
        ("tools" in found, rendered.tools, later("a list of tools")),
        (text_with_calls, rendered.text_with_calls, later("text next to tool calls")),
        ("reasoning_content" in found, rendered.reasoning, later("reasoning")),
    )
    for is_used, is_rendered, words in requirements:
        if is_used and not is_rendered:
            raise UnusableRow(say("it has {what}, which this model's chat template does not support", what=say(words)))


def _template_turns(messages: Sequence[Message], rendered: RenderedFields) -> tuple[Turns, dict[str, Any]]:
    """Return the turns of a chat template, and its other arguments (the tools, if any)."""
    turns, more = [], {}
    for message in messages:
        fields = {name: json.loads(text) for name, text in message.fields}
        if "tools" in fields:
            more["tools"] = fields.pop("tools")
        if "reasoning_content" in fields and rendered.reasoning:
            fields[rendered.reasoning] = fields.pop("reasoning_content")
        if rendered.arguments_as_text:
            for call in fields.get("tool_calls", ()):
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        turns.append({"role": message.role, "content": message.content, **fields})
    return turns, more


def _escape_message(message: Message, protected: re.Pattern[str]) -> Message:
    """Escape special tokens in a message's text and fields (see `escaping`)."""
    fields = (
        (name, json.dumps(_escape(json.loads(text), protected), ensure_ascii=False)) for name, text in message.fields
    )
    return message._replace(content=split_protected(message.content, protected), fields=tuple(fields))


def _escape(value: Any, protected: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return split_protected(value, protected)
    if isinstance(value, list):
        return [_escape(one, protected) for one in value]
    if isinstance(value, dict):
        return {split_protected(name, protected): _escape(one, protected) for name, one in value.items()}
    return value
