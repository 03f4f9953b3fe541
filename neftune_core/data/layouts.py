"""Row layouts: their column names, and the conversion of columns to messages."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.data.conversations import CONTROLS, conversation, with_controls
from neftune_core.data.examples import TEXT, Message, UnusableRow, as_context
from neftune_core.data.formats.texts import DuplicateName, as_text
from neftune_core.errors import DataError
from neftune_core.home import assets
from neftune_core.language import later, say

Parts = Mapping[str, Any]
LayoutReader = Callable[[Parts, set[str]], list[Message]]


@dataclass(frozen=True)
class Layout:
    """A row layout from `assets/layouts.toml`.

    Attributes:
        words: Name shown to users.
        parts: Accepted column names of each part, most common first.
        required: Parts that must have a column.
        messages: `messages(values, unused)` returns the messages of a row, given its values by part. It adds names of
            unused fields to the set `unused`, and raises `UnusableRow` if the row cannot be used.
        note: Remark shown with data in this layout.
        by_hand: Whether the user must choose the layout, because it is never detected.
    """

    words: str
    parts: Mapping[str, Sequence[str]]
    required: Sequence[str]
    messages: LayoutReader
    note: str = ""
    by_hand: bool = False


def _task(instruction: str, extra: str, response: str) -> LayoutReader:
    """Return a reader of rows with an instruction, an optional context and a response."""

    def messages(values: Parts, unused: set[str]) -> list[Message]:
        """Return the messages of a row.

        Args:
            values: Values of the row, by part.
            unused: Receives the names of unused fields.

        Returns:
            The messages in order.
        """
        context = as_text(values.get(extra), extra)
        only_context = not as_text(values.get(instruction), instruction).strip() and context.strip()
        question = context if only_context else _required_text(values, instruction)
        user = f"{question}\n\n{context}" if context.strip() and not only_context else question
        return [*_system(values), Message("user", user), Message("assistant", _required_text(values, response))]

    return messages


def _required_text(values: Parts, part: str) -> str:
    value = values.get(part)
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # the first of several answers, as in SQuAD
        value = next(iter(value["text"]), None)
    text = as_text(value, part)
    if not text.strip():
        raise UnusableRow(say("the {part} is empty", part=say(part)))
    return text


def _system(values: Parts) -> list[Message]:
    text = as_text(values.get("system"), later("system prompt"))
    return [Message("system", text)] if text.strip() else []


def _completion(values: Parts, unused: set[str]) -> list[Message]:
    found = _side(values, "prompt", "user", unused)
    return _after_system(values, [*as_context(found), *_side(values, "completion", "assistant", unused)])


def _side(values: Parts, part: str, role: str, unused: set[str]) -> list[Message]:
    value = values.get(part)
    turns = isinstance(value, list) and not (value and isinstance(value[0], dict) and "type" in value[0])
    return conversation(value, part, unused) if turns else [Message(role, _required_text(values, part))]


def _after_system(values: Parts, turns: list[Message]) -> list[Message]:
    return turns if turns and turns[0].role == "system" else [*_system(values), *turns]


def _turns(part: str) -> LayoutReader:
    def messages(values: Parts, unused: set[str]) -> list[Message]:
        """Return the messages of a row.

        Args:
            values: Values of the row, by part.
            unused: Receives the names of unused fields.

        Returns:
            The messages in order.
        """
        return _after_system(values, conversation(values.get(part), part, unused))

    return messages


def _preference(values: Parts, unused: set[str]) -> list[Message]:
    """Return the prompt and the chosen answer; a chosen conversation may include the prompt."""
    chosen = values.get("chosen")
    if isinstance(chosen, str) and not values.get("prompt") and chosen.lstrip().startswith("Human:"):
        turns = conversation(_dialogue(chosen), "chosen", unused)
    else:
        turns = _side(
            {**values, "chosen": [chosen] if isinstance(chosen, dict) else chosen}, "chosen", "assistant", unused
        )
    if turns[0].role == "assistant":
        turns = [*_side(values, "prompt", "user", unused), *turns]
    return _after_system(values, [*as_context(turns[:-1]), turns[-1]])


def _dialogue(text: str) -> list[dict[str, str]]:
    """Split a text at "Human:" and "Assistant:" at the start of paragraphs."""
    pieces = re.split(r"(?:\A|\n\n)\s*(Human|Assistant):", text)[1:]
    return [{"role": name, "content": content.strip()} for name, content in zip(pieces[::2], pieces[1::2], strict=True)]


def _text(values: Parts, unused: set[str]) -> list[Message]:
    """Split a whole text into its opening, which is used as the prompt for generation, and the rest.

    Raises:
        UnusableRow: If the text is missing or a single character.
    """
    text = _required_text(values, "text")
    if len(text) < 2:
        raise UnusableRow(say("the {part} is a single character", part=say("text")))
    opening = max(1, len(text) // OPENING)
    space = text.find(" ", opening)
    opening = space if 0 < space < len(text) // 2 else opening
    return [Message(TEXT, text[:opening]), Message(TEXT, text[opening:])]


OPENING = 4  # the opening is about one quarter of a text
CHOICES = ("choices", "options")
_READERS: dict[str, LayoutReader] = {
    "instruction": _task("instruction", "input", "output"),
    "context": _task("instruction", "context", "response"),
    "preference": _preference,
    "messages": _turns("messages"),
    "conversations": _turns("conversations"),
    "completion": _completion,
    "question": _task("question", "context", "answer"),
    "text": _text,
}
LAYOUTS: dict[str, Layout] = {
    name: Layout(messages=_READERS[name], **fields)
    for name, fields in tomllib.loads((assets() / "layouts.toml").read_text(encoding="utf-8")).items()
}


def normalise_name(name: str) -> str:
    """Normalise a column name: lower case, no outer spaces, and underscores for spaces and hyphens."""
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def choose(available: Sequence[str], layout: str, corrections: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Find the layout and the column of each part.

    Args:
        available: Columns of the source.
        layout: Name of the layout; "" to detect it.
        corrections: Columns by part, set by the user; "" to leave a part out.

    Returns:
        Name of the layout, and columns by part.

    Raises:
        DataError: If no layout fits, or a layout, part or column is unknown.
    """
    if layout and layout not in LAYOUTS:
        words = later("There is no layout called {layout!r}: choose one of {choices}.")
        raise DataError(say(words, layout=layout, choices=", ".join(LAYOUTS)))
    _require_known_parts(available, corrections, [layout] if layout else list(LAYOUTS))
    for name in [layout] if layout else LAYOUTS:
        if LAYOUTS[name].by_hand and not (layout or corrections):
            continue
        columns = columns_for(LAYOUTS[name], available, corrections)
        if all(columns.get(part) for part in LAYOUTS[name].required) and set(corrections) <= set(LAYOUTS[name].parts):
            return name, {part: column for part, column in columns.items() if column}
    if layout:
        parts = say(" and ").join(LAYOUTS[layout].required)
        reason, texts = say("the {layout!r} layout needs {parts}", layout=layout, parts=parts), ""
    else:
        reason = say("no known layout matches them")
        texts = say(", or choose the “text” layout to train on whole texts") if "text" in available else ""
    words = later("The columns are {columns}, but {wanted}: assign the columns by hand{texts}.")
    raise DataError(say(words, columns=_list_columns(available), wanted=reason, texts=texts))


