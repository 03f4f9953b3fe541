"""Throughput of one, five and eight arms on a GPU in each execution mode, for a model shaped like SmolLM2-135M."""

from __future__ import annotations

import json
import re
import statistics
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from neftune_core.bench.matrix import random_rows
from neftune_core.bench.noise import SMOLLM2_135M, random_model
from neftune_core.bench.plain_loop import peft_model, train_steps
from neftune_core.bench.table import ResultTable
from neftune_core.bench.train_sides import lockstep
from neftune_core.engine.settings import TrainingSettings
from neftune_core.errors import NotAvailable
from neftune_core.home import home
from neftune_core.models.device import choose_device
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.settings import StudySettings

BATCH, LENGTH, STEPS, WARM_STEPS = 4, 256, 12, 3
GOALS = {5: "<= 1.5", 8: "<= 2"}
COMMAND = "neftune bench gpu"


def measure_gpu(device: str = "auto", runs: int = 5) -> ResultTable:
    """Measure training on a GPU, and store the results; `neftune doctor` reports GPUs that have no stored results.

    Args:
        device: Name of the device; "auto" for the first GPU.
        runs: Runs of each measurement.

    Returns:
        The table.

    Raises:
        NotAvailable: If there is no GPU, or the home folder cannot be used.
        InvalidSetting: If there is no device of this name.
    """
    place = choose_device(device)
    if place.type == "cpu":
        raise NotAvailable("This machine has no GPU to measure: run `neftune bench train` to measure the CPU.")
    loaded = random_model(SMOLLM2_135M, place)
    words = f"{_gpu_name(place)}, batch {BATCH} x {LENGTH}, SmolLM2-135M's shape, {loaded.precision}"
    table = ResultTable(f"Arms on a GPU: {words}")
    for execution in ("eager", "graphs", "compiled", "captured") if place.type == "cuda" else ("eager",):
        _add_arms(table, loaded, execution, runs)
    if place.type == "cuda":
        _add_memory(table, loaded)
    if find_spec("peft"):
        table.add("plain PEFT loop, tokens/s", [BATCH * LENGTH / _peft_seconds(loaded) for _ in range(runs)])
    file = measurement_file(_gpu_name(place))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(table.as_json(), indent=2) + "\n", encoding="utf-8")
    return table


def _add_arms(table: ResultTable, loaded: LoadedModel, execution: str, runs: int) -> None:
    seconds = {count: [_step_seconds(loaded, execution, count) for _ in range(runs)] for count in (1, *GOALS)}
    table.add(f"{execution}: 1 arm, tokens/s", [BATCH * LENGTH / one for one in seconds[1]])
    table.add(f"{execution}: 5 arms, tokens/s of all", [5 * BATCH * LENGTH / five for five in seconds[5]])
    for count, goal in GOALS.items():
        ratios = [many / one for many, one in zip(seconds[count], seconds[1], strict=True)]
        table.add(f"{execution}: {count} arms over 1 arm, time", ratios, goal if execution == "eager" else "")


def _step_seconds(loaded: LoadedModel, execution: str, count: int, **training: Any) -> float:
    """Return the median duration of a step with `count` noise arms after warm-up steps, in seconds."""
    arms = {f"alpha-{number}": NoiseSettings(strength=number) for number in range(1, count + 1)}
    settings = TrainingSettings(batch_size=BATCH, steps=WARM_STEPS + STEPS, execution=execution, **training)
    prepared = SimpleNamespace(train=random_rows(loaded, BATCH, LENGTH), held_out=[])
    run = lockstep(StudySettings(training=settings), loaded, prepared, arms)
    seconds = []
    for step in run.steps():
        started = time.perf_counter()
        run.step(step, 1e-4, lambda: False)  # creating the event synchronises the device
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_STEPS:])


def _add_memory(table: ResultTable, loaded: LoadedModel) -> None:
    """Add the peak memory of five arms, run together and one at a time, relative to that of one arm."""
    peaks = []
    for count, turns in ((1, "together"), (5, "together"), (5, "in-turn")):
        torch.cuda.reset_peak_memory_stats(loaded.device)
        _step_seconds(loaded, "eager", count, arms_at_once=turns)
        peaks.append(torch.cuda.max_memory_allocated(loaded.device))
    one, together, in_turn = peaks
    table.add("peak memory of 5 arms together over that of one", [together / one], "<= 3.2")
    table.add("peak memory of 5 arms one at a time over that of one", [in_turn / one], "<= 1.6")


def _peft_seconds(loaded: LoadedModel) -> float:
    training = TrainingSettings(lora_rank=8, lora_alpha=16, learning_rate=1e-4)
    ids = torch.randint(0, loaded.model.config.vocab_size, (BATCH, LENGTH), device=loaded.device)
    batches = [{"input_ids": ids, "labels": ids}] * (WARM_STEPS + STEPS)
    times = [time.perf_counter()]
    for _ in train_steps(peft_model(loaded.model, training).train(), batches, training):
        times.append(time.perf_counter())
    return statistics.median(after - before for before, after in pairwise(times[WARM_STEPS:]))


def _gpu_name(device: Any) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "Apple GPU (mps)"


def measurement_file(name: str) -> Path:
    """Return the path of the stored measurement of a GPU.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    return home() / "bench" / f"gpu-{re.sub('[^a-z0-9]+', '-', name.lower())}.json"


def unmeasured_note(device: Any) -> str:
    """Return a note if the device is a GPU that has not been measured yet, otherwise ""."""
    if device.type == "cpu" or measurement_file(_gpu_name(device)).is_file():
        return ""
    return f"This {_gpu_name(device)} has not been measured yet: run `{COMMAND}`, which takes about five minutes."
