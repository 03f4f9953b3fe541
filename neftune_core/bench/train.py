"""Training speed on this machine compared with other libraries and with performance targets.

Each measurement (side) runs in its own process. Measurements that are compared with each other are interleaved.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from neftune_core.bench.table import ResultTable
from neftune_core.bench.train_sides import Found, Sizes
from neftune_core.errors import InvalidSetting, LabError
from neftune_core.models.device import choose_device, fast_bfloat16

# OpenBLAS settings that may have been made for another version and slow down the current one.
FOREIGN_TUNING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
EMULATED_ROWS = 4
EMULATED = (
    f"This CPU has no fast bfloat16, so TRL emulates it, and this is measured on only {EMULATED_ROWS} rows. The fair "
    "comparison is the one in float32."
)
IN_BFLOAT16 = ("trl_lora_bfloat16", "trl_full_default")
NO_TRL = "TRL is not installed, so there is no comparison with it: run `pip install trl peft`."


class _Bench:
    """The measurements of one benchmark, and their table."""

    def __init__(self, sizes: Sizes, runs: int) -> None:
        self.sizes, self.runs = sizes, runs
        self.emulates = not fast_bfloat16(choose_device(sizes.device))
        data = Path(sizes.rows).name or "a starter set"
        self.table = ResultTable(f"Training {sizes.model}, {sizes.first} rows of {data}")
        self.add = self.table.add

    def measured(self, *sides: str) -> list[list[Found]]:
        """Run each of the sides `runs` times, interleaved."""
        found: list[list[Found]] = [[] for _ in sides]
        for _ in range(self.runs):
            for place, side in enumerate(sides):
                found[place].append(run_side(side, self._sizes_of(side)))
        return found

    def _sizes_of(self, side: str) -> Sizes:
        """Return the sizes of a side; emulated arithmetic takes minutes per row, so it gets only a few rows."""
        if self.emulates and side in IN_BFLOAT16:
            return replace(self.sizes, first=min(EMULATED_ROWS, self.sizes.first))
        return self.sizes

    def compare(self, side: str, label: str, others: Mapping[str, tuple[str, str]]) -> None:
        """Add the throughput of a side and its ratio to others, which have (label, name in the ratio) by side."""
        task = label.partition(":")[0]
        mine, *theirs = self.measured(side, *others)
        self.add(f"{label}, {mine[0]['precision']}, tokens/s", _speeds(mine))
        for (words, name), found in zip(others.values(), theirs, strict=True):
            self.add(f"{task}: {words.format(**found[0])}, tokens/s", _speeds(found))
            ratios = [one / other for one, other in zip(_speeds(mine), _speeds(found), strict=True)]
            self.add(f"{task}: this lab over {name}", ratios, GOALS.get(name, ""))

    def compare_with_trl(self, side: str, label: str, others: Mapping[str, str]) -> None:
        """Compare a side with sides of TRL, which are given with their descriptions."""
        if not (find_spec("trl") and find_spec("peft")):
            self.table.notes.append(NO_TRL)
            others = {}
        self.compare(side, label, {other: (f"TRL, {words}", f"TRL, {words}") for other, words in others.items()})


GOALS = {"TRL, bfloat16 weights": ">= 5", "TRL, default settings": ">= 3"}


def _speeds(found: Sequence[Found]) -> list[float]:
    return [run["tokens"] / run["seconds"] for run in found]


def _lora(bench: _Bench) -> None:
    theirs = {"trl_lora_bfloat16": "bfloat16 weights", "trl_lora_float32": "float32 weights"}
    bench.compare_with_trl("lora", "LoRA: this lab", theirs)


def _full(bench: _Bench) -> None:
    theirs = {"trl_full_default": "default settings", "trl_full_float32": "float32, no checkpointing"}
    bench.compare_with_trl("full", "all weights: this lab", theirs)


def _peers(bench: _Bench) -> None:
    others = {"peer_peft": ("a plain PEFT loop without noise, {precision}", "a plain PEFT loop")}
    if not find_spec("peft"):
        bench.table.notes.append("peft is not installed, so it is not compared.")
        others = {}
    bench.compare("lora", "LoRA: this lab with noise", others)


def _memory(bench: _Bench) -> None:
    one, together, in_turn = bench.measured("memory_of_one", "memory_together", "memory_in_turn")
    bench.add("peak memory of 1 arm, batch 4 x 256, GB", [run["bytes"] / 1e9 for run in one])
    for words, found, goal in (("together", together, "<= 3.2"), ("in turn", in_turn, "<= 1.6")):
        ratios = [run["bytes"] / alone["bytes"] for run, alone in zip(found, one, strict=True)]
        bench.add(f"peak memory of 5 arms {words} over that of one", ratios, goal)


def _study(bench: _Bench) -> None:
    (found,) = bench.measured("study")
    seconds = [run["seconds"] for run in found]
    bench.add("study of 3 arms on the bundled model, 128 rows, 8 epochs, s", seconds, "<= 30")
    for part in found[0]["parts"]:
        bench.add(f"of which {part}, s", [run["parts"].get(part, 0.0) for run in found])


def _profile(bench: _Bench) -> None:
    (found,) = bench.measured("profile")
    for name in found[0]["share"]:
        bench.add(f"share of {name}", [run["share"].get(name, 0.0) for run in found])


LARGEST = "control over {steps} steps compared with a plain PEFT loop, largest difference in loss"
COLUMNS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "peak": (
        ("peak", "peak", "matrix products of this model's shapes, GFLOP/s", ""),
        ("peak", "reached", "LoRA training, GFLOP/s", ""),
        ("peak", "share", "share of that speed", "aim 0.5"),
    ),
    "arms": (("arms", "ratio", "5 arms at once over 5 single runs, time", "<= 1.0"),),
    "answers": (
        ("answers", "ratio", "answers of 4 arms over those of one, time", "<= 1.5"),
        ("answers", "many", "answers of 4 arms to 20 prompts, 64 tokens each, s", "<= 30"),
    ),
    "usual": (
        ("usual", "seconds", "the default study of this model, two arms, s", ""),
        ("usual", "share", "of which measuring (without loading)", "<= 0.25"),
        ("quick", "seconds", "the preset quick look, two arms, s", "<= 60"),
    ),
    "control": (("control", "largest", LARGEST, "<= 1e-5"),),
}
"""Measurements whose rows are single results of a side: side, name of the result, description and target."""


def _columns(bench: _Bench, part: str) -> None:
    sides = list(dict.fromkeys(side for side, *_ in COLUMNS[part]))
    found = dict(zip(sides, bench.measured(*sides), strict=True))
    for side, name, words, goal in COLUMNS[part]:
        bench.add(words.format(**found[side][0]), [run[name] for run in found[side]], goal)


PARTS: dict[str, Callable[[_Bench], None]] = {
    "lora": _lora,
    "peers": _peers,
    "full": _full,
    "peak": partial(_columns, part="peak"),
    "arms": partial(_columns, part="arms"),
    "answers": partial(_columns, part="answers"),
    "memory": _memory,
    "study": _study,
    "usual": partial(_columns, part="usual"),
    "control": partial(_columns, part="control"),
}


def measure_training(sizes: Sizes, runs: int, only: Sequence[str] = (), *, profile: bool = False) -> ResultTable:
    """Run the training benchmark.

    Args:
        sizes: The model and the amount of work.
        runs: Runs of each measurement.
        only: Names in `PARTS`; all if empty.
        profile: Whether to add a profile of a LoRA epoch.

    Returns:
        The table.

    Raises:
        InvalidSetting: If a name is unknown.
    """
    unknown = [name for name in only if name not in PARTS]
    if unknown:
        raise InvalidSetting(f"There is no measurement {unknown[0]!r}: choose from {', '.join(PARTS)}.")
    bench = _Bench(sizes, runs)
    for name in only or PARTS:
        PARTS[name](bench)
    if profile:
        _profile(bench)
    if bench.emulates and {"lora", "full"} & set(only or PARTS):
        bench.table.notes.append(EMULATED)
    bench.table.notes = list(dict.fromkeys(bench.table.notes))
    return bench.table


def run_side(side: str, sizes: Sizes, variables: Mapping[str, str] = MappingProxyType({})) -> Found:
    """Run one measurement in its own process.

    Args:
        side: Name of the side.
        sizes: The model and the amount of work.
        variables: Environment variables to set; those with an empty value are unset.

    Returns:
        The results of the measurement.

    Raises:
        LabError: If the measurement fails.
    """
    environment = {
        name: value for name, value in (os.environ | variables).items() if value and name not in FOREIGN_TUNING
    }
    module = "peer_sides" if side.startswith(("trl_", "peer_")) else "train_sides"
    command = [sys.executable, "-m", f"neftune_core.bench.{module}", side, json.dumps(asdict(sizes))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no error output"])[-1]
        raise LabError(f"The measurement of {side} failed: {last}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))
