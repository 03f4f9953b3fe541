"""Parse conversations in various message formats, and interpret columns and fields that change the meaning of a row.

A row is refused if it uses an unsupported field. Names that are unknown, or whose value has no effect, are collected in
`unused`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neftune_core.data.examples import Message, UnusableRow, as_context
from neftune_core.data.formats.texts import DuplicateName, as_json, as_text, kind_of, parse_json
from neftune_core.language import say

CALLING_ROLES = ("function_call", "tool_call")
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(CALLING_ROLES, "assistant"),
}
"""Roles by their names in data sets."""
ROLE_NAMES = ("role", "from")
CONTENT_NAMES = ("content", "value")
REASONING = ("reasoning_content", "reasoning", "thinking")
CALLS = ("tool_calls", "function_call")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
# The value of each flag that means that the row or reply is trained on.
_POSITIVE_FLAGS = ("weight", "loss_weight", "sample_weight", "train", "training", "trainable", "loss", "loss_mask")
FLAGS = {**dict.fromkeys(_POSITIVE_FLAGS, True), "mask": False}
PURE_FLAGS = ("weight", "loss_weight", "sample_weight", "loss_mask", "mask")  # flags that have no other meaning
LABELS = ("label", "kto_tag")
TEMPLATE_INPUT = "chat_template_kwargs"
UNSUPPORTED = ("train_detail", "refusal")  # untrained parts of a reply; text that replaces the content
PART_NAMES = {"type", "text", "id", "function", "name", "arguments"}  # names read in content parts and tool calls
KNOWN = {*ROLE_NAMES, *CONTENT_NAMES, *REASONING, *CALLS, *MEDIA, *FLAGS, *UNSUPPORTED, "tool_call_id"}
TRUE, FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")
SWITCHES = (*TRUE, *FALSE, "on", "off")  # a reasoning column with these values is a switch, not reasoning
PAIRS = (("human", "assistant"), ("user", "assistant"), ("input", "output"), ("question", "answer"))

CONTROLS = ("history", "tools", "functions", "tool_calls", TEMPLATE_INPUT, *LABELS, *FLAGS, *MEDIA, *REASONING)
"""Columns that change the meaning of a row in any layout."""


def conversation(value: Any, part: str, unused: set[str]) -> list[Message]:
    """Parse a list of turns, or its JSON text.

    Args:
        value: The list or text.
        part: Name of the layout's part that contains the value, such as "messages", for error messages.
        unused: Set to which unused names are added.

    Returns:
        The messages.

    Raises:
        UnusableRow: If the value is not a list of messages, or a message is not supported.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):  # a list written into a CSV cell
        value = _from_json(value, part)
    if not value:
        raise UnusableRow(say("“{part}” is empty", part=say(part)))
    if not isinstance(value, list):
        raise UnusableRow(say("“{part}” is not a list of messages", part=say(part)))
    return [message for number, turn in enumerate(value, start=1) for message in _turn(turn, number, part, unused)]


