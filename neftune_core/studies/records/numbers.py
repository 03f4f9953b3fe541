"""Write and read the measures that a record stores in addition to its events.

metrics.json     one entry per completed seed: measures of every arm, robustness, signatures, and descriptions of
                 the samples
examples.jsonl   one `rows` line per evaluation (losses and hits of each row), and one `answers` line per seed (texts
                 and scores of each answer); if a line is repeated, the last one counts, and invalid lines are ignored
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from neftune_core.durable import write_whole
from neftune_core.engine.row_measures import RowMeasures
from neftune_core.evaluation.measures import MEASURES, Measure
from neftune_core.evaluation.statistics import Floats
from neftune_core.studies.records.log import finite
from neftune_core.studies.records.record import Record
from neftune_core.studies.records.schema import RowsLine, SampleRows, metrics_of, read_examples

METRICS, EXAMPLES = "metrics.json", "examples.jsonl"

Sampled = dict[str, dict[str, RowMeasures]]
"""Row measures by sample (`train`, `held_out`) and arm, each with one slot."""
RowsByStep = dict[tuple[int, int], Sampled]
ScoresBySeed = dict[int, dict[str, dict[str, dict[str, Floats]]]]
Key = TypeVar("Key")
Measured = TypeVar("Measured")


def write_metrics(record: Record, seed: int, numbers: Mapping[str, Any]) -> None:
    """Store the measures of one seed, keeping those of other seeds.

    Args:
        record: Record of the study.
        seed: Seed whose measures are stored.
        numbers: The measures.
    """
    seeds = {**metrics(record), str(seed): numbers}
    write_whole(record.folder / METRICS, json.dumps(finite({"seeds": seeds}), indent=1, ensure_ascii=False))


def metrics(record: Record) -> dict[str, dict[str, Any]]:
    """Return the measures of each seed, by its number as text; empty if they are missing or unreadable."""
    try:
        return metrics_of(record.folder / METRICS)
    except (OSError, ValueError):
        return {}


def rows_by_step(record: Record) -> RowsByStep:
    """Return the row measures of every evaluation, by seed and step; the result must not be changed."""
    return _examples(record)[0]


def answer_scores(record: Record) -> ScoresBySeed:
    """Return the scores of answers by seed, sample, arm and measure, `[answers]` or `[answers, counts]`.

    The result must not be changed.
    """
    return _examples(record)[1]


def table(value: Any) -> dict[str, Any]:
    """Return `value` if it is a dict, else an empty dict."""
    return value if isinstance(value, dict) else {}


def _examples(record: Record) -> tuple[RowsByStep, ScoresBySeed]:
    path = record.folder.absolute() / EXAMPLES
    try:
        status = path.stat()
    except OSError:
        return {}, {}
    return _read(path, bool(record.about.get("imported")), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)  # a page reads the file about ten times
def _read(path: Path, imported: bool, modified: int, size: int) -> tuple[RowsByStep, ScoresBySeed]:
    rows: RowsByStep = {}
    answers: ScoresBySeed = {}
    for line in read_examples(path, imported=imported):
        if isinstance(line, RowsLine):
            rows[line.seed, line.step] = {name: _rows_by_arm(sample) for name, sample in line.samples.items()}
        else:
            answers[line.seed] = {
                name: {arm: _scores(scores) for arm, scores in sample.scores.items()}
                for name, sample in line.samples.items()
            }
    return _paired(rows, lambda one: len(one.tokens)), _paired(answers, lambda one: len(next(iter(one.values()), ())))


def _paired(
    lines: dict[Key, dict[str, dict[str, Measured]]], count: Callable[[Measured], int]
) -> dict[Key, dict[str, dict[str, Measured]]]:
    """Leave out samples whose number of rows differs between arms, seeds or steps: they cannot be compared."""
    sizes: dict[str, set[int]] = {}
    for samples in lines.values():
        for name, arms in samples.items():
            sizes.setdefault(name, set()).update(map(count, arms.values()))
    return {
        key: {name: arms for name, arms in samples.items() if len(sizes[name]) == 1} for key, samples in lines.items()
    }


def _rows_by_arm(sample: SampleRows) -> dict[str, RowMeasures]:
    tokens = _floats(sample.tokens)
    found: dict[str, RowMeasures] = {}
    for arm, numbers in sample.arms.items():
        losses, hits = _floats(numbers.loss), _floats(numbers.hits)
        if tokens.size and tokens.shape == losses.shape == hits.shape:
            found[arm] = RowMeasures(losses[None], hits[None], tokens)
    return found


def _scores(scores: Mapping[str, Any]) -> dict[str, Floats]:
    """Convert the scores of one arm; leave out measures of a wrong shape, and all if their lengths differ."""
    read = {name: _floats(values) for name, values in scores.items() if name in MEASURES}
    fitting = {name: values for name, values in read.items() if values.size and _fits(MEASURES[name], values)}
    return fitting if len({len(values) for values in fitting.values()}) == 1 else {}


def _fits(measure: Measure, values: Floats) -> bool:
    return values.shape[1:] == ((measure.counts,) if measure.counts else ())


def _floats(values: Any) -> Floats:
    """Convert a list of numbers to an array, with None as NaN; the array is empty if this is not possible."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.zeros(0)
