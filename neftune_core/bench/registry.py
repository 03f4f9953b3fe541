"""The benchmarks by name. Each takes the arguments of `neftune bench` and returns its results as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neftune_core.bench.cluster import measure_cluster
from neftune_core.bench.company import measure_company
from neftune_core.bench.evidence import measure_evidence
from neftune_core.bench.gpu import measure_gpu
from neftune_core.bench.noise import length_rules_table, measure_noise
from neftune_core.bench.page import measure_page
from neftune_core.bench.table import ResultTable
from neftune_core.bench.train import measure_training
from neftune_core.bench.train_sides import Sizes
from neftune_core.bench.world import measure_world


def _sizes(given: Any) -> Sizes:
    rows = str(given.rows.resolve()) if given.rows else ""
    return Sizes(given.model, rows, first=given.first, steps=given.steps, device=given.device)


BENCHMARKS: dict[str, Callable[[Any], ResultTable]] = {
    "page": lambda given: measure_page(given.runs, given.network),
    "train": lambda given: measure_training(_sizes(given), given.runs, given.parts, profile=given.profile),
    "company": lambda given: measure_company(_sizes(given), given.runs, given.parts or ("bfloat16", "float32")),
    "gpu": lambda given: measure_gpu(given.device, given.runs),
    "world": lambda given: measure_world(),
    "noise": lambda given: measure_noise(),
    "lengths": lambda given: length_rules_table(),
    "evidence": lambda given: measure_evidence(),
    "cluster": lambda given: measure_cluster(given.runs),
}
