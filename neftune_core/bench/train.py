"""Training speed on this machine compared with other libraries and with performance targets.

Each measurement (side) runs in its own process. Measurements that are compared with each other are interleaved.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from neftune_core.bench.table import ResultTable
from neftune_core.bench.train_sides import Found, Sizes
from neftune_core.errors import InvalidSetting, LabError
from neftune_core.models.device import choose_device, describe_machine, fast_bfloat16

# OpenBLAS settings that may have been made for another version and slow down the current one.
FOREIGN_TUNING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
EMULATED_ROWS = 4
EMULATED = (
    f"This CPU has no fast bfloat16, so TRL emulates it, and this is measured on only {EMULATED_ROWS} rows. The fair "
    "comparison is the one in float32."
)
IN_BFLOAT16 = ("trl_lora_bfloat16", "trl_full_default")
NO_TRL = "TRL is not installed, so there is no comparison with it: run `pip install trl peft`."

PEERS = {"peft": ("peer_peft", "a plain PEFT loop"), "litgpt": ("peer_litgpt", "LitGPT")}
"""Side and description of each other library, by the package that it needs."""

Row = dict[str, Any]


class _Bench:
    """The measurements of one benchmark. `measured` runs each of the given sides `runs` times, interleaved."""

    def __init__(self, sizes: Sizes, runs: int) -> None:
        self.sizes, self.runs = sizes, runs
        self.emulates = not fast_bfloat16(choose_device(sizes.device))
        self.notes: list[str] = []

    def measured(self, *sides: str) -> list[list[Found]]:
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

    def compare_with_trl(self, ours: str, theirs: Sequence[tuple[str, str]], words: str) -> list[Row]:
        """Compare the throughput, in tokens per second, with that of TRL.

        Args:
            ours: Name of the lab's side.
            theirs: Names and descriptions of TRL's sides.
            words: Description of the task.

        Returns:
            Rows with both speeds and their ratios, run by run.
        """
        sides = [side for side, _ in theirs] if find_spec("trl") and find_spec("peft") else []
        if not sides:
            self.notes.append(NO_TRL)
        mine, *others = self.measured(ours, *sides)
        rows = [_row(f"{words}: this lab, {mine[0]['precision']}, tokens/s", _speeds(mine))]
        for (_, name), found in zip(theirs, others, strict=False):
            rows.append(_row(f"{words}: TRL, {name}, tokens/s", _speeds(found)))
            ratios = [one / other for one, other in zip(_speeds(mine), _speeds(found), strict=True)]
            rows.append(_row(f"{words}: this lab over TRL, {name}", ratios, GOALS.get(name, "")))
        return rows


GOALS = {"bfloat16 weights": ">= 5", "default settings": ">= 3"}


def _row(what: str, values: Sequence[float], goal: str = "") -> Row:
    """Return a table row with the median, minimum and maximum of the runs, and the target."""
    return {
        "what": what,
        "median": float(statistics.median(values)),
        "least": float(min(values)),
        "greatest": float(max(values)),
        "to reach": goal,
    }


def _speeds(found: Sequence[Found]) -> list[float]:
    return [run["tokens"] / run["seconds"] for run in found]


def _lora(bench: _Bench) -> list[Row]:
    theirs = [("trl_lora_bfloat16", "bfloat16 weights"), ("trl_lora_float32", "float32 weights")]
    return bench.compare_with_trl("lora", theirs, "LoRA")


def _peers(bench: _Bench) -> list[Row]:
    found = {package: peer for package, peer in PEERS.items() if find_spec(package)}
    bench.notes += [f"{package} is not installed, so it is not compared." for package in PEERS if package not in found]
    mine, *others = bench.measured("lora", *(side for side, _ in found.values()))
    rows = [_row(f"LoRA: this lab with noise, {mine[0]['precision']}, tokens/s", _speeds(mine))]
    for (_, name), theirs in zip(found.values(), others, strict=True):
        rows.append(_row(f"LoRA: {name} without noise, {theirs[0]['precision']}, tokens/s", _speeds(theirs)))
        ratios = [one / other for one, other in zip(_speeds(mine), _speeds(theirs), strict=True)]
        rows.append(_row(f"LoRA: this lab over {name}", ratios))
    return rows


def _full(bench: _Bench) -> list[Row]:
    theirs = [("trl_full_default", "default settings"), ("trl_full_float32", "float32, no checkpointing")]
    return bench.compare_with_trl("full", theirs, "all weights")


def _peak(bench: _Bench) -> list[Row]:
    (found,) = bench.measured("peak")
    return [
        _row("matrix products of this model's shapes, GFLOP/s", [run["peak"] / 1e9 for run in found]),
        _row("LoRA training, GFLOP/s", [run["reached"] / 1e9 for run in found]),
        _row("share of that speed", [run["share"] for run in found], "aim 0.5"),
    ]


def _arms(bench: _Bench) -> list[Row]:
    (found,) = bench.measured("arms")
    return [_row("5 arms at once over 5 single runs, time", [run["ratio"] for run in found], "<= 1.0")]


def _answers(bench: _Bench) -> list[Row]:
    (found,) = bench.measured("answers")
    return [
        _row("answers of 4 arms over those of one, time", _column(found, "ratio"), "<= 1.5"),
        _row("answers of 4 arms to 20 prompts, 64 tokens each, s", _column(found, "many"), "<= 30"),
    ]


def _memory(bench: _Bench) -> list[Row]:
    one, together, in_turn = bench.measured("memory_of_one", "memory_together", "memory_in_turn")
    rows = [_row("peak memory of 1 arm, batch 4 x 256, GB", [run["bytes"] / 1e9 for run in one])]
    for words, found, goal in (("together", together, "<= 3.2"), ("in turn", in_turn, "<= 1.6")):
        ratios = [run["bytes"] / alone["bytes"] for run, alone in zip(found, one, strict=True)]
        rows.append(_row(f"peak memory of 5 arms {words} over that of one", ratios, goal))
    return rows


def _study(bench: _Bench) -> list[Row]:
    (found,) = bench.measured("study")
    rows = [_row("study of 3 arms on the bundled model, 128 rows, 8 epochs, s", _column(found, "seconds"), "<= 30")]
    for part in found[0]["parts"]:
        rows.append(_row(f"of which {part}, s", [run["parts"].get(part, 0.0) for run in found]))
    return rows


def _usual(bench: _Bench) -> list[Row]:
    found, quick = bench.measured("usual", "quick")
    return [
        _row("the default study of this model, two arms, s", _column(found, "seconds")),
        _row("of which measuring (without loading)", _column(found, "share"), "<= 0.25"),
        _row("the preset quick look, two arms, s", _column(quick, "seconds"), "<= 60"),
    ]


def _column(found: Sequence[Found], name: str) -> list[float]:
    return [run[name] for run in found]


def _control(bench: _Bench) -> list[Row]:
    (found,) = bench.measured("control")
    words = f"control over {found[0]['steps']} steps compared with a plain PEFT loop, largest difference in loss"
    return [_row(words, _column(found, "largest"), "<= 1e-5")]


def _profile(bench: _Bench) -> list[Row]:
    (found,) = bench.measured("profile")
    return [_row(f"share of {name}", [run["share"].get(name, 0.0) for run in found]) for name in found[0]["share"]]


PARTS: dict[str, Callable[[_Bench], list[Row]]] = {
    "lora": _lora,
    "peers": _peers,
    "full": _full,
    "peak": _peak,
    "arms": _arms,
    "answers": _answers,
    "memory": _memory,
    "study": _study,
    "usual": _usual,
    "control": _control,
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
    data = Path(sizes.rows).name or "a starter set"
    table = ResultTable(f"Training {sizes.model}, {sizes.first} rows of {data}", describe_machine())
    for name in only or PARTS:
        table.rows += PARTS[name](bench)
    if profile:
        table.rows += _profile(bench)
    table.notes += dict.fromkeys(bench.notes)
    if bench.emulates and {"lora", "full"} & set(only or PARTS):
        table.notes.append(EMULATED)
    return table


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
