"""Cost and benefit of Ray for a sweep: the same studies without Ray, and on Ray with one and two workers."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from neftune_core.bench.table import ResultTable
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.settings import Limits
from neftune_core.studies.settings import EXAMPLE
from neftune_core.sweeps.on_ray import OnRay
from neftune_core.sweeps.record import create_sweep
from neftune_core.sweeps.settings import SweepSettings
from neftune_core.sweeps.sweep import RunCells, run_in_turn, run_sweep

CELLS = 8
STEPS = 60
GPUS = (1, 8, 64)
MANY = 1000


def measure_cluster(runs: int = 1) -> ResultTable:
    """Time a sweep of `CELLS` studies on the bundled model, each on one thread.

    Raises:
        LabError: If the bundled model cannot be loaded, or a sweep fails.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    table = ResultTable(f"A sweep of {CELLS} studies of the bundled world, {STEPS} steps each, on Ray")
    try:
        load(ModelSettings())
        for _ in range(runs):
            here, _ = _seconds(run_in_turn)
            one, first_of_one = _seconds(OnRay(options={"num_cpus": 1, "include_dashboard": False}))
            two, first_of_two = _seconds(OnRay(options={"num_cpus": 2, "include_dashboard": False}))
            overhead = (one - first_of_one - here * (CELLS - 1) / CELLS) / (CELLS - 1)
            found = {
                "without Ray, one after another, s": here,
                "on Ray, one worker, s": one,
                "on Ray, two workers, s": two,
                "two workers / one worker": two / one,
                "until the first study has ended, one worker, s": first_of_one,
                "until the first study has ended, two workers, s": first_of_two,
                "overhead per study after the first, s": overhead,
            }
            every = MANY * (here / CELLS + max(0.0, overhead)) / 3600
            found |= {f"{MANY:,} such studies on {count} GPUs or cores, hours": every / count for count in GPUS}
            table.rows += [{"what": what, "value": value} for what, value in found.items()]
    finally:
        torch.set_num_threads(threads)
    table.notes.append(
        "The last rows assume studies of this length, the measured overhead per study, and workers that are "
        "always busy; for a study on a GPU, use its own duration instead."
    )
    return table


def _seconds(run: RunCells) -> tuple[float, float]:
    """Run a new sweep; return its duration and the time until its first study has ended, in seconds."""
    training = EXAMPLE.training.model_copy(update={"steps": STEPS, "evaluations": 1})
    measuring = EXAMPLE.measuring.model_copy(update={"prompts": 0})
    study = EXAMPLE.model_copy(update={"training": training, "measuring": measuring, "seeds": CELLS})
    settings = SweepSettings(axes={"noise.strength": (0, 5)}, study=study, keep_adapters=False)
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
        sweep = create_sweep(settings, "", folder=Path(folder))
        started, first = time.perf_counter(), 0.0
        for event in run_sweep(sweep, Limits(), lambda: False, run):
            if event["event"] == "cell" and not first:
                first = time.perf_counter() - started
        return time.perf_counter() - started, first