def _require_known_parts(available: Sequence[str], corrections: Mapping[str, str], layouts: Sequence[str]) -> None:
    parts = {part for name in layouts for part in LAYOUTS[name].parts}
    for part, column in corrections.items():
        if part not in parts:
            words = later("There is no part called {part!r}: choose one of {choices}.")
            raise DataError(say(words, part=part, choices=", ".join(sorted(parts))))
        if column and column not in available:
            words = later("There is no column called {column!r}: the columns are {columns}.")
            raise DataError(say(words, column=column, columns=_list_columns(available)))


def columns_for(layout: Layout, available: Sequence[str], corrections: Mapping[str, str]) -> dict[str, str]:
    """Return the column of every part.

    Args:
        layout: A layout of `LAYOUTS`.
        available: Columns of the source.
        corrections: Columns by part, set by the user.

    Returns:
        Columns by part; "" for a part without a column.
    """
    by_spelling: dict[str, str] = {}
    for column in available:
        by_spelling.setdefault(normalise_name(column), column)
    guesses = {
        part: next((by_spelling[spelling] for spelling in spellings if spelling in by_spelling), "")
        for part, spellings in layout.parts.items()
    }
    return {part: corrections.get(part, guess) for part, guess in guesses.items()}


def _list_columns(columns: Sequence[str]) -> str:
    shown = ", ".join(column[:40] for column in columns[:12]) or say("(none)")
    return shown + (say(" and {count} more", count=len(columns) - 12) if len(columns) > 12 else "")