def _from_json(text: str, part: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise UnusableRow(say("the {part} cannot be read: {reason}", part=say(part), reason=error)) from None


def _turn(turn: Any, number: int, part: str, unused: set[str]) -> Iterator[Message]:
    """Yield the message of an entry, or both messages of a pair such as `human` and `assistant`.

    Raises:
        UnusableRow: If the entry is not an object, repeats a key, or cannot be used as a message.
    """
    where = say("message {number} of the {part}", number=number, part=say(part))
    if not isinstance(turn, dict):
        raise UnusableRow(say("{where} is not an object with a role and content", where=where))
    if isinstance(turn, DuplicateName):
        raise UnusableRow(say("{where} has the same key twice", where=where))
    role = next((turn[name] for name in ROLE_NAMES if turn.get(name) is not None), None)
    pair = next((pair for pair in PAIRS if set(pair) <= set(turn)), None)
    if role is None and pair is not None:
        yield from _pair(turn, pair, part, where, unused)
        return
    yield _message(turn, _role(role, where), where, unused, part)


def _pair(turn: Mapping[str, Any], pair: tuple[str, str], part: str, where: str, unused: set[str]) -> Iterator[Message]:
    others = {name: value for name, value in turn.items() if name not in (*pair, "system")}
    if as_text(turn.get("system"), "system").strip():
        yield Message("system", as_text(turn["system"], "system"))
    yield _message({"content": turn[pair[0]]}, "user", where, unused, part)
    yield _message({**others, "content": turn[pair[1]]}, "assistant", where, unused, part)


def _role(role: Any, where: str) -> str:
    if role is None:
        raise UnusableRow(say("{where} has no role", where=where))
    if not isinstance(role, str) or role.strip().lower() not in ROLES:
        shown, choices = repr(role[:30]) if isinstance(role, str) else say(kind_of(role)), ", ".join(ROLES)
        raise UnusableRow(
            say("{where} has the unknown role {shown}: use one of {choices}", where=where, shown=shown, choices=choices)
        )
    return role.strip().lower()


def _message(turn: Mapping[str, Any], role_name: str, where: str, unused: set[str], part: str) -> Message:
    _require_no_media(turn, where)
    for name in UNSUPPORTED:
        if _is_filled(turn.get(name)):
            raise UnusableRow(say("{where} has {name}, which is not supported", where=where, name=name))
    content = next((turn[name] for name in CONTENT_NAMES if turn.get(name) is not None), None)
    role = ROLES[role_name]
    if role_name in CALLING_ROLES:
        json_text = as_text(content, say("content of {where}", where=where))
        calls = _from_json(json_text, say("tool calls of {where}", where=where))
        text, fields = "", {"tool_calls": as_json(_calls(calls, where))}
    else:
        turn, content = _split_reasoning(turn, content)
        text, fields = as_text(content, say("content of {where}", where=where)), _fields(turn, role, where)
    if not text.strip() and not fields.keys() & {"tool_calls", "reasoning_content"}:
        raise UnusableRow(say("{where} is empty", where=where))
    unused |= {f"{part}[].{name}" for name in _unread_names({**turn, "content": content}, role)}
    trained = role != "assistant" or _is_trained(turn, where)
    return Message(role, text, trained, tuple(fields.items()))


def _unread_names(turn: Mapping[str, Any], role: str) -> Iterator[str]:
    """Yield the unread names of a message, including those inside content parts and tool calls."""
    read = KNOWN | {"name"} if role == "tool" else KNOWN
    yield from (name for name, value in turn.items() if name not in read and _is_filled(value))
    for name in ("content", *CALLS):
        entries = turn.get(name) if isinstance(turn.get(name), list) else [turn.get(name)]
        for entry in (entry for entry in entries or () if isinstance(entry, dict)):
            function = entry.get("function")
            inside = {**entry, **(function if isinstance(function, dict) else {})}
            yield from (f"{name}[].{one}" for one in inside if one not in PART_NAMES and _is_filled(inside[one]))


def _split_reasoning(turn: Mapping[str, Any], content: Any) -> tuple[Mapping[str, Any], Any]:
    """Separate reasoning from the other parts of a turn's content."""
    parts = content if isinstance(content, list) else []
    reasoning_parts = [part for part in parts if isinstance(part, dict) and part.get("type") in REASONING]
    if not reasoning_parts:
        return turn, content
    texts = [part.get(part["type"]) or part.get("text") for part in reasoning_parts]
    return {**turn, "reasoning_content": [{"type": "text", "text": text} for text in texts]}, [
        part for part in parts if part not in reasoning_parts
    ]


def _fields(turn: Mapping[str, Any], role: str, where: str) -> dict[str, str]:
    """Return the chat-template fields other than role and content, as JSON text by name.

    Raises:
        UnusableRow: If a message other than a reply has reasoning or tool calls, or one of them cannot be read.
    """
    if role == "tool":
        return {name: as_json(turn[name]) for name in ("name", "tool_call_id") if _is_filled(turn.get(name))}
    found = {}
    reasoning = next((turn[name] for name in REASONING if _is_filled(turn.get(name))), None)
    if reasoning is not None:
        found["reasoning_content"] = as_json(as_text(reasoning, say("reasoning of {where}", where=where)))
    calls = next((turn[name] for name in CALLS if _is_filled(turn.get(name))), None)
    if calls is not None:
        found["tool_calls"] = as_json(_calls(calls, where))
    if found and role != "assistant":
        raise UnusableRow(
            say("{where} has {name}, which is only allowed in replies", where=where, name=" ".join(found))
        )
    return found


def _calls(value: Any, where: str) -> list[dict[str, Any]]:
    """Normalise tool calls for chat templates, with arguments as an object instead of JSON text.

    Raises:
        UnusableRow: If a tool call has no name, or cannot be read.
    """
    part = say("tool calls of {where}", where=where)
    if isinstance(value, str):
        value = _from_json(value, part)
    calls = value if isinstance(value, list) else [value]
    found = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UnusableRow(say("{where} has a tool call without a name", where=where))
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            arguments = _from_json(arguments, part) if arguments.strip() else {}
        identity = {"id": call["id"]} if _is_filled(call.get("id")) else {}
        found.append(
            {**identity, "type": "function", "function": {"name": function["name"], "arguments": arguments or {}}}
        )
    return found


def _is_filled(value: Any) -> bool:
    return value not in (None, "", [], {})


def _flag(value: Any) -> bool | None:
    """Parse a boolean; None if the value is neither true nor false."""
    word = str(value).strip().lower() if isinstance(value, bool | str | int | float) else ""
    return True if word in TRUE else False if word in FALSE else None


def _require_no_media(record: Mapping[str, Any], where: str) -> None:
    for name in MEDIA:
        if _is_filled(record.get(name)):
            raise UnusableRow(say("{where} has {name}, but only text is supported", where=where, name=name))


def _is_trained(record: Mapping[str, Any], where: str) -> bool:
    """Return whether the flags of a reply allow training on it.

    Raises:
        UnusableRow: If the value of a flag is not valid.
    """
    trained = True
    for name in filter(lambda name: _is_filled(record.get(name)), FLAGS):
        found = _flag(record[name])
        if found is None:
            raise _invalid_flag(record[name], name, where)
        trained = trained and found is FLAGS[name]
    return trained


def _invalid_flag(value: Any, name: str, where: str) -> UnusableRow:
    shown = as_json(value)[:30]
    return UnusableRow(
        say("{where} has {name} {value}, but only 0 and 1 are supported", where=where, name=name, value=shown)
    )


def with_controls(messages: list[Message], controls: Mapping[str, Any], unused: set[str]) -> list[Message]:
    """Add the history, tools and reasoning of a row to its messages.

    Args:
        messages: Messages from the row's layout.
        controls: Values of the columns in `CONTROLS`, by name.
        unused: Set to which unused names are added.

    Returns:
        The messages.

    Raises:
        UnusableRow: If a flag excludes the row from training, or a field is not supported.
    """
    where = say("it")
    _require_no_media(controls, where)
    _require_trained(controls, unused)
    if _is_filled(controls.get("tool_calls")):
        raise UnusableRow(say("it has tool_calls outside its messages"))
    _require_no_template_input(controls.get(TEMPLATE_INPUT), unused)
    switches = {name for name in REASONING if as_text(controls.get(name), name).strip().lower() in SWITCHES}
    unused |= switches
    fields = _fields({name: controls.get(name) for name in REASONING if name not in switches}, "assistant", where)
    if fields:
        messages = [*messages[:-1], messages[-1]._replace(fields=(*messages[-1].fields, *fields.items()))]
    earlier = _history(controls.get("history"), unused)
    start = 1 if messages[0].role == "system" else 0
    messages = [*messages[:start], *earlier, *messages[start:]]
    tools = _tools(controls, unused)
    if not _is_filled(tools):
        return messages
    first = messages[0]
    return [first._replace(fields=(*first.fields, ("tools", as_json(tools, drop_none=True)))), *messages[1:]]


def _tools(controls: Mapping[str, Any], unused: set[str]) -> list[Any] | None:
    """Return the list of tools from `tools`, or from `functions`, its older form.

    Raises:
        UnusableRow: If `tools` is not a list, or cannot be read.
    """
    tools, functions = controls.get("tools"), controls.get("functions")
    tools = _from_json(tools, "tools") if isinstance(tools, str) and tools.strip() else tools
    if _is_filled(tools) and not isinstance(tools, list):
        raise UnusableRow(say("“{part}” is not a list", part=say("tools")))
    if not _is_filled(functions):
        return tools or None
    listed = functions if isinstance(functions, list) else []
    if _is_filled(tools) or not all(isinstance(one, dict) and "name" in one for one in listed or [None]):
        unused.add("functions")
        return tools or None
    return [{"type": "function", "function": one} for one in listed]


def _require_no_template_input(value: Any, unused: set[str]) -> None:
    """Raise `UnusableRow` if a row has template input other than the thinking switch, which its reply determines."""
    if isinstance(value, str) and value.strip():
        value = _from_json(value, TEMPLATE_INPUT)
    given = value if isinstance(value, dict) else {}
    filled = [name for name, one in given.items() if _is_filled(one) and one is not False]
    others = [name for name in filled if name not in ("enable_thinking", "thinking")]
    if others:
        names = ", ".join(others)
        raise UnusableRow(say("it has {name} ({names}), which is not supported", name=TEMPLATE_INPUT, names=names))
    if _is_filled(value):
        unused.add(TEMPLATE_INPUT)


def _require_trained(controls: Mapping[str, Any], unused: set[str]) -> None:
    for name in LABELS:
        label = controls.get(name)
        if label is False or (isinstance(label, str) and label.strip().lower() == "false"):
            raise UnusableRow(say("it is marked as a bad answer ({name} is false)", name=name))
        if _is_filled(label) and _flag(label) is not True:
            unused.add(name)
    for name, positive in FLAGS.items():
        value = controls.get(name)
        found = _flag(value)
        if found is not None and found is not positive:
            raise UnusableRow(
                say("it is marked as not to be trained on ({name} is {value})", name=name, value=as_text(value, name))
            )
        if found is None and _is_filled(value):
            if name in PURE_FLAGS:
                raise _invalid_flag(value, name, say("it"))
            unused.add(name)


def _history(value: Any, unused: set[str]) -> list[Message]:
    """Return earlier turns (question-answer pairs or messages) as untrained context."""
    if isinstance(value, str) and value.strip():
        value = _from_json(value, "history")
    if not _is_filled(value):
        return []
    if isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        value = [
            turn
            for user, reply in value
            for turn in ({"role": "user", "content": user}, {"role": "assistant", "content": reply})
        ]
    return as_context(conversation(value, "history", unused))
