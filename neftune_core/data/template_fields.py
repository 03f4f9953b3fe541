"""Fields that a chat template renders in addition to message text, such as tool calls and reasoning.

Templates silently ignore unknown fields, so each template is probed once with words that no template contains.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.data.examples import Message, UnusableRow
from neftune_core.data.plain_text import split_protected
from neftune_core.language import later, say

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
        beside: Whether text next to a tool call is rendered.
        replies: Whether tool results are rendered.
        tools: Whether the list of tools is rendered.
        reasoning: Name of the reasoning field that is rendered; "" if none.
    """

    calls: bool = False
    arguments_as_text: bool = False
    beside: bool = False
    replies: bool = False
    tools: bool = False
    reasoning: str = ""


NO_FIELDS = RenderedFields()


def probe(render: Render) -> RenderedFields:
    """Probe a template and return the fields that it renders; `render` may raise `UnusableRow`."""

    def shows(turns: Turns, *words: str, reply: bool = False, **more: Any) -> bool:
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
        beside=shows([_USER, _call(_TEXT, as_text=as_text)], _TEXT, _NAME),
        replies=shows([_USER, called, answered], _TEXT, reply=True),
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


def require_rendered(messages: Sequence[Message], rendered: RenderedFields) -> None:
    """Require that the template renders all fields of the messages.

    Args:
        messages: Messages to check.
        rendered: Fields that the template renders.

    Raises:
        UnusableRow: If a field would be lost.
    """
    found = {name for message in messages for name, _ in message.fields}
    beside = any(message.content.strip() and "tool_calls" in dict(message.fields) for message in messages)
    wanted = (
        ("tool_calls" in found, rendered.calls, later("tool calls")),
        (any(message.role == "tool" for message in messages), rendered.replies, later("tool replies")),
        ("tools" in found, rendered.tools, later("a list of tools")),
        (beside, rendered.beside, later("text next to tool calls")),
        ("reasoning_content" in found, rendered.reasoning, later("reasoning")),
    )
    for has, is_rendered, words in wanted:
        if has and not is_rendered:
            raise UnusableRow(say("it has {what}, which this model's chat template does not support", what=say(words)))


def template_turns(messages: Sequence[Message], rendered: RenderedFields) -> tuple[Turns, dict[str, Any]]:
    """Convert messages to chat-template input.

    Args:
        messages: Messages to convert.
        rendered: Fields that the template renders.

    Returns:
        The turns, and other template arguments (the tools, if any).
    """
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


def escape_message(message: Message, protected: re.Pattern[str]) -> Message:
    """Escape special tokens in a message's text and fields (see `plain_text`).

    Args:
        message: Message to escape.
        protected: Pattern of protected names.

    Returns:
        The escaped message.
    """
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
