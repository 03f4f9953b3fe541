"""The numbers that a record keeps besides its events, so that whatever was measured can be analysed again.

metrics.json     by seed, when it ends: the measures of every arm, robustness, signatures, and the samples in words
examples.jsonl   by example: a line `rows` at every evaluation (losses and hits of each row), a line `answers` at a
                 seed's end (texts and scores of each answer); where a seed went that way twice, the last line counts
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from neftune_core.durable import write_whole
from neftune_core.engine.clean_loss import RowMeasures
from neftune_core.evaluation.statistics import Floats
from neftune_core.studies.records.log import append, finite, parsed
from neftune_core.studies.records.parts import metrics_of
from neftune_core.studies.records.record import Record

METRICS, EXAMPLES = "metrics.json", "examples.jsonl"

Sampled = dict[str, dict[str, RowMeasures]]
"""Rows by sample (`train`, `held_out`) and arm, each with one slot."""


def write_rows(record: Record, seed: int, step: int, samples: Mapping[str, Any]) -> None:
    """Keep the numbers of every row after a step, as `RowMeasures.kept` gives them."""
    append(record.folder / EXAMPLES, {"kind": "rows", "seed": seed, "step": step, "samples": dict(samples)})


def write_answers(record: Record, seed: int, samples: Mapping[str, Any]) -> None:
    """Keep the measured answers of a seed: by sample, `texts` and `scores` by arm."""
    append(record.folder / EXAMPLES, {"kind": "answers", "seed": seed, "samples": dict(samples)})


def write_metrics(record: Record, seed: int, numbers: Mapping[str, Any]) -> None:
    """Keep what a seed reached beside what the others did."""
    seeds = {**metrics(record), str(seed): numbers}
    write_whole(record.folder / METRICS, json.dumps(finite({"seeds": seeds}), indent=1, ensure_ascii=False))


def metrics(record: Record) -> dict[str, dict[str, Any]]:
    """What each seed reached, by its number as text; empty where nothing was kept or can be read."""
    try:
        return metrics_of(record.folder / METRICS)
    except (OSError, ValueError):
        return {}


def rows_by_step(record: Record) -> dict[tuple[int, int], Sampled]:
    """The rows of every evaluation, by seed and step."""
    found: dict[tuple[int, int], Sampled] = {}
    for line in _lines(record, "rows"):
        seed, step = line.get("seed"), line.get("step")
        if isinstance(seed, int) and isinstance(step, int):
            found[seed, step] = {name: _sampled(sample) for name, sample in table(line.get("samples")).items()}
    return found


def answer_scores(record: Record) -> dict[int, dict[str, dict[str, dict[str, Floats]]]]:
    """The scores of the measured answers: by seed, sample, arm and measure, `[answers]` or `[answers, fields]`."""
    found = {}
    for line in _lines(record, "answers"):
        if isinstance(line.get("seed"), int):
            found[line["seed"]] = {
                name: {arm: _scores(scores) for arm, scores in table(table(sample).get("scores")).items()}
                for name, sample in table(line.get("samples")).items()
            }
    return found


def table(value: Any) -> dict[str, Any]:
    """The value where it is a table; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _lines(record: Record, kind: str) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(OSError), (record.folder / EXAMPLES).open("rb") as lines:
        for line in lines:
            entry = parsed(line)
            if entry is not None and entry.get("kind") == kind:
                yield entry


def _sampled(sample: Any) -> dict[str, RowMeasures]:
    tokens = _floats(table(sample).get("tokens"))
    found: dict[str, RowMeasures] = {}
    for arm, numbers in table(table(sample).get("arms")).items():
        losses, hits = (_floats(table(numbers).get(name)) for name in ("loss", "hits"))
        if (
            tokens is not None
            and losses is not None
            and hits is not None
            and tokens.shape == losses.shape == hits.shape
        ):
            found[arm] = RowMeasures(losses[None], hits[None], tokens)
    return found


def _scores(scores: Any) -> dict[str, Floats]:
    read = {name: _floats(values) for name, values in table(scores).items()}
    return {name: values for name, values in read.items() if values is not None}


def _floats(values: Any) -> Floats | None:
    """An array of numbers, None among them as NaN; None for anything else, and for an empty one."""
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return found if found.ndim in (1, 2) and found.size else None
