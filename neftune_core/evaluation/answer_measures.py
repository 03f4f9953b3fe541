"""What one answer is like, in numbers under it: length, ending, repetition, overlap with a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neftune_core.evaluation.rouge import rouge_l, units
from neftune_core.evaluation.text_measures import PREFIX, distinct


def measured(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a comparison with the measures of every answer in it.

    `characters`; `repetition`: the share of pairs of words in the first 50 that stood there before, None below two
    words (a study's repetition counts tokens and leaves shorter answers out); `rouge_l` with the reference, 0 to 1,
    None where there is none.
    """
    reference = units(line.get("reference") or "")
    return {**line, "arms": {name: {**answer, **_of(answer, reference)} for name, answer in line["arms"].items()}}


def _of(answer: Mapping[str, Any], reference: list[str]) -> dict[str, float | int | None]:
    words = units(answer["text"])
    different = distinct([words[:PREFIX]], 2)
    return {
        "characters": len(answer["text"]),
        "repetition": None if different != different else 1 - different,
        "rouge_l": rouge_l(words, reference) if reference else None,
    }
