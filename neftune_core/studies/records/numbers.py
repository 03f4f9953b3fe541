"""Write and read the measures that a record stores in addition to its events.

metrics.json     one entry per completed seed: measures of every arm, robustness, signatures, and descriptions of
                 the samples
examples.jsonl   one `rows` line per evaluation (losses and hits of each row), and one `answers` line per seed (texts
                 and scores of each answer); if a line is repeated, the last one counts
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from neftune_core.durable import write_whole
from neftune_core.engine.row_measures import RowMeasures
from neftune_core.evaluation.statistics import Floats
from neftune_core.studies.records.log import finite, parsed
from neftune_core.studies.records.record import Record
from neftune_core.studies.records.schema import metrics_of

METRICS, EXAMPLES = "metrics.json", "examples.jsonl"

Sampled = dict[str, dict[str, RowMeasures]]
"""Row measures by sample (`train`, `held_out`) and arm, each with one slot."""


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


def rows_by_step(record: Record) -> dict[tuple[int, int], Sampled]:
    """Return the row measures of every evaluation, by seed and step."""
    found: dict[tuple[int, int], Sampled] = {}
    for line in _lines(record, "rows"):
        if isinstance(line.get("step"), int):
            samples = table(line.get("samples")).items()
            found[line["seed"], line["step"]] = {name: _rows_by_arm(sample) for name, sample in samples}
    return found


def answer_scores(record: Record) -> dict[int, dict[str, dict[str, dict[str, Floats]]]]:
    """Return the scores of answers by seed, sample, arm and measure, `[answers]` or `[answers, fields]`."""
    return {
        line["seed"]: {
            name: {arm: _scores(scores) for arm, scores in table(table(sample).get("scores")).items()}
            for name, sample in table(line.get("samples")).items()
        }
        for line in _lines(record, "answers")
    }


def table(value: Any) -> dict[str, Any]:
    """Return `value` if it is a dict, else an empty dict."""
    return value if isinstance(value, dict) else {}


def _lines(record: Record, kind: str) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(OSError), (record.folder / EXAMPLES).open("rb") as lines:
        for line in lines:
            entry = parsed(line)
            if entry is not None and entry.get("kind") == kind and isinstance(entry.get("seed"), int):
                yield entry


def _rows_by_arm(sample: Any) -> dict[str, RowMeasures]:
    tokens = _floats(table(sample).get("tokens"))
    found: dict[str, RowMeasures] = {}
    for arm, numbers in table(table(sample).get("arms")).items():
        losses, hits = (_floats(table(numbers).get(name)) for name in ("loss", "hits"))
        if tokens.size and tokens.shape == losses.shape == hits.shape:
            found[arm] = RowMeasures(losses[None], hits[None], tokens)
    return found


def _scores(scores: Any) -> dict[str, Floats]:
    read = {name: _floats(values) for name, values in table(scores).items()}
    return {name: values for name, values in read.items() if values.size}


def _floats(values: Any) -> Floats:
    """Convert a list of numbers to an array, with None as NaN; the array is empty if this is not possible."""
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.zeros(0)
    return found if found.ndim in (1, 2) else np.zeros(0)
