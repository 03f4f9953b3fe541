"""Training speed on this machine, compared with other libraries and with performance targets.

Each measurement (side) runs in its own process. Measurements that are compared with each other are interleaved.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from neftune_core.bench.table import ResultTable
from neftune_core.bench.train_sides import Result, Sizes
from neftune_core.errors import InvalidSetting, LabError
from neftune_core.models.device import choose_device, fast_bfloat16

# Settings for another version of OpenBLAS, which may slow down the current one.
FOREIGN_TUNING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
NO_BFLOAT16 = "This CPU has no fast bfloat16, so TRL is measured in float32 only."
NOT_INSTALLED = "{} is not installed, so it is not compared: run `pip install trl peft`."


@dataclass(frozen=True)
class _Peer:
    """Another library's training on the same rows.

    Attributes:
        library: Name of the package.
        words: Description, in which `{precision}` is the number format.
        goal: Target for the lab's throughput relative to this library's.
        bfloat16: Whether it computes in bfloat16.
    """

    library: str
    words: str
    goal: str = ""
    bfloat16: bool = False


LORA_PEERS: dict[str, _Peer] = {
    "trl_lora_bfloat16": _Peer("trl", "TRL, bfloat16 weights", ">= 5", bfloat16=True),
    "trl_lora_float32": _Peer("trl", "TRL, float32 weights"),
    "peer_peft": _Peer("peft", "a plain PEFT loop without noise, {precision}"),
}
FULL_PEERS: dict[str, _Peer] = {
    "trl_full_default": _Peer("trl", "TRL, default settings", ">= 3", bfloat16=True),
    "trl_full_float32": _Peer("trl", "TRL, float32, no checkpointing"),
}


class _Bench:
    """The measurements of one benchmark, and their table.

    Args:
        sizes: Sizes of the model, the data and the batches.
        runs: Number of runs of each measurement.
    """

    def __init__(self, sizes: Sizes, runs: int) -> None:
        self.sizes, self.runs = sizes, runs
        data = Path(sizes.rows).name or "a starter set"
        self.table = ResultTable(f"Training {sizes.model}, {sizes.first} rows of {data}")
        self.add = self.table.add

    def measured(self, *sides: str) -> list[list[Result]]:
        """Run each of the sides (measurements) `runs` times, interleaved; return the results of each side.

        Raises:
            LabError: If a measurement fails.
        """
        rounds = [[run_side(side, self.sizes) for side in sides] for _ in range(self.runs)]
        return [list(results) for results in zip(*rounds, strict=True)]

    def compare(self, side: str, label: str, peers: Mapping[str, _Peer]) -> None:
        """Add the throughput of the lab and of other libraries, and the ratios between them.

        Libraries that are not installed, and those that need fast bfloat16 on a machine without it, are left out.

        Args:
            side: Name of the lab's measurement, in `train_sides`.
            label: Beginning of the names of the added rows.
            peers: The other libraries, by the name of their measurement in `peer_sides`.

        Raises:
            LabError: If a measurement fails, or the device is not available.
        """
        fast = fast_bfloat16(choose_device(self.sizes.device))
        used = {name: peer for name, peer in peers.items() if find_spec(peer.library) and (fast or not peer.bfloat16)}
        missing = {peer.library for peer in peers.values() if not find_spec(peer.library)}
        self.table.notes += [NOT_INSTALLED.format(library) for library in sorted(missing)]
        self.table.notes += [] if fast else [NO_BFLOAT16]
        mine, *theirs = self.measured(side, *used)
        self.add(f"{label}: this lab, {mine[0]['precision']}, tokens/s", _speeds(mine))
        for peer, found in zip(used.values(), theirs, strict=True):
            words = peer.words.format(**found[0])
            self.add(f"{label}: {words}, tokens/s", _speeds(found))
            ratios = [one / other for one, other in zip(_speeds(mine), _speeds(found), strict=True)]
            self.add(f"{label}: this lab relative to {words}", ratios, peer.goal)


def _speeds(found: Sequence[Result]) -> list[float]:
    return [run["tokens"] / run["seconds"] for run in found]


def _memory(bench: _Bench) -> None:
    one, together, in_turn = bench.measured("memory_of_one", "memory_together", "memory_in_turn")
    bench.add("peak memory of 1 arm, batch 4 x 256, GB", [run["bytes"] / 1e9 for run in one])
    for words, found, goal in (("together", together, "<= 3.2"), ("one at a time", in_turn, "<= 1.6")):
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


LARGEST = "control and a plain PEFT loop over {steps} steps, largest difference in loss"
COLUMNS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "peak": (
        ("peak", "peak", "matrix products of this model's shapes, GFLOP/s", ""),
        ("peak", "reached", "LoRA training, GFLOP/s", ""),
        ("peak", "share", "LoRA training over matrix products, speed", "aim 0.5"),
    ),
    "arms": (("arms", "ratio", "5 arms at once over 5 single runs, time", "<= 1.0"),),
    "answers": (
        ("answers", "ratio", "answers of 4 arms over answers of one arm, time", "<= 1.5"),
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
    "lora": partial(_Bench.compare, side="lora", label="LoRA", peers=LORA_PEERS),
    "full": partial(_Bench.compare, side="full", label="all weights", peers=FULL_PEERS),
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
    bench.table.notes = list(dict.fromkeys(bench.table.notes))
    return bench.table


def run_side(side: str, sizes: Sizes, variables: Mapping[str, str] = MappingProxyType({})) -> Result:
    """Run one measurement in its own process.

    Args:
        side: Name of the measurement, in `train_sides` or `peer_sides`.
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
