"""Save and restore checkpoints, which store the state of a run after a completed step.

Noise, row order and dropout masks depend only on seed, epoch and step. A checkpoint stores the rest: trained weights,
optimizer moments, step, planned number of steps, arms still in training, adaptive noise schedules, and loss scale.

checkpoint/  state.json  tensors.safetensors   (written as `checkpoint.new`, then renamed)
states/seed-<n>/  the last checkpoint of each completed seed
"""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from neftune_core.durable import flush, move, publish
from neftune_core.engine.lockstep import Lockstep
from neftune_core.errors import RecordError
from neftune_core.language import later, say
from neftune_core.sentences import cause, is_out_of_memory
from neftune_core.studies.records.record import LOG

NAME = "checkpoint"
ASIDE = "checkpoint.new"
OLD = "checkpoint.old"
STATES = "states"
AVERAGES = ("exp_avg", "exp_avg_sq")
SHARE = 20
"""Timed checkpoints take at most `1 / SHARE` of a run's time."""


def save(run: Lockstep, folder: Path) -> None:
    """Write `folder/checkpoint`; the previous one is replaced only when the new one is complete.

    The log is flushed first, so that a resumed run has all events up to the checkpoint.

    Args:
        run: The training run of one seed, between two steps.
        folder: Folder of the record.
    """
    aside = folder / ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        save_file(_tensors(run), aside / "tensors.safetensors")
        adaptive = {str(slot): vars(schedule) for slot, schedule in run.noise.adaptive.items()}
        state = {"seed": run.study.seed, "step": run.done, "steps": run.total, "alive": run.alive, "adaptive": adaptive}
        state["scale"] = [run.scale.value, run.scale.steps_without_overflow]
        (aside / "state.json").write_text(json.dumps(state), encoding="utf-8")
        flush(aside)
        if (folder / LOG).exists():
            flush(folder / LOG)
    except Exception:  # on a full disk, Python raises an OSError and safetensors its own error
        shutil.rmtree(aside, ignore_errors=True)
        raise
    current, old = folder / NAME, folder / OLD
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        move(current, old)
    publish(aside, current)
    shutil.rmtree(old, ignore_errors=True)


def saved_step(folder: Path) -> int:
    """Return the step of the checkpoint in `folder`; 0 if there is none."""
    found = _find(folder)
    return int(_read_state(found)["step"]) if found else 0


def restore(run: Lockstep, folder: Path) -> None:
    """Load the checkpoint in `folder` into a new run.

    If there is none, a study with additional epochs loads the final state of the original study; other runs are
    unchanged.

    Args:
        run: The training run of one seed, before its first step.
        folder: Folder of the record.

    Raises:
        RecordError: If the checkpoint is damaged or belongs to another run.
    """
    found = _of_seed(run, folder)
    if found is None:
        return
    try:
        state = _read_state(found)
        tensors = load_file(found / "tensors.safetensors", device=str(run.stack.loaded.device))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        words = later(
            "The checkpoint {folder} cannot be read ({fault}): remove this folder to train the seed from the start."
        )
        raise RecordError(say(words, folder=found, fault=cause(error))) from error
    values = [block.values for block in run.optimizer.blocks]
    shapes = {f"weight.{index}": weight.shape for index, weight in enumerate(values)}
    if state["steps"] not in (run.total or state["steps"], *run.study.training.restarts) or any(
        name not in tensors or tensors[name].shape != shape for name, shape in shapes.items()
    ):
        words = say("The checkpoint of this record belongs to different settings or data: train the study again.")
        raise RecordError(words)
    for index, weight in enumerate(values):
        weight.data.copy_(tensors[f"weight.{index}"])
        if f"step.{index}" in tensors:  # absent for weights that never had a gradient
            run.optimizer.adamw.state[weight] = {
                "step": tensors[f"step.{index}"],
                **{name: tensors[f"{name}.{index}"] for name in AVERAGES},
            }
    run.plan(run.total or int(state["steps"]))  # a time budget was converted to steps by the original run
    run.done, run.alive = int(state["step"]), list(state["alive"])
    run.scale.value, run.scale.steps_without_overflow = state["scale"]
    for slot, schedule in run.noise.adaptive.items():
        schedule.first, schedule.smoothed = (state["adaptive"][str(slot)][name] for name in ("first", "smoothed"))