def control_columns(available: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the columns outside the layout that change a row's meaning.

    Args:
        available: Columns of the source.
        columns: Columns used by the layout, by part.

    Returns:
        Columns by normalised name.
    """
    used = set(columns.values())
    found: dict[str, str] = {}
    for column in available:
        if column not in used and normalise_name(column) in CONTROLS:
            found.setdefault(normalise_name(column), column)
    return found


def messages_of(layout: str, columns: Mapping[str, str], record: Any, unused: set[str]) -> tuple[Message, ...]:
    """Parse one record.

    Args:
        layout: Name of the layout.
        columns: Columns by part.
        record: Values by column; any other type is refused.
        unused: Set to which unused names are added.

    Returns:
        The messages.

    Raises:
        UnusableRow: If the record is not a usable conversation.
    """
    if not isinstance(record, dict):
        raise UnusableRow(say("it is not an object with named columns"))
    if isinstance(record, DuplicateName):
        raise UnusableRow(say("it has the same key twice"))
    missing = [columns[part] for part in LAYOUTS[layout].required if columns[part] not in record]
    if missing:
        raise UnusableRow(say("it has no {column!r}", column=missing[0]))
    values = {part: record.get(column) for part, column in columns.items() if part in LAYOUTS[layout].parts}
    controls = control_columns(list(record), columns)
    unused |= record.keys() - set(columns.values()) - set(controls.values())
    messages = LAYOUTS[layout].messages(values, unused)
    _require_whole_answer(messages, record)
    not_used: set[str] = set()
    given = {name: record[column] for name, column in controls.items()}
    if layout == "completion" and given.get("label") == "0":  # tables write false as 0
        given["label"] = False
    whole = with_controls(messages, given, not_used)
    unused |= {controls.get(name, name) for name in not_used}
    if layout == TEXT and whole != messages:
        raise UnusableRow(say("it has a history, tools or reasoning in addition to its text"))
    return tuple(whole) if layout == TEXT else _well_formed(whole)


def _require_whole_answer(messages: Sequence[Message], record: Mapping[str, Any]) -> None:
    """Raise `UnusableRow` if the answer is only the number or letter of one of the row's choices."""
    answer = messages[-1].content.strip() if messages else ""
    if not re.fullmatch(r"\d{1,2}|[A-Za-z]", answer):
        return
    for column, value in record.items():
        if normalise_name(column) in CHOICES and value and not (isinstance(value, list) and answer in value):
            words = later("the answer {answer} only refers to one of the {column}: write out the choice")
            raise UnusableRow(say(words, answer=answer, column=column))


def _well_formed(messages: list[Message]) -> tuple[Message, ...]:
    """Return the messages up to the last trained reply; raise `UnusableRow` if they do not form a conversation."""
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        raise UnusableRow(say("it has no assistant reply"))
    if roles[-1] != "assistant":
        raise UnusableRow(say("it does not end with an assistant reply"))
    if "system" in roles[1:]:
        raise UnusableRow(say("a system message follows the first message"))
    if "user" not in roles or roles.index("user") > roles.index("assistant"):
        raise UnusableRow(say("it has no user message before the first reply"))
    trained = [number for number, message in enumerate(messages) if message.role == "assistant" and message.trained]
    if not trained:
        raise UnusableRow(say("all of its replies are marked as not to be trained on"))
    return tuple(messages[: trained[-1] + 1])
