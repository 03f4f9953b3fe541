"""Prompts that a study answers when a seed ends, and its answers as stored in the record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from neftune_core.data.chat import EncodedExample
from neftune_core.data.examples import Message
from neftune_core.data.fitting import FittedPrompt, TokenLimits, fitted_prompt, token_limits
from neftune_core.data.preparing import PreparedData
from neftune_core.data.rendering import has_reasoning
from neftune_core.errors import DataError, DoesNotFit
from neftune_core.evaluation.answers import Answers
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.language import later, say
from neftune_core.models.loading import LoadedModel
from neftune_core.sentences import cause
from neftune_core.settings import Limits
from neftune_core.studies.records.log import as_jsonl, csv_text
from neftune_core.studies.settings import StudySettings

COLUMNS = ("prompt", "sample", "reference", "arm", "text", "tokens", "characters", "ended", "repetition", "rouge_l")

ROLES = ("system", "user", "assistant")

Line = Mapping[str, Any]


def as_csv(lines: Sequence[Line]) -> str:
    """Return the answers as CSV, one row per answer, with `turn`, `cut` and `vote` if any line has them."""
    names = [*COLUMNS, *(name for name in ("turn", "cut", "vote") if any(name in line for line in lines))]
    answers = ({**line, **answer, "arm": arm} for line in lines for arm, answer in line["arms"].items())
    return csv_text([names, *([answer.get(name) for name in names] for answer in answers)])


WRITERS: dict[str, Callable[[Sequence[Line]], str]] = {"jsonl": as_jsonl, "csv": as_csv}

HELD_OUT_PROMPTS = 3

Row = TypeVar("Row")


@dataclass(frozen=True)
class Prompt:
    """A prompt to answer.

    Attributes:
        messages: The conversation.
        reference: Reference answer if the prompt is a held-out row, otherwise "".
        own: Conversations of the arms that do not share `messages`, by name.
    """

    messages: tuple[Message, ...]
    reference: str = ""
    own: Mapping[str, tuple[Message, ...]] = field(default_factory=dict)

    def of(self, name: str) -> tuple[Message, ...]:
        """Return the conversation of one arm."""
        return self.own.get(name, self.messages)

    @property
    def text(self) -> str:
        """Text of the last message."""
        return self.messages[-1].content


def fit_rows(rows: Sequence[EncodedExample], loaded: LoadedModel, new_tokens: int) -> list[FittedPrompt | None]:
    """Return the tokenised prompts of rows, shortened from the left to fit the model's context.

    The prompt of a row consists of all messages before the last one, including earlier replies.

    Args:
        rows: Tokenised rows.
        loaded: The model.
        new_tokens: Maximum number of tokens in an answer, for which the context must have room.

    Returns:
        One prompt per row; None if it cannot be shortened enough.
    """
    limits = token_limits(loaded.context, new_tokens, encoder_decoder=loaded.encoder_decoder)
    return [_fit_row(row, loaded.tokenizer, limits) for row in rows]


def _fit_row(row: EncodedExample, tokenizer: Any, limits: TokenLimits) -> FittedPrompt | None:
    """Return the prompt of a row, taken from its tokens if it has a single reply and the prompt fits unshortened."""
    messages = row.example.messages
    if row.prompt_length <= limits.preferred and sum(message.role == "assistant" for message in messages) == 1:
        before = row.ids[: row.prompt_length] if row.source is None else row.source
        return FittedPrompt(before.tolist())
    return fitted_prompt(row.example.prompt, tokenizer, limits, thinking=has_reasoning(messages[-1]))


def fit_prompt(prompt: Prompt, name: str, loaded: LoadedModel, new_tokens: int, *, thinking: bool) -> FittedPrompt:
    """Shorten one arm's prompt to fit the model's context.

    Earlier turns are dropped first. Only held-out rows may also lose the beginning of their text.

    Args:
        prompt: Prompt with the conversation of the arm.
        name: Name of the arm.
        loaded: The model.
        new_tokens: Maximum length of the answer.
        thinking: Whether the model is expected to reason before it answers.

    Returns:
        The prompt.

    Raises:
        DoesNotFit: If the last turn does not fit.
        DataError: If the model's chat template rejects the messages.
    """
    limits = token_limits(loaded.context, new_tokens, encoder_decoder=loaded.encoder_decoder)
    found = fitted_prompt(prompt.of(name), loaded.tokenizer, limits, thinking=thinking, shorten=bool(prompt.reference))
    if found is None:
        words = later("The prompt {prompt!r} is longer than the maximum of {most:,} tokens for this model: shorten it.")
        raise DoesNotFit(say(words, prompt=prompt.text[:40], most=limits.hard))
    return found


def tokenised_study_prompts(
    study: StudySettings, prepared: PreparedData, loaded: LoadedModel
) -> tuple[list[Prompt], Sequence[FittedPrompt | None]]:
    """Return the prompts in the study's settings, or those of the first held-out rows if there are none.

    Args:
        study: Settings of the study.
        prepared: The tokenised rows.
        loaded: The model.

    Returns:
        The prompts, and their tokens; None for a held-out prompt that does not fit.

    Raises:
        DoesNotFit: If a prompt of the settings does not fit into the model's context.
        DataError: If the model's chat template rejects a prompt.
    """
    asked, rows = study.answers, prepared.held_out[:HELD_OUT_PROMPTS]
    if not asked.prompts:
        prompts = [Prompt(row.example.prompt, row.example.response) for row in rows]
        return prompts, fit_rows(rows, loaded, asked.new_tokens)
    prompts, reasons = (
        [Prompt(as_messages(text, asked.system)) for text in asked.prompts],
        mostly_reasons(prepared.train),
    )
    return prompts, [fit_prompt(one, "", loaded, asked.new_tokens, thinking=reasons) for one in prompts]


def mostly_reasons(rows: Sequence[EncodedExample]) -> bool:
    """Return whether most responses contain reasoning; if so, trained models are prompted to reason."""
    return 2 * sum(has_reasoning(row.example.messages[-1]) for row in rows) > len(rows)


def fitting_rows(rows: Sequence[Row], found: Sequence[FittedPrompt | None]) -> tuple[list[Row], list[list[int]]]:
    """Select the rows whose prompts fit.

    Args:
        rows: Rows of any type, in the order of `found`.
        found: One prompt per row; None if it does not fit.

    Returns:
        The rows, and the token ids of their prompts.
    """
    kept = [(row, one.ids) for row, one in zip(rows, found, strict=True) if one is not None]
    return [row for row, _ in kept], [ids for _, ids in kept]


def shortened_prompts_note(found: Sequence[FittedPrompt | None]) -> str:
    """Return a sentence about prompts that were shortened or left out; "" if there are none."""
    cut, left_out = sum(one is not None and one.cut for one in found), sum(one is None for one in found)
    if not cut and not left_out:
        return ""
    return later(
        "Prompts that, with an answer of the maximum length, do not fit in the model's context: {cut} were cut from "
        "the left, and {left_out} were left out."
    ).format(cut=cut, left_out=left_out)


def as_messages(prompt: str, system: str = "") -> tuple[Message, ...]:
    """Return a user prompt as messages.

    Args:
        prompt: The text.
        system: System prompt; blank for none.

    Returns:
        The messages.
    """
    head = (Message("system", system),) if system.strip() else ()
    return (*head, Message("user", prompt))


def continued_with(prompt: Prompt, answers: Mapping[str, str], turn: str) -> Prompt:
    """Continue a conversation with the user's next message; each arm sees its own answers.

    Args:
        prompt: The conversation so far.
        answers: The last answer of each arm, by name.
        turn: The user's next message.

    Returns:
        The next prompt, without a reference.
    """
    message = Message("user", turn)
    own = {name: (*prompt.of(name), Message("assistant", text), message) for name, text in answers.items()}
    return Prompt((*prompt.messages, message), own=own)


def answer_lines(
    prompts: Sequence[Prompt], names: Sequence[str], answers: Answers, tokenizer: Any, *, cut: Sequence[bool] = ()
) -> list[dict[str, Any]]:
    """Return answers as dictionaries, one per prompt and sample.

    Args:
        prompts: The answered prompts.
        names: Names of the columns.
        answers: Answers by column, then by prompt.
        tokenizer: The model's tokenizer.
        cut: Whether each prompt was shortened.

    Returns:
        Dictionaries with `prompt`, `reference` and `arms`, which maps each column to `text`, `tokens` and `ended`.
        They also have `sample` (from 1) if there are several answers per prompt, and `cut` if the prompt was shortened.
    """
    each, lines = len(answers[0]) // len(prompts), []
    for index, by_column in enumerate(zip(*answers, strict=True)):
        prompt, sample = divmod(index, each)
        line: dict[str, Any] = {"prompt": prompts[prompt].text, "reference": prompts[prompt].reference}
        if cut and cut[prompt]:
            line["cut"] = True
        if each > 1:
            line["sample"] = sample + 1
        line["arms"] = {
            name: {"text": answer.text(tokenizer), "tokens": len(answer.ids), "ended": answer.ended}
            for name, answer in zip(names, by_column, strict=True)
        }
        lines.append(line)
    return lines


def read_prompts(path: Path, limits: Limits) -> tuple[Prompt, ...]:
    """Read prompts from a text file with one prompt per line, or from a JSONL file.

    A JSONL line is a string, a list of messages with `role` and `content`, or an object with `prompt` or `messages` and
    optionally `reference`. The last message must be the user's.

    Args:
        path: The file.
        limits: Limits of this server.

    Returns:
        The prompts.

    Raises:
        DataError: If the file or a line cannot be read.
        DoesNotFit: If a limit is exceeded.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The prompt file {path.absolute()} cannot be read: {cause(error)}.") from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    objects = path.suffix.lower() in (".jsonl", ".json")
    prompts = tuple(_prompt_of(line, number) if objects else Prompt(as_messages(line)) for number, line in numbered)
    AnswerSettings(prompts=tuple(prompt.text for prompt in prompts)).check(limits)
    return prompts


