"""The prompts that a study answers when a seed ends, and its answers as the record keeps them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from neftune_core.data.chat import Encoded, has_reasoning
from neftune_core.data.examples import Message
from neftune_core.data.fitting import FittedPrompt, Room, fitted_prompt, room_for
from neftune_core.data.preparing import Prepared
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.answers import Answers
from neftune_core.language import later, say
from neftune_core.models.loading import LoadedModel
from neftune_core.studies.settings import StudySettings

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

Row = TypeVar("Row")


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


def model_room(loaded: LoadedModel, new_tokens: int) -> Room:
    """The room for a prompt of a model that is to answer with up to `new_tokens`."""
    return room_for(loaded.context, new_tokens, encoder_decoder=loaded.encoder_decoder)


def fitted_rows(rows: Sequence[Encoded], loaded: LoadedModel, new_tokens: int) -> list[FittedPrompt | None]:
    """The prompts of rows, cut from the left to what the model can read; None for one that cannot be cut so far."""
    room = model_room(loaded, new_tokens)
    return [_fitted_row(row, loaded.tokenizer, room) for row in rows]


def _fitted_row(row: Encoded, tokenizer: Any, room: Room) -> FittedPrompt | None:
    """The prompt of a row; that of a single reply stands in its tokens already."""
    messages = row.example.messages
    if row.prompt_length <= room.wanted and sum(message.role == "assistant" for message in messages) == 1:
        before = row.ids[: row.prompt_length] if row.source is None else row.source
        return FittedPrompt(before.tolist())
    return fitted_prompt(row.example.prompt, tokenizer, room, thinking=has_reasoning(messages[-1]))


def fitted_own(prompt: Prompt, name: str, loaded: LoadedModel, new_tokens: int, *, thinking: bool) -> FittedPrompt:
    """What one arm is given of a prompt that a person wrote, or of a held-out row.

    Earlier turns are left out from the left if they do not fit, of a held-out row also the beginning of its text.
    Raises `DoesNotFit` if the last turn does not fit.
    """
    room, messages = model_room(loaded, new_tokens), prompt.of(name)
    found = fitted_prompt(messages, loaded.tokenizer, room, thinking=thinking, shorten=bool(prompt.reference))
    if found is None:
        raise DoesNotFit(
            say(
                "The prompt {prompt!r} is longer than the {most:,} tokens that this model can read before an answer: "
                "shorten it.",
                prompt=prompt.text[:40],
                most=room.most,
            )
        )
    return found


def study_asked(
    study: StudySettings, prepared: Prepared, loaded: LoadedModel
) -> list[tuple[Prompt, FittedPrompt | None]]:
    """The prompts of `study_prompts` with what the model is given of each; None for a held-out one that is left out.

    Raises `DoesNotFit` if one of the study's own prompts does not fit.
    """
    prompts = study_prompts(study, prepared)
    if study.answers.prompts:
        reasons = mostly_reasons(prepared.train)
        own = [fitted_own(one, "", loaded, study.answers.new_tokens, thinking=reasons) for one in prompts]
        return list(zip(prompts, own, strict=True))
    rows = prepared.held_out[:HELD_OUT_PROMPTS]
    return list(zip(prompts, fitted_rows(rows, loaded, study.answers.new_tokens), strict=True))


def mostly_reasons(rows: Sequence[Encoded]) -> bool:
    """Whether most rows have replies with reasoning, so that a model trained on them is asked for it."""
    return 2 * sum(has_reasoning(row.example.messages[-1]) for row in rows) > len(rows)


def those_that_fit(rows: Sequence[Row], found: Sequence[FittedPrompt | None]) -> tuple[list[Row], list[list[int]]]:
    """The rows whose prompts fit, and the tokens of these."""
    kept = [(row, one.ids) for row, one in zip(rows, found, strict=True) if one is not None]
    return [row for row, _ in kept], [ids for _, ids in kept]


def fitting_words(found: Sequence[FittedPrompt | None]) -> str:
    """How many prompts were cut and left out, as a sentence; "" if all fit as they are."""
    cut, left_out = sum(one is not None and one.cut for one in found), sum(one is None for one in found)
    if not cut and not left_out:
        return ""
    return later(
        "Prompts to answer that are longer than the model can read with room for the answer: {cut} cut from the left, "
        "{left_out} left out."
    ).format(cut=cut, left_out=left_out)


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
    prompts: Sequence[Prompt], names: Sequence[str], answers: Answers, tokenizer: Any, *, cut: Sequence[bool] = ()
) -> list[dict[str, Any]]:
    """One object per prompt: `prompt`, `reference`, and by arm its `text`, `tokens` and how it `ended`.

    A prompt with several answers has an object for each, numbered from 1 by `sample`. One whose beginning did not fit
    the model, as `cut` says, has `cut`.
    """
    each = len(answers[0]) // len(prompts)
    return [
        {
            "prompt": prompts[place // each].text,
            "reference": prompts[place // each].reference,
            **({"cut": True} if cut and cut[place // each] else {}),
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
