"""A study that runs out of disk or memory, or whose loss becomes NaN."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from tests.stress.faults.endings import resumes_as
from tests.stress.faults.setup import OWNER, WAIT_SECONDS, Environment, numbers

if TYPE_CHECKING:
    from neftune_core.studies.records.record import Record


def disk_full(environment: Environment, chance: random.Random) -> str:
    """The disk is full while writing a checkpoint: the last good one is kept, and the study resumes from it."""
    from neftune_core.studies import checkpoint
    from neftune_core.studies.study import run_study

    record, good = environment.create(), chance.randrange(1, 5)
    written = 0

    def full(tensors: Any, path: Path) -> None:
        nonlocal written
        written += 1
        if written > good:
            path.write_bytes(b"half of it")
            raise OSError(28, "No space left on device", str(path))
        saved(tensors, path)

    saved = checkpoint.save_file
    with patch.object(checkpoint, "save_file", full):
        ending = list(run_study(record, environment.limits, lambda: False))[-1]
    if ending["event"] != "failed" or "disk is full" not in ending["message"]:
        return f"the study {ending['event']}: {ending.get('message')}"
    return resumes_as(environment, record, environment.uninterrupted)


def small_disk(environment: Environment, chance: random.Random) -> str:
    """A real disk is too small, if one can be mounted: the study fails with its error message."""
    with _mounted(environment.folder / "small", kilobytes=chance.randrange(300, 900)) as folder:
        if folder is None:
            return ""
        from neftune_core.studies.records.record import create

        record = create(environment.study(), OWNER, environment.limits, folder=folder)
        with patch("neftune_core.studies.study.require_disk"):  # as if others filled the disk after its first step
            environment.run(record)
        moved = Path(shutil.copytree(record.folder, environment.folder / "runs" / record.id))
    from neftune_core.studies.records.record import Record

    ending = Record(moved).ending()
    if ending is not None and (ending["event"] != "failed" or "disk is full" not in ending["message"]):
        return f"the study {ending['event']}: {ending.get('message')}"
    return resumes_as(environment, Record(moved), environment.uninterrupted)


@contextmanager
def _mounted(folder: Path, kilobytes: int) -> Iterator[Path | None]:
    """Mount a disk of that size; None if not permitted."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "neftune", str(folder)]
    made = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder if made else None
    finally:
        if made:
            subprocess.run(["umount", str(folder)], check=True)


def out_of_memory(environment: Environment, chance: random.Random) -> str:
    """Memory runs out in a step: the error explains what to do, and the next study runs."""
    import torch

    said = [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: 8 bytes."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ]
    error = chance.choice(said)
    record = _broken_step(environment, chance.randrange(1, 12), error)
    status = environment.jobs.status(record)
    if status.state != "failed" or "smaller batch" not in status.message:
        return f"the study {status.state}: {status.message}"
    return resumes_as(environment, record, environment.uninterrupted)


def _broken_step(environment: Environment, number: int, error: Exception) -> Record:
    from neftune_core.engine.lockstep import Lockstep

    step = Lockstep.step

    def failing(run: Lockstep, planned: Any, *rest: Any) -> Any:
        if planned.number == number:
            raise error
        return step(run, planned, *rest)

    with patch.object(Lockstep, "step", failing):
        record = environment.jobs.submit(environment.study(), OWNER)
        environment.jobs.wait(record, WAIT_SECONDS)
    return record


def no_number(environment: Environment, chance: random.Random) -> str:
    """The loss of one arm becomes NaN: the arm is marked, and the others are unaffected."""
    from neftune_core.engine.lockstep import Lockstep

    step, at, slot = Lockstep.step, chance.randrange(1, 12), chance.randrange(1, 4)

    def poisoned(run: Lockstep, planned: Any, *rest: Any) -> Any:
        if planned.number == at:
            run.optimizer.blocks[0].values.data[slot, -1] = float("nan")
        return step(run, planned, *rest)

    with patch.object(Lockstep, "step", poisoned):
        found = numbers(environment.run(environment.create(environment.study(seeds=1, model_dropout=0.0))))
    name = list(environment.study().arms)[slot - 1]
    lost = [(event["step"], list(event["arms"])) for event in found if event["event"] == "diverged"]
    if lost != [(at, [name])] or found[-1]["event"] != "finished" or name not in found[-1]["message"]:
        return f"diverged: {lost}, {found[-1]}"
    alone = numbers(environment.run(environment.create(environment.study(seeds=1, model_dropout=0.0))))
    return "" if _losses(found, name) == _losses(alone, name) else "the other arms were changed by it"


def _losses(events: list[dict[str, Any]], without: str) -> list[Any]:
    measured = (event for event in events if event["event"] in ("step", "evaluated"))
    return [[arm for name, arm in event["arms"].items() if name != without] for event in measured]
