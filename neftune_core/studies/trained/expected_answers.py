"""Find the answer that a data set has for a typed prompt, or else an example row of the data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from neftune_core.data.formats.starters import STARTERS
from neftune_core.errors import LabError
from neftune_core.language import later, say

if TYPE_CHECKING:
    from neftune_core.data.preparing import PreparedData
    from neftune_core.studies.comparison import SelectedArm
    from neftune_core.studies.prompts import Prompt

LONGEST = 120
"""Maximum number of characters of a quoted prompt or answer."""


def expected(
    prepare: Callable[..., tuple[PreparedData, Any]], chosen: Sequence[SelectedArm], prompts: list[Prompt]
) -> tuple[list[Prompt], str]:
    """Add the expected answer to each prompt that is a row of the arms' data; describe the data for other prompts.

    Args:
        prepare: Function of data and model settings that returns the prepared rows and the tokenizer.
        chosen: The arms.
        prompts: Typed prompts.

    Returns:
        The prompts, with known answers as `reference`, and a sentence about the data. If the arms were trained on
        different data, or the data can no longer be read, the prompts are unchanged and the sentence is "".
    """
    studies = [one.record.study for one in chosen]
    if any(study.data != studies[0].data for study in studies):
        return prompts, ""
    try:
        prepared, _ = prepare(studies[0].data, studies[0].model)
    except LabError:
        return prompts, ""
    return _with_expected(prompts, prepared), _taught_by_rows(prepared)


def _with_expected(prompts: Sequence[Prompt], prepared: PreparedData) -> list[Prompt]:
    """Add the expected answer to each prompt that is a row of the data; training rows take precedence.

    Only single-turn rows are considered. System messages, letter case and white space are ignored.
    """
    wanted = {_plain(one.text) for one in prompts}
    known: dict[str, str] = {}
    for row in (*prepared.train, *prepared.held_out):
        turns = [message for message in row.example.prompt if message.role != "system"]
        if [message.role for message in turns] == ["user"] and (text := _plain(turns[0].content)) in wanted:
            known.setdefault(text, row.example.response)
    return [replace(one, reference=one.reference or known.get(_plain(one.text), "")) for one in prompts]


def _taught_by_rows(prepared: PreparedData) -> str:
    """Return a sentence with an example row of a data set, for prompts that are not rows of it."""
    example = next((row.example for row in prepared.train if row.example.prompt[-1].role == "user"), None)
    if example is None:
        return say("No expected answer: this prompt is not a row of {title}.", title=prepared.title)
    texts = (" ".join(text.split()) for text in (example.prompt[-1].content, example.response))
    prompt, answer = (text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…" for text in texts)
    words = later(
        "No expected answer: this prompt is not a row of {title}, which teaches, for example: “{prompt}” → “{answer}”"
    )
    return say(words, title=prepared.title, prompt=prompt, answer=answer)


def taught_by_set(data: Mapping[str, Any]) -> str:
    """Return a sentence about what models learn from the starter set described by `data`; "" for other data."""
    title = str(data.get("title"))
    if title not in STARTERS:
        return ""
    return say("No expected answer; {title} teaches: {words}.", title=title, words=say(STARTERS[title].words))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