def _prompt_of(line: str, number: int) -> Prompt:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"Line {number} of the prompt file is not valid JSON: correct it.") from None
    entry = found if isinstance(found, dict) else {"messages" if isinstance(found, list) else "prompt": found}
    messages, prompt, reference = entry.get("messages"), entry.get("prompt"), entry.get("reference", "")
    if messages is None and not isinstance(prompt, str):
        raise DataError(
            f"Line {number} of the prompt file must be a string, a list of messages, or an object with `prompt`."
        )
    if not isinstance(reference, str):
        raise DataError(f"The reference in line {number} is not text: put it in quotes.")
    return Prompt(as_messages(str(prompt)) if messages is None else _messages(messages, number), reference)


def _messages(given: Any, number: int) -> tuple[Message, ...]:
    """Return the messages of a line; raise `DataError` if they are malformed or the last one is not the user's."""
    known = isinstance(given, list) and all(
        isinstance(one, dict) and one.get("role") in ROLES and isinstance(one.get("content"), str) for one in given
    )
    if not known or not given or given[-1]["role"] != "user":
        raise DataError(
            f"Each message in line {number} needs a `role` ({', '.join(ROLES)}) and a `content`, and the last one "
            "must be from the user."
        )
    return tuple(Message(one["role"], one["content"]) for one in given)
