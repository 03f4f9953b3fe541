"""The prompts that a study answers when a seed ends, and its answers as the record keeps them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neftune_core.data.examples import Message
from neftune_core.data.preparing import Prepared
from neftune_core.evaluation.answers import Answers
from neftune_core.training.settings import StudySettings

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a cell begins with that a spreadsheet would run as a formula; the apostrophe before it shows it as text."""

COLUMNS = ("prompt", "sample", "reference", "arm", "text", "tokens", "characters", "ended", "repetition", "rouge_l")

Line = Mapping[str, Any]


def as_jsonl(lines: Sequence[Line]) -> str:
    """One object a prompt, as the comparison gave them."""
    return "".join(json.dumps(dict(line), ensure_ascii=False) + "\n" for line in lines)


def as_csv(lines: Sequence[Line]) -> str:
    """One row an answer; a `vote` of the line stands in each of its rows."""
    names = [*COLUMNS, "vote"] if any("vote" in line for line in lines) else list(COLUMNS)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for line in lines:
        for arm, answer in line["arms"].items():
            row = {**line, **answer, "arm": arm}
            writer.writerow([_cell(row.get(name)) for name in names])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return "'" + value if value.startswith(FORMULA) else value
    return "" if value is None else value


WRITERS: dict[str, Callable[[Sequence[Line]], str]] = {"jsonl": as_jsonl, "csv": as_csv}


HELD_OUT_PROMPTS = 3


@dataclass(frozen=True)
class Prompt:
    """A prompt to answer, and the reference where it is a held-out row.

    `own` is the conversation so far of each arm that has one of its own, by its name; `messages` is what is common.
    """

    messages: tuple[Message, ...]
    reference: str = ""
    own: Mapping[str, tuple[Message, ...]] = field(default_factory=dict)

    def of(self, name: str) -> tuple[Message, ...]:
        """What one arm is given."""
        return self.own.get(name, self.messages)

    @property
    def text(self) -> str:
        """The last thing the person says."""
        return self.messages[-1].content


def study_prompts(study: StudySettings, prepared: Prepared) -> list[Prompt]:
    """The study's own prompts, or the first held-out ones where it names none."""
    if study.answers.prompts:
        return [Prompt(as_messages(text, study.answers.system)) for text in study.answers.prompts]
    rows = prepared.held_out[:HELD_OUT_PROMPTS]
    return [Prompt(row.example.prompt, row.example.response) for row in rows]


def as_messages(prompt: str, system: str = "") -> tuple[Message, ...]:
    """One user prompt, after a system prompt where there is one."""
    head = (Message("system", system),) if system.strip() else ()
    return (*head, Message("user", prompt))


def further(prompt: Prompt, answers: Mapping[str, str], turn: str) -> Prompt:
    """The next turn of a conversation in which each arm hears its own answers (by name), and no reference is known."""
    said = Message("user", turn)
    own = {name: (*prompt.of(name), Message("assistant", text), said) for name, text in answers.items()}
    return Prompt((*prompt.messages, said), own=own)


def answer_lines(
    prompts: Sequence[Prompt], names: Sequence[str], answers: Answers, tokenizer: Any
) -> list[dict[str, Any]]:
    """One object a prompt: `prompt`, `reference`, and by arm its `text`, `tokens` and how it `ended`.

    Where a prompt has several answers there are as many objects, numbered from 1 by `sample`.
    """
    each = len(answers[0]) // len(prompts)
    return [
        {
            "prompt": prompts[place // each].text,
            "reference": prompts[place // each].reference,
            **({"sample": place % each + 1} if each > 1 else {}),
            "arms": {
                name: {
                    "text": answers[slot][place].text(tokenizer),
                    "tokens": len(answers[slot][place].ids),
                    "ended": answers[slot][place].ended,
                }
                for slot, name in enumerate(names)
            },
        }
        for place in range(len(answers[0]))
    ]
