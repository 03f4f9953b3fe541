"""The layouts of a row: one table of what columns are called and how they become messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.data.conversations import CONTROLS, context, conversation, with_controls
from neftune_core.data.examples import TEXT, Message, RowRefused
from neftune_core.data.formats.texts import RepeatedName, as_text
from neftune_core.errors import DataError
from neftune_core.language import later, say

Parts = Mapping[str, Any]

Reader = Callable[[Parts, set[str]], list[Message]]


@dataclass(frozen=True)
class Layout:
    """One way to lay out a row.

    `parts` maps each part to the spellings of its column, the usual one first; the parts in `required`
    must have a column. `messages(values by part, unused)` gives the conversation or raises `RowRefused`, and adds the
    names in it that it does not use to `unused`. `note` says what is to be known of rows that are read so. A layout
    `by_hand` is never detected, since its rows may be meant otherwise.
    """

    words: str
    parts: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...]
    messages: Reader
    note: str = ""
    by_hand: bool = False


def _task(instruction: str, extra: str, response: str) -> Reader:
    """Messages of a row with an instruction, perhaps some text it is about, and a response."""

    def messages(values: Parts, unused: set[str]) -> list[Message]:
        about = as_text(values.get(extra), extra)
        blank = not as_text(values.get(instruction), instruction).strip() and about.strip()
        question = about if blank else _filled(values, instruction)
        user = f"{question}\n\n{about}" if about.strip() and not blank else question
        return [*_system(values), Message("user", user), Message("assistant", _filled(values, response))]

    return messages


def _filled(values: Parts, part: str) -> str:
    value = values.get(part)
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # as in SQuAD: the first of several answers
        value = next(iter(value["text"]), None)
    text = as_text(value, part)
    if not text.strip():
        raise RowRefused(say("the {part} is empty", part=say(part)))
    return text


def _system(values: Parts) -> list[Message]:
    text = as_text(values.get("system"), later("system prompt"))
    return [Message("system", text)] if text.strip() else []


def _completion(values: Parts, unused: set[str]) -> list[Message]:
    found = _side(values, "prompt", "user", unused)
    return _after_system(values, [*context(found), *_side(values, "completion", "assistant", unused)])


def _side(values: Parts, part: str, role: str, unused: set[str]) -> list[Message]:
    value = values.get(part)
    turns = isinstance(value, list) and not (value and isinstance(value[0], dict) and "type" in value[0])
    return conversation(value, part, unused) if turns else [Message(role, _filled(values, part))]


def _after_system(values: Parts, turns: list[Message]) -> list[Message]:
    return turns if turns and turns[0].role == "system" else [*_system(values), *turns]


def _turns(part: str) -> Reader:
    def messages(values: Parts, unused: set[str]) -> list[Message]:
        return _after_system(values, conversation(values.get(part), part, unused))

    return messages


def _preference(values: Parts, unused: set[str]) -> list[Message]:
    """The prompt and the chosen answer; a chosen conversation may hold the prompt itself."""
    chosen = values.get("chosen")
    if isinstance(chosen, str) and not values.get("prompt") and chosen.lstrip().startswith("Human:"):
        turns = conversation(_dialogue(chosen), "chosen", unused)
    else:
        turns = _side(
            {**values, "chosen": [chosen] if isinstance(chosen, dict) else chosen}, "chosen", "assistant", unused
        )
    if turns[0].role == "assistant":
        turns = [*_side(values, "prompt", "user", unused), *turns]
    return _after_system(values, [*context(turns[:-1]), turns[-1]])


def _dialogue(text: str) -> list[dict[str, str]]:
    """The turns of a text that marks them with "Human:" and "Assistant:" at the beginnings of paragraphs."""
    pieces = re.split(r"(?:\A|\n\n)\s*(Human|Assistant):", text)[1:]
    return [{"role": name, "content": said.strip()} for name, said in zip(pieces[::2], pieces[1::2], strict=True)]


def _text(values: Parts, unused: set[str]) -> list[Message]:
    """A whole text in two: its opening, which is what a model continues when it answers, and the rest."""
    text = _filled(values, "text")
    if len(text) < 2:
        raise RowRefused(say("the {part} has a single character", part=say("text")))
    opening = max(1, len(text) // OPENING)
    space = text.find(" ", opening)
    opening = space if 0 < space < len(text) // 2 else opening
    return [Message(TEXT, text[:opening]), Message(TEXT, text[opening:])]


OPENING = 4
"""One part in this many of a text is its opening."""

CHOICES = ("choices", "options")
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
    "preference": Layout(
        "Preferences: prompt, chosen, rejected",
        {
            "prompt": ("prompt", "question", "instruction", "query", "input", "conversations", "messages"),
            "chosen": ("chosen",),
            "system": SYSTEM,
        },
        ("chosen",),
        _preference,
        later("The chosen answer of each preference row is used, the rejected one is not."),
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
            "prompt": ("prompt", "prompts", "query", "input", "inputs", "problem", "human", "user"),
            "completion": (
                "completion",
                "completions",
                "response",
                "output",
                "outputs",
                "target",
                "targets",
                "solution",
                "assistant",
            ),
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
            "answer": ("answer", "answers", "response", "solution", "a"),
            "system": SYSTEM,
        },
        ("question", "answer"),
        _task("question", "context", "answer"),
    ),
    "text": Layout(
        "Whole texts, without prompts",
        {"text": ("text", "content", "document")},
        ("text",),
        _text,
        later("The loss is taken on the whole text of each row, and no chat template is used."),
        by_hand=True,
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
        if LAYOUTS[name].by_hand and not (layout or corrections):
            continue
        columns = columns_for(LAYOUTS[name], available, corrections)
        if all(columns.get(part) for part in LAYOUTS[name].required) and set(corrections) <= set(LAYOUTS[name].parts):
            return name, {part: column for part, column in columns.items() if column}
    raise DataError(
        say(
            "The columns are {columns}, and {wanted}: say by hand which column plays which part{texts}.",
            columns=_listed(available),
            wanted=_wanted(layout),
            texts=say(", or choose the layout “text” to train on whole texts")
            if not layout and "text" in available
            else "",
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


def control_columns(available: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """The columns by the name of the field that changes what a row means, those aside that play a part."""
    taken = set(columns.values())
    found: dict[str, str] = {}
    for column in available:
        if column not in taken and spelled(column) in CONTROLS:
            found.setdefault(spelled(column), column)
    return found


def messages_of(layout: str, columns: Mapping[str, str], record: Any, unused: set[str]) -> tuple[Message, ...]:
    """Return the conversation in one record; names in it that are not used are added to `unused`.

    Raises:
        RowRefused: If there is none, with the reason.
    """
    if not isinstance(record, dict):
        raise RowRefused(say("it is not an object with named columns"))
    if isinstance(record, RepeatedName):
        raise RowRefused(say("it has the same name twice"))
    missing = [columns[part] for part in LAYOUTS[layout].required if columns[part] not in record]
    if missing:
        raise RowRefused(say("it has no {column!r}", column=missing[0]))
    values = {part: record.get(column) for part, column in columns.items() if part in LAYOUTS[layout].parts}
    controls = control_columns(list(record), columns)
    unused |= record.keys() - set(columns.values()) - set(controls.values())
    messages = LAYOUTS[layout].messages(values, unused)
    _require_whole_answer(messages, record)
    not_used: set[str] = set()
    given = {name: record[column] for name, column in controls.items()}
    if layout == "completion" and given.get("label") == "0":  # as tables write false
        given["label"] = False
    whole = with_controls(messages, given, not_used)
    unused |= {controls.get(name, name) for name in not_used}
    if layout == TEXT and whole != messages:
        raise RowRefused(say("it has a history, tools or reasoning beside its text"))
    return tuple(whole) if layout == TEXT else _well_formed(whole)


def _require_whole_answer(messages: Sequence[Message], record: Mapping[str, Any]) -> None:
    """Raise `RowRefused` if the answer is only the number or the letter of one of the row's choices."""
    answer = messages[-1].content.strip() if messages else ""
    if not re.fullmatch(r"\d{1,2}|[A-Za-z]", answer):
        return
    for column, value in record.items():
        if spelled(column) in CHOICES and value and not (isinstance(value, list) and answer in value):
            raise RowRefused(
                say(
                    "the answer {answer} only points at one of the {column}: write the choice itself",
                    answer=answer,
                    column=column,
                )
            )


def _well_formed(messages: list[Message]) -> tuple[Message, ...]:
    """The messages up to the last reply that is trained on; raises `RowRefused` if they are no conversation."""
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        raise RowRefused(say("there is no reply of the assistant in it"))
    if roles[-1] != "assistant":
        raise RowRefused(say("it does not end with a reply of the assistant"))
    if "system" in roles[1:]:
        raise RowRefused(say("a system message stands after the first message"))
    if "user" not in roles or roles.index("user") > roles.index("assistant"):
        raise RowRefused(say("there is no message of the user before the first reply"))
    trained = [place for place, message in enumerate(messages) if message.role == "assistant" and message.trained]
    if not trained:
        raise RowRefused(say("none of its replies is to be trained on"))
    return tuple(messages[: trained[-1] + 1])
