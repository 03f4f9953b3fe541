"""Scoring answers: exact match after normalising, a story by what it was asked for and by its grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.world.generator.judge import share_well_formed
from neftune_core.world.generator.lexicon import KINDS

_MANY = {thing.name: thing.many for things in KINDS.values() for thing in things}


def normalised(text: str) -> str:
    """Lower case, single spaces, no mark at the end: what two equal answers have in common."""
    return " ".join(text.lower().split()).rstrip(" .!?")


def exact_match(answer: str, wanted: str) -> bool:
    """True if the two are equal after normalising."""
    return normalised(answer) == normalised(wanted)


def does_not_know(answer: str) -> bool:
    """True for a plain "I do not know", with or without more behind it."""
    return normalised(answer).startswith("i do not know")


@dataclass(frozen=True)
class StoryScore:
    """`named` is the share of the asked-for things that appear, `grammatical` the share of good sentences."""

    named: float
    grammatical: float


def story_score(answer: str, things: Sequence[str]) -> StoryScore:
    """Scores a story by the names of the things it was to be about ("Tilda", "fox")."""
    named = [thing for thing in things if _appears(thing, answer)]
    return StoryScore(len(named) / len(things) if things else 1.0, share_well_formed(answer))


def _appears(thing: str, text: str) -> bool:
    forms = "|".join(re.escape(form) for form in (thing, _MANY.get(thing, thing)))
    return re.search(rf"\b({forms})\b", text, re.IGNORECASE) is not None


def score(row: Mapping[str, Any], answer: str) -> float:
    """The score of an answer to a row of an instruction set, from 0 to 1.

    A row with `things` is a story: the mean of what is named and what is grammatical. Any other row is
    scored by exact match with its true answer (`truth` where the row's output is wrong on purpose).
    """
    if "things" in row:
        result = story_score(answer, row["things"])
        return (result.named + result.grammatical) / 2
    return float(exact_match(answer, row.get("truth", row["output"])))