def keep(run: Lockstep, folder: Path) -> None:
    """Keep the final checkpoint of a completed run if `keeps_state` is set, so that the study can be continued.

    An earlier state of this seed is always removed.

    Args:
        run: The training run of one seed, after its last step.
        folder: Folder of the record.
    """
    target = state_folder(folder, run.study.seed)
    shutil.rmtree(target, ignore_errors=True)
    if run.study.training.keeps_state and run.done == run.total == saved_step(folder):
        target.parent.mkdir(exist_ok=True)
        move(folder / NAME, target)


def state_folder(folder: Path, seed: int) -> Path:
    """Return the folder of the state kept at the end of a seed.

    Args:
        folder: Folder of the record.
        seed: Seed of the run.

    Returns:
        The path, which may not exist.
    """
    return folder / STATES / f"seed-{seed}"


def _of_seed(run: Lockstep, folder: Path) -> Path | None:
    """Return the checkpoint of the run's seed, or else the final state of the study that this one continues, if any."""
    found = _find(folder)
    if found is not None and _readable_state(found).get("seed", run.study.seed) == run.study.seed:
        return found
    kept = state_folder(folder, run.study.seed)
    return kept if _readable_state(kept)["step"] in run.study.training.restarts else None


def _read_state(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "state.json").read_text(encoding="utf-8")))


def _readable_state(folder: Path) -> dict[str, Any]:
    try:
        return _read_state(folder)
    except (OSError, ValueError):  # damage is reported by `restore`
        return {"step": 0}


def remove(folder: Path) -> None:
    """Remove the checkpoint in `folder`."""
    for name in (NAME, ASIDE, OLD):
        shutil.rmtree(folder / name, ignore_errors=True)


def _find(folder: Path) -> Path | None:
    """Return the checkpoint, or the previous one if the process ended between the two renames."""
    complete = (folder / name for name in (NAME, OLD))
    return next((path for path in complete if (path / "state.json").is_file()), None)


def _tensors(run: Lockstep) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for index, weight in enumerate(block.values for block in run.optimizer.blocks):
        tensors[f"weight.{index}"] = weight.detach()
        state = run.optimizer.adamw.state.get(weight, {})
        for name in ("step", *AVERAGES):
            if name in state:
                tensors[f"{name}.{index}"] = state[name]
    return tensors


@dataclass
class CheckpointWriter:
    """Writes a checkpoint every `checkpoint_steps` steps, every `checkpoint_seconds` seconds, and at the end.

    Timed checkpoints are at least `SHARE` times the duration of the previous write apart, so that writing takes little
    of the run's time.

    Attributes:
        run: The training run of one seed.
        folder: Folder of the record.
        due: Earliest time of the next timed checkpoint, in seconds of `time.monotonic`; infinite if none are timed.
    """

    run: Lockstep
    folder: Path
    due: float = 0.0

    def __post_init__(self) -> None:
        self._schedule_next(0.0)

    def __call__(self) -> None:
        run = self.run
        by_steps = run.done % run.study.training.checkpoint_steps == 0 or run.done == run.total
        if not by_steps and time.monotonic() < self.due:
            return
        started = time.monotonic()
        save(run, self.folder)
        self._schedule_next(time.monotonic() - started)

    def _schedule_next(self, write_seconds: float) -> None:
        seconds = self.run.study.training.checkpoint_seconds or math.inf
        self.due = time.monotonic() + max(seconds, SHARE * write_seconds)
