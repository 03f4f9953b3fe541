"""Benchmarks of this machine. Each returns a table that can be written as Markdown or JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neftune_core.bench.table import ResultTable


def _page(arguments: Any) -> ResultTable:
    from neftune_core.bench.page import measure_page

    return measure_page(runs=arguments.runs, megabits=arguments.network)


def _train(arguments: Any) -> ResultTable:
    from neftune_core.bench.train import measure_training
    from neftune_core.bench.train_sides import Sizes

    rows = str(arguments.rows.resolve()) if arguments.rows else ""
    sizes = Sizes(arguments.model, rows, first=arguments.first, steps=arguments.steps, device=arguments.device)
    return measure_training(sizes, arguments.runs, arguments.parts, profile=arguments.profile)


def _company(arguments: Any) -> ResultTable:
    from neftune_core.bench.company import measure_company
    from neftune_core.bench.train_sides import Sizes

    rows = str(arguments.rows.resolve()) if arguments.rows else ""
    sizes = Sizes(arguments.model, rows, first=arguments.first, device=arguments.device)
    return measure_company(sizes, arguments.runs, arguments.parts or ("bfloat16", "float32"))


def _gpu(arguments: Any) -> ResultTable:
    from neftune_core.bench.gpu import measure_gpu

    return measure_gpu(arguments.device, arguments.runs)


def _world(arguments: Any) -> ResultTable:
    from neftune_core.bench.world import measure_world

    return measure_world()


def _evidence(arguments: Any) -> ResultTable:
    from neftune_core.bench.evidence import measure_evidence

    return measure_evidence()


def _noise(arguments: Any) -> ResultTable:
    from neftune_core.bench.noise import measure_noise

    return measure_noise()


def _lengths(arguments: Any) -> ResultTable:
    from neftune_core.bench.noise_tables import length_rules_table

    return length_rules_table()


def _preview(arguments: Any) -> ResultTable:
    from neftune_core.bench.preview import measure_preview

    return measure_preview()


def _cluster(arguments: Any) -> ResultTable:
    from neftune_core.bench.cluster import measure_cluster

    return measure_cluster(runs=arguments.runs)


BENCHMARKS: dict[str, Callable[[Any], ResultTable]] = {
    "page": _page,
    "train": _train,
    "company": _company,
    "gpu": _gpu,
    "world": _world,
    "noise": _noise,
    "lengths": _lengths,
    "preview": _preview,
    "evidence": _evidence,
    "cluster": _cluster,
}
