"""The layouts of a row: one table of what columns are called and how they become messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.data.examples import Message, RowRefused
from neftune_core.data.texts import RepeatedName, as_text, kind_of, parsed
from neftune_core.errors import DataError
from neftune_core.language import later, say

Parts = Mapping[str, Any]

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
ROLE_NAMES = ("role", "from")
CONTENT_NAMES = ("content", "value")


@dataclass(frozen=True)
class Layout:
    """One way to lay out a row.

    `parts` maps each part to the spellings of its column, the usual one first; the parts in `required`
    must have a column. `messages(values by part)` gives the conversation or raises `RowRefused`.
    """

    words: str
    parts: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...]
    messages: Callable[[Parts], list[Message]]


def _task(instruction: str, extra: str, response: str) -> Callable[[Parts], list[Message]]:
    """Messages of a row with an instruction, perhaps some text it is about, and a response."""

    def messages(values: Parts) -> list[Message]:
        question = _filled(values, instruction)
        about = as_text(values.get(extra), extra)
        user = f"{question}\n\n{about}" if about.strip() else question
        return [*_system(values), Message("user", user), Message("assistant", _filled(values, response))]

    return messages


def _filled(values: Parts, part: str) -> str:
    text = as_text(values.get(part), part)
    if not text.strip():
        raise RowRefused(say("the {part} is empty", part=say(part)))
    return text


def _system(values: Parts) -> list[Message]:
    text = as_text(values.get("system"), later("system prompt"))
    return [Message("system", text)] if text.strip() else []


def _completion(values: Parts) -> list[Message]:
    sides = [("prompt", "user"), ("completion", "assistant")]
    found = _system(values)
    for part, role in sides:
        value = values.get(part)
        if isinstance(value, list):
            found += _conversation(value, part)
        else:
            found.append(Message(role, _filled(values, part)))
    return found


def _turns(part: str) -> Callable[[Parts], list[Message]]:
    def messages(values: Parts) -> list[Message]:
        value = values.get(part)
        if isinstance(value, str) and value.lstrip().startswith("["):  # a list written into a CSV cell
            try:
                value = parsed(value)
            except ValueError as error:
                raise RowRefused(say("the {part} cannot be read: {reason}", part=say(part), reason=error)) from None
        turns = _conversation(value, part)
        return turns if turns and turns[0].role == "system" else [*_system(values), *turns]

    return messages


def _conversation(value: Any, part: str) -> list[Message]:
    if not value:
        raise RowRefused(say("the {part} are empty", part=say(part)))
    if not isinstance(value, list):
        raise RowRefused(say("the {part} are not a list of messages", part=say(part)))
    return [_message(turn, number, part) for number, turn in enumerate(value, start=1)]


def _message(turn: Any, number: int, part: str) -> Message:
    where = say("message {number} of the {part}", number=number, part=say(part))
    if not isinstance(turn, dict):
        raise RowRefused(say("{where} is not an object with a role and a content", where=where))
    if isinstance(turn, RepeatedName):
        raise RowRefused(say("{where} has the same name twice", where=where))
    role = next((turn[name] for name in ROLE_NAMES if name in turn), None)
    content = next((turn[name] for name in CONTENT_NAMES if name in turn), None)
    if role is None:
        raise RowRefused(say("{where} has no role", where=where))
    if not isinstance(role, str) or role.strip().lower() not in ROLES:
        shown = repr(role[:30]) if isinstance(role, str) else say(kind_of(role))
        raise RowRefused(
            say(
                "{where} has the role {shown}, which is none of {choices}",
                where=where,
                shown=shown,
                choices=", ".join(ROLES),
            )
        )
    text = as_text(content, say("content of {where}", where=where))
    if not text.strip():
        raise RowRefused(say("{where} is empty", where=where))
    return Message(ROLES[role.strip().lower()], text)


SYSTEM = ("system", "system_prompt", "system_message")

LAYOUTS: dict[str, Layout] = {
    "instruction": Layout(
        "Instruction, input, output",
        {
            "instruction": ("instruction", "instructions", "task"),
            "input": ("input", "inputs", "context"),
            "output": ("output", "outputs", "target"),
            "system": SYSTEM,
        },
        ("instruction", "output"),
        _task("instruction", "input", "output"),
    ),
    "context": Layout(
        "Instruction, context, response",
        {
            "instruction": ("instruction", "instructions", "task"),
            "context": ("context", "input", "passage"),
            "response": ("response", "responses", "answer"),
            "system": SYSTEM,
        },
        ("instruction", "response"),
        _task("instruction", "context", "response"),
    ),
    "messages": Layout(
        "Messages with role and content",
        {"messages": ("messages", "message", "dialogue", "dialog", "chat"), "system": SYSTEM},
        ("messages",),
        _turns("messages"),
    ),
    "conversations": Layout(
        "Conversations with from and value (ShareGPT)",
        {"conversations": ("conversations", "conversation"), "system": SYSTEM},
        ("conversations",),
        _turns("conversations"),
    ),
    "completion": Layout(
        "Prompt, completion",
        {
            "prompt": ("prompt", "prompts", "query"),
            "completion": ("completion", "completions", "response", "output"),
            "system": SYSTEM,
        },
        ("prompt", "completion"),
        _completion,
    ),
    "question": Layout(
        "Question, answer",
        {
            "question": ("question", "questions", "query", "q"),
            "context": ("context", "passage"),
            "answer": ("answer", "answers", "response", "a"),
            "system": SYSTEM,
        },
        ("question", "answer"),
        _task("question", "context", "answer"),
    ),
}


def spelled(name: str) -> str:
    """A column name without its case, outer spaces, and differences of hyphen, space and underscore."""
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def choose(available: Sequence[str], layout: str, corrections: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The layout's name and the column of each of its parts, from the columns there are.

    A `layout` or `corrections` (part to column; "" leaves a part out) given by hand go before detection.
    Raises `DataError` where nothing fits, naming the columns there are.
    """
    if layout and layout not in LAYOUTS:
        raise DataError(
            say(
                "There is no layout called {layout!r}: choose one of {choices}.",
                layout=layout,
                choices=", ".join(LAYOUTS),
            )
        )
    _known(available, corrections, [layout] if layout else list(LAYOUTS))
    for name in [layout] if layout else LAYOUTS:
        columns = columns_for(LAYOUTS[name], available, corrections)
        if all(columns.get(part) for part in LAYOUTS[name].required) and set(corrections) <= set(LAYOUTS[name].parts):
            return name, {part: column for part, column in columns.items() if column}
    raise DataError(
        say(
            "The columns are {columns}, and {wanted}: say by hand which column plays which part.",
            columns=_listed(available),
            wanted=_wanted(layout),
        )
    )


