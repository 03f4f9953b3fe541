"""Measures of answers: similarity to references, length, repetition and memorisation.

Measures are stored per example, so that they can be resampled; medians and distinct-2 are only stored for all answers.
assets/docs/evidence.md gives the definitions.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from neftune_core.errors import DataError
from neftune_core.evaluation.overlap import bleu, chrf, common_run, rouge_l, units
from neftune_core.evaluation.statistics import Floats


def with_typos(text: str, rate: float, generator: np.random.Generator) -> str:
    """Insert typing errors by swapping, doubling, replacing or dropping letters.

    Args:
        text: Original text; only letters are changed.
        rate: Probability of an error per letter.
        generator: Source of the errors.

    Returns:
        The text with errors; replacement letters are drawn from the text, so that they match its script.
    """
    letters = list(filter(str.isalpha, text))
    found: list[str] = []
    position = 0
    while position < len(text):
        character, following = text[position], text[position + 1 : position + 2]
        position += 1
        if not character.isalpha() or generator.random() >= rate:
            found.append(character)
            continue
        kind = generator.integers(4)
        if kind == 0 and following.isalpha():
            found += [following, character]
            position += 1
        elif kind == 1:
            found += [character, character]
        elif kind == 2:
            found.append(letters[generator.integers(len(letters))])
    return "".join(found)


def with_measures(line: Mapping[str, Any]) -> dict[str, Any]:
    """Add measures to every answer to one prompt of a comparison.

    Args:
        line: The answers by arm under `arms`, each with its `text`; and optionally the `reference` answer.

    Returns:
        A copy of `line`, in which every answer also has:

        * `characters`: Length of the answer in characters.
        * `repetition`: Share of repeated word pairs within the first 50 words; None for fewer than two words. (In a
          study, repetition counts tokens, and shorter answers are left out.)
        * `rouge_l`: ROUGE-L with the reference, 0 to 1; None without a reference.
    """
    reference = units(line.get("reference") or "")
    return {
        **line,
        "arms": {name: {**answer, **_answer_measures(answer, reference)} for name, answer in line["arms"].items()},
    }


def _answer_measures(answer: Mapping[str, Any], reference: list[str]) -> dict[str, float | int | None]:
    words = units(answer["text"])
    different = distinct([words[:PREFIX]])
    return {
        "characters": len(answer["text"]),
        "repetition": None if math.isnan(different) else 1 - different,
        "rouge_l": rouge_l(words, reference) if reference else None,
    }


PREFIX = 50
"""Number of initial tokens of an answer in which repetitions are counted (50 for Alpaca in the NEFTune paper)."""


@dataclass(frozen=True)
class Reply:
    """One answer as stored in a record.

    Attributes:
        text: The answer.
        tokens: Length in tokens.
        ended: "stop" if the model ended the answer.
        ids: Token ids; without them, repetitions are counted in words.
    """

    text: str
    tokens: int
    ended: str
    ids: tuple[int, ...] = ()

    @property
    def pieces(self) -> Sequence[Hashable]:
        """The units in which repetitions are counted."""
        return self.ids or units(self.text)


@dataclass
class TextMeasures:
    """Measures of a set of answers.

    Attributes:
        values: One number per measure.
        scores: Per example, `[examples]` or `[examples, fields]` (counts); NaN for examples without a value, such as
            answers too short for repetition.
        signatures: sacrebleu's signatures of its measures.
    """

    values: dict[str, float] = field(default_factory=dict)
    scores: dict[str, Floats] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, scores: Iterable[float]) -> None:
        """Add a measure that is the mean of its examples.

        Args:
            name: Name of the measure.
            scores: One value per example.
        """
        self.scores[name] = np.array(list(scores), dtype=np.float64)
        known = self.scores[name][~np.isnan(self.scores[name])]
        self.values[name] = float(known.mean()) if len(known) else float("nan")


def against_references(replies: Sequence[Reply], references: Sequence[str]) -> TextMeasures:
    """Compute `bleu`, `chrf` (0 to 100) and `rouge_l` (0 to 1) of answers to held-out prompts.

    Args:
        replies: The answers.
        references: One reference per answer.

    Returns:
        The measures.

    Raises:
        DataError: If there are no answers, or their number differs from that of the references.
    """
    _require_pairs(replies, references)
    found = TextMeasures()
    texts = [reply.text for reply in replies]
    for name, measure in (("bleu", bleu), ("chrf", chrf)):
        found.values[name], found.scores[name], found.signatures[name] = measure(texts, references)
    pairs = zip(texts, references, strict=True)
    found.add("rouge_l", (rouge_l(units(text), units(reference)) for text, reference in pairs))
    return found


def memorisation(replies: Sequence[Reply], responses: Sequence[str]) -> TextMeasures:
    """Compute how closely answers to training prompts reproduce the responses trained on.

    Args:
        replies: The answers.
        responses: The training response of each prompt.

    Returns:
        `memorised_rouge_l` (0 to 1), `memorised_run` (length of the longest common run, in `units`) and
        `memorised_run_share` (that length as a share of the length of the response).

    Raises:
        DataError: If there are no answers, or their number differs from that of the responses.
    """
    _require_pairs(replies, responses)
    found = TextMeasures()
    pairs = [(units(reply.text), units(response)) for reply, response in zip(replies, responses, strict=True)]
    found.add("memorised_rouge_l", (rouge_l(answer, response) for answer, response in pairs))
    runs = [(common_run(answer, response), len(response)) for answer, response in pairs]
    found.add("memorised_run", (run for run, _ in runs))
    found.add("memorised_run_share", (run / max(length, 1) for run, length in runs))
    return found


def shape(replies: Sequence[Reply], *, prefix: int = PREFIX) -> TextMeasures:
    """Compute length, stop rate, repeated and distinct pairs of answers.

    Args:
        replies: The answers.
        prefix: Number of initial tokens in which pairs are counted; shorter answers have no pairs.

    Returns:
        `tokens` and `characters` (means, with `median_tokens` and `median_characters`), `stop_rate` (share ended by the
        model), `repetition` (1 - distinct / all pairs per answer) and `distinct` (distinct / all pairs of all answers).

    Raises:
        DataError: If there are no answers.
    """
    if not replies:
        raise DataError("There are no answers to measure.")
    found = TextMeasures()
    found.add("tokens", (reply.tokens for reply in replies))
    found.add("characters", (len(reply.text) for reply in replies))
    for name in ("tokens", "characters"):
        found.values[f"median_{name}"] = float(np.median(found.scores[name]))
    found.add("stop_rate", (reply.ended == "stop" for reply in replies))
    found.add("repetition", (repetition(reply.pieces, prefix) for reply in replies))
    found.values["distinct"] = distinct([reply.pieces[:prefix] for reply in replies if len(reply.pieces) >= prefix])
    return found


def repetition(pieces: Sequence[Hashable], prefix: int) -> float:
    """Compute rep-2: the share of neighbouring pairs among the first pieces that repeat an earlier pair.

    Args:
        pieces: Units of one answer.
        prefix: Number of pieces considered.

    Returns:
        0 to 1; NaN for an answer shorter than `prefix`.
    """
    return float("nan") if len(pieces) < prefix else 1 - distinct([pieces[:prefix]])


def distinct(answers: Iterable[Sequence[Hashable]]) -> float:
    """Return distinct-2 (Li et al. 2016): the share of distinct neighbouring pairs of units; NaN without a pair."""
    pairs = [pair for answer in answers for pair in pairwise(answer)]
    return len(set(pairs)) / len(pairs) if pairs else float("nan")


def _require_pairs(replies: Sequence[Reply], references: Sequence[str]) -> None:
    if not replies:
        raise DataError("There are no answers to measure.")
    if len(replies) != len(references):
        raise DataError(f"There are {len(replies)} answers but {len(references)} references: give one for each.")
