"""The prompts that a study answers when a seed ends, and its answers as the record keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.data.examples import Message
from neftune_core.data.preparing import Prepared
from neftune_core.evaluation.answers import Answers
from neftune_core.training.settings import StudySettings

HELD_OUT_PROMPTS = 3


@dataclass(frozen=True)
class Prompt:
    """A prompt to answer, and the reference where it is a held-out row."""

    messages: tuple[Message, ...]
    reference: str = ""

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


def answer_lines(
    prompts: Sequence[Prompt], names: Sequence[str], answers: Answers, tokenizer: Any
) -> list[dict[str, Any]]:
    """One object a prompt: `prompt`, `reference`, and by arm its `text`, `tokens` and how it `ended`."""
    return [
        {
            "prompt": prompt.text,
            "reference": prompt.reference,
            "arms": {
                name: {
                    "text": answers[slot][place].text(tokenizer),
                    "tokens": len(answers[slot][place].ids),
                    "ended": answers[slot][place].ended,
                }
                for slot, name in enumerate(names)
            },
        }
        for place, prompt in enumerate(prompts)
    ]