def _wanted(layout: str) -> str:
    if not layout:
        return say("no known layout has these")
    needed = say(" and ").join(LAYOUTS[layout].required)
    return say("the layout {layout!r} needs {parts}", layout=layout, parts=needed)


def _known(available: Sequence[str], corrections: Mapping[str, str], layouts: Sequence[str]) -> None:
    parts = {part for name in layouts for part in LAYOUTS[name].parts}
    for part, column in corrections.items():
        if part not in parts:
            raise DataError(
                say(
                    "There is no part called {part!r}: choose among {choices}.",
                    part=part,
                    choices=", ".join(sorted(parts)),
                )
            )
        if column and column not in available:
            raise DataError(
                say(
                    "There is no column called {column!r}: the columns are {columns}.",
                    column=column,
                    columns=_listed(available),
                )
            )


def columns_for(layout: Layout, available: Sequence[str], corrections: Mapping[str, str]) -> dict[str, str]:
    """The column of every part of `layout`, by hand or by its spelling; "" where there is none."""
    by_spelling: dict[str, str] = {}
    for column in available:
        by_spelling.setdefault(spelled(column), column)
    found = {}
    for part, spellings in layout.parts.items():
        guess = next((by_spelling[spelling] for spelling in spellings if spelling in by_spelling), "")
        found[part] = corrections.get(part, guess)
    return found


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(column[:40] for column in columns[:12]) or say("(none)")
    return shown + (say(" and {count} more", count=len(columns) - 12) if len(columns) > 12 else "")


def messages_of(layout: str, columns: Mapping[str, str], record: Any) -> tuple[Message, ...]:
    """The conversation in one record; raises `RowRefused` with the reason where there is none."""
    if not isinstance(record, dict):
        raise RowRefused(say("it is not an object with named columns"))
    if isinstance(record, RepeatedName):
        raise RowRefused(say("it has the same name twice"))
    missing = [columns[part] for part in LAYOUTS[layout].required if columns[part] not in record]
    if missing:
        raise RowRefused(say("it has no {column!r}", column=missing[0]))
    values = {part: record.get(column) for part, column in columns.items()}
    return _well_formed(LAYOUTS[layout].messages(values))


def _well_formed(messages: list[Message]) -> tuple[Message, ...]:
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        raise RowRefused(say("there is no reply of the assistant in it"))
    if roles[-1] != "assistant":
        raise RowRefused(say("it does not end with a reply of the assistant"))
    if "system" in roles[1:]:
        raise RowRefused(say("a system message stands after the first message"))
    if "user" not in roles or roles.index("user") > roles.index("assistant"):
        raise RowRefused(say("there is no message of the user before the first reply"))
    return tuple(messages)
