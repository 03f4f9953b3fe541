"""What answers are like: near their references, long, ended, repetitive, or learnt by heart.

Every measure is kept by example, so that it can be resampled; the definitions are in assets/docs/evidence.md.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neftune_core.errors import DataError
from neftune_core.evaluation.overlap import bleu, chrf
from neftune_core.evaluation.rouge import common_run, rouge_l, units
from neftune_core.evaluation.statistics import Floats


def with_typos(text: str, rate: float, generator: np.random.Generator) -> str:
    """`text` in which each letter has an error with probability `rate`; all else stays where it is.

    A replacement is a letter drawn from the text itself, so that it is of its script.
    """
    letters = [character for character in text if character.isalpha()]
    found: list[str] = []
    place = 0
    while place < len(text):
        character, following = text[place], text[place + 1 : place + 2]
        place += 1
        if not character.isalpha() or generator.random() >= rate:
            found.append(character)
            continue
        kind = generator.integers(4)
        if kind == 0 and following.isalpha():
            found += [following, character]
            place += 1
        elif kind == 1:
            found += [character, character]
        elif kind == 2:
            found.append(letters[generator.integers(len(letters))])
    return "".join(found)


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


PREFIX = 50
"""Tokens at the beginning of an answer in which repetitions are counted (the paper's 50 for Alpaca)."""

GRAM = 2


@dataclass(frozen=True)
class Reply:
    """One answer as a record keeps it: its text, its length in tokens of the model, and how it ended.

    `ended` is `stop` where the model ended by itself. `ids` are its tokens where they are known; else repetitions are
    counted in its words.
    """

    text: str
    tokens: int
    ended: str
    ids: tuple[int, ...] = ()

    @property
    def pieces(self) -> Sequence[Hashable]:
        """What repetitions are counted in."""
        return self.ids or units(self.text)


@dataclass
class TextMeasures:
    """One number a measure in `values`, and in `scores` its examples: `[examples]`, or `[examples, fields]` of counts.

    An example that has no such number (an answer too short for the repetitions) is NaN in `scores`. `signatures` says
    how sacrebleu took its measures.
    """

    values: dict[str, float] = field(default_factory=dict)
    scores: dict[str, Floats] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, scores: Iterable[float]) -> None:
        """A measure that is the mean of its examples."""
        self.scores[name] = np.array(list(scores), dtype=np.float64)
        self.values[name] = mean_of_known(self.scores[name])


def mean_of_known(scores: Floats) -> float:
    """The mean of the examples that are not NaN; NaN where there is none."""
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if len(known) else float("nan")


def against_references(replies: Sequence[Reply], references: Sequence[str]) -> TextMeasures:
    """`bleu`, `chrf` (0 to 100) and `rouge_l` (0 to 1) of answers to held-out prompts; raises `DataError`."""
    _require_pairs(replies, references)
    found = TextMeasures()
    texts = [reply.text for reply in replies]
    for name, measure in (("bleu", bleu), ("chrf", chrf)):
        overlap = measure(texts, references)
        found.values[name], found.scores[name] = overlap.score, overlap.counts
        found.signatures[name] = overlap.signature
    pairs = zip(texts, references, strict=True)
    found.add("rouge_l", (rouge_l(units(text), units(reference)) for text, reference in pairs))
    return found


def memorisation(replies: Sequence[Reply], responses: Sequence[str]) -> TextMeasures:
    """How much answers to training prompts are the responses trained on; raises `DataError`.

    `memorised_rouge_l`: ROUGE-L, 0 to 1. `memorised_run`: units of the longest run that both contain.
    `memorised_run_share`: that run as a share of the response.
    """
    _require_pairs(replies, responses)
    found = TextMeasures()
    pairs = [(units(reply.text), units(response)) for reply, response in zip(replies, responses, strict=True)]
    found.add("memorised_rouge_l", (rouge_l(answer, response) for answer, response in pairs))
    runs = [common_run(answer, response) for answer, response in pairs]
    found.add("memorised_run", runs)
    found.add(
        "memorised_run_share", (run / max(len(response), 1) for run, (_, response) in zip(runs, pairs, strict=True))
    )
    return found


def shape(replies: Sequence[Reply], *, prefix: int = PREFIX, gram: int = GRAM) -> TextMeasures:
    """Length, stop rate, repetition and distinct n-grams of answers; raises `DataError` where there is none.

    `tokens`, `characters`: means, and medians as `median_tokens`, `median_characters`. `stop_rate`: the share that the
    model ended. `repetition`: 1 - distinct / all n-grams in the first `prefix` tokens, of the answers that have so
    many. `distinct`: distinct / all n-grams of those beginnings taken together.
    """
    if not replies:
        raise DataError("There are no answers to measure.")
    found = TextMeasures()
    found.add("tokens", (reply.tokens for reply in replies))
    found.add("characters", (len(reply.text) for reply in replies))
    for name in ("tokens", "characters"):
        found.values[f"median_{name}"] = float(np.median(found.scores[name]))
    found.add("stop_rate", (reply.ended == "stop" for reply in replies))
    found.add("repetition", (repetition(reply.pieces, gram, prefix) for reply in replies))
    found.values["distinct"] = distinct(
        [reply.pieces[:prefix] for reply in replies if len(reply.pieces) >= prefix], gram
    )
    return found


def repetition(pieces: Sequence[Hashable], gram: int, prefix: int) -> float:
    """The share of n-grams in the first `prefix` pieces that occurred before; NaN for a shorter answer (rep-n)."""
    return float("nan") if len(pieces) < prefix else 1 - distinct([pieces[:prefix]], gram)


def distinct(answers: Sequence[Sequence[Hashable]], gram: int) -> float:
    """Different n-grams over all n-grams of all answers together (Li et al. 2016); NaN where there is none."""
    grams = [tuple(answer[start : start + gram]) for answer in answers for start in range(len(answer) - gram + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def _require_pairs(replies: Sequence[Reply], references: Sequence[str]) -> None:
    if not replies:
        raise DataError("There are no answers to measure.")
    if len(replies) != len(references):
        raise DataError(f"There are {len(replies)} answers but {len(references)} references: give one for each.")
