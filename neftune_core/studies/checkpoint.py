"""A run as it stands after a whole step, on disk, so that an ended process can be taken up again.

The draws of noise, the order and the dropout masks depend on seed, epoch and step alone; what must be kept is the
trained weights, the optimizer's averages, the step, the planned number of steps, which arms still take part, the noise
schedules that follow the loss, and the scale of the loss.

checkpoint/  state.json  tensors.safetensors   (written aside as `checkpoint.new` and renamed)
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from neftune_core.durable import flush, move, publish
from neftune_core.engine.lockstep import Lockstep
from neftune_core.errors import RecordError
from neftune_core.language import say
from neftune_core.sentences import cause, is_out_of_memory
from neftune_core.studies.records.record import LOG

NAME = "checkpoint"
ASIDE = "checkpoint.new"
OLD = "checkpoint.old"
AVERAGES = ("exp_avg", "exp_avg_sq")


def keep(run: Lockstep, folder: Path) -> None:
    """Write the state of `run` into `folder/checkpoint`; the last good one stays until the new one is whole.

    The log up to here is on the disk before it: a run that goes on from the checkpoint keeps the events before it.
    """
    aside = folder / ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        save_file(_tensors(run), aside / "tensors.safetensors")
        adaptive = {str(slot): vars(schedule) for slot, schedule in run.noise.adaptive.items()}
        state = {"step": run.done, "steps": run.total, "alive": run.alive, "adaptive": adaptive}
        state["scale"] = [run.scale.value, run.scale.whole_steps]
        (aside / "state.json").write_text(json.dumps(state), encoding="utf-8")
        flush(aside)
        if (folder / LOG).exists():
            flush(folder / LOG)
    except Exception:  # a full disk comes as an OSError from Python, and as an error of its own from safetensors
        shutil.rmtree(aside, ignore_errors=True)
        raise
    current, old = folder / NAME, folder / OLD
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        move(current, old)
    publish(aside, current)
    shutil.rmtree(old, ignore_errors=True)


def kept_step(folder: Path) -> int:
    """The step of the checkpoint in `folder`; 0 where there is none."""
    found = _found(folder)
    return int(json.loads((found / "state.json").read_text(encoding="utf-8"))["step"]) if found else 0


def restore(run: Lockstep, folder: Path) -> None:
    """Put the checkpoint in `folder` into a fresh `run`; nothing changes where there is none.

    Raises `RecordError` where it does not belong to this run.
    """
    found = _found(folder)
    if found is None:
        return
    try:
        state = json.loads((found / "state.json").read_text(encoding="utf-8"))
        tensors = load_file(found / "tensors.safetensors", device=str(run.stack.loaded.device))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise RecordError(
            say(
                "The checkpoint {folder} cannot be read ({fault}): remove that folder, and this seed begins anew.",
                folder=found,
                fault=cause(error),
            )
        ) from error
    values = [block.values for block in run.optimizer.blocks]
    wanted = {f"weight.{place}": weight.shape for place, weight in enumerate(values)}
    if state["steps"] != (run.total or state["steps"]) or any(
        name not in tensors or tensors[name].shape != shape for name, shape in wanted.items()
    ):
        raise RecordError(say("The checkpoint of this record belongs to other settings or other data: train it anew."))
    for place, weight in enumerate(values):
        weight.data.copy_(tensors[f"weight.{place}"])
        if f"step.{place}" in tensors:  # a weight that never had a gradient has no averages
            run.optimizer.adamw.state[weight] = {
                "step": tensors[f"step.{place}"],
                **{name: tensors[f"{name}.{place}"] for name in AVERAGES},
            }
    run.plan(int(state["steps"]))  # with a time budget only the run that began it knows
    run.done, run.alive = int(state["step"]), list(state["alive"])
    run.scale.value, run.scale.whole_steps = state["scale"]
    for slot, schedule in run.noise.adaptive.items():
        schedule.first, schedule.smoothed = (state["adaptive"][str(slot)][name] for name in ("first", "smoothed"))


def drop(folder: Path) -> None:
    """Remove the checkpoint of a run that has ended whole."""
    for name in (NAME, ASIDE, OLD):
        shutil.rmtree(folder / name, ignore_errors=True)


def _found(folder: Path) -> Path | None:
    """The checkpoint, or the one before it where a process ended between two renames."""
    whole = (folder / name for name in (NAME, OLD))
    return next((path for path in whole if (path / "state.json").is_file()), None)


def _tensors(run: Lockstep) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for place, weight in enumerate(block.values for block in run.optimizer.blocks):
        tensors[f"weight.{place}"] = weight.detach()
        state = run.optimizer.adamw.state.get(weight, {})
        for name in ("step", *AVERAGES):
            if name in state:
                tensors[f"{name}.{place}"] = state[name]
    return tensors
