"""Score answers: exact match after normalising; for stories, requested content and grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from neftune_core.world.judge import share_well_formed
from neftune_core.world.lexicon import ENTITIES

_MANY = {thing.name: thing.many for things in ENTITIES.values() for thing in things}


def normalised(text: str) -> str:
    """Return the text in lower case, with single spaces and without final punctuation."""
    return " ".join(text.lower().split()).rstrip(" .!?")


def exact_match(answer: str, wanted: str) -> bool:
    """Compare two texts after normalising.

    Args:
        answer: Generated answer.
        wanted: The expected answer.

    Returns:
        Whether they are equal.
    """
    return normalised(answer) == normalised(wanted)


def does_not_know(answer: str) -> bool:
    """Return whether the answer begins with "I do not know"."""
    return normalised(answer).startswith("i do not know")


class StoryScore(NamedTuple):
    """The score of a story; both values are from 0 to 1.

    Attributes:
        named: Share of the requested entities that the story mentions.
        grammatical: Share of its sentences that are well formed.
    """

    named: float
    grammatical: float


def story_score(answer: str, things: Sequence[str]) -> StoryScore:
    """Score a story.

    Args:
        answer: The story.
        things: Names of the requested entities, such as "Tilda" or "fox".

    Returns:
        The two scores.
    """
    named = [thing for thing in things if _appears(thing, answer)]
    return StoryScore(len(named) / len(things) if things else 1.0, share_well_formed(answer))


def _appears(thing: str, text: str) -> bool:
    forms = "|".join(re.escape(form) for form in (thing, _MANY.get(thing, thing)))
    return re.search(rf"\b({forms})\b", text, re.IGNORECASE) is not None


def score(row: Mapping[str, Any], answer: str) -> float:
    """Score an answer to a row of an instruction set, from 0 to 1.

    A story (a row with `things`) gets the mean of its two scores. Any other row is scored by exact match with its true
    answer, which is `truth` if the row's output is wrong on purpose.

    Args:
        row: Row of an instruction set.
        answer: Generated answer.

    Returns:
        The score.
    """
    if "things" in row:
        result = story_score(answer, row["things"])
        return (result.named + result.grammatical) / 2
    return float(exact_match(answer, row.get("truth", row["output"])))
