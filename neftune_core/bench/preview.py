"""Server time of the Noise tab for a preview, its repeated draws and its nearest tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from neftune_core.bench.table import ResultTable, seconds_of, spread
from neftune_core.noise import nearest, preview
from neftune_core.noise.preview import Sentence, Vectors

LENGTH, WIDTH, VOCABULARY = 60, 576, 49_152
PIECE = 8192


def measure_preview(runs: int = 20) -> ResultTable:
    """Measure previews of 60 tokens of width 576 with a vocabulary of 49,152, over `runs` draws.

    The vectors are random. The computation is the same as for a model of this size, without its forward pass.
    """
    from neftune_core.models.device import describe_machine

    table = ResultTable(f"A preview of {LENGTH} tokens of width {WIDTH}", describe_machine())
    for precision in ("float32", "bfloat16"):
        sentence = random_sentence(precision)
        table.rows.append(_row(f"numbers of every kind, {precision}, ms", preview.preview, sentence, runs))
    table.rows.append(_row("16 repeated draws, ms", preview.spread, sentence, runs))
    words = f"nearest of {VOCABULARY:,} tokens, ms"
    table.rows.append(_row(words, nearest.nearest_tokens, sentence, max(1, runs // 4)))
    table.notes.append("The target for the numbers is 20 ms. The page requests the other two separately.")
    return table


def random_sentence(precision: str) -> Sentence:
    """Return a sentence of random vectors from a random vocabulary."""
    generator = np.random.default_rng(0)
    vocabulary = 0.1 * generator.standard_normal((VOCABULARY, WIDTH), dtype=np.float32)
    ids = generator.integers(0, VOCABULARY, LENGTH)

    def pieces() -> Iterator[Vectors]:
        for start in range(0, VOCABULARY, PIECE):
            yield vocabulary[start : start + PIECE]

    return Sentence(
        tokens=[str(number) for number in ids],
        clean=vocabulary[ids],
        special=np.zeros(LENGTH, dtype=np.bool_),
        precision=precision,
        vocabulary=pieces,
        vocabulary_size=VOCABULARY,
    )


def _row(
    what: str, measure: Callable[[Sentence, int], dict[str, Any]], sentence: Sentence, runs: int
) -> dict[str, Any]:
    """Return the run time of `measure` in milliseconds, without the first call, and its JSON size in kilobytes."""
    sent = len(json.dumps(measure(sentence, 0))) / 1000
    times = [1000 * seconds_of(partial(measure, sentence, seed)) for seed in range(runs)]
    return {"what": what} | spread(times) | {"sent, kB": round(sent, 1)}
