"""What a study must survive, done to it on purpose: `neftune bench faults` does it all, the tests a short part of it.

A fault is tried again and again with the same seeds of chance; a try says in words what went wrong, or nothing.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from neftune_core.bench.fault_damage import read_damaged
from neftune_core.bench.fault_shop import OWNER, WAIT_SECONDS, Shop, numbers, shop
from neftune_core.bench.table import Table
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits

if TYPE_CHECKING:
    from neftune_core.training.record import Record

TINY = "tiny"
LOG_EVENTS_A_SECOND = 200
IMPORTED = ["neftune_core.bench.faults", "neftune_core.training.study", "transformers.models.llama.modeling_llama"]
PROMPTS = AnswerSettings(prompts=("Say the number 3.", "What is it?"), new_tokens=6)


Try = Callable[[Shop, random.Random], str]


@dataclass(frozen=True)
class Fault:
    """Something that happens to a study. `count` tries are a full bench, `short` ones a test."""

    words: str
    once: Try
    count: int
    short: int


def try_fault(fault: Fault, shop: Shop, count: int) -> list[str]:
    """What went wrong in `count` tries."""
    found = (fault.once(shop, random.Random(f"{fault.words} {number}")) for number in range(count))
    return [words for words in found if words]


def measure_faults(model: str) -> Table:
    """Every fault, how often it was made and how often the study survived; some minutes with the model `tiny`."""
    from neftune_core.models.device import describe_machine

    table = Table("Faults that a study must survive", describe_machine())
    with shop(None if model == TINY else ModelSettings(source=model)) as found:
        for fault in FAULTS.values():
            if not fault.count:
                continue
            started = time.perf_counter()
            wrong = try_fault(fault, found, fault.count)
            row = {"fault": fault.words, "tries": fault.count, "survived": fault.count - len(wrong)}
            table.rows.append({**row, "seconds": round(time.perf_counter() - started, 1)})
            table.notes += [f"{fault.words}: {words}" for words in wrong[:3]]
    return table


# ------------------------------------------------------------------ the process is killed


def _killed(shop: Shop, chance: random.Random) -> str:
    """A process of its own is killed at a random step of a random seed; the study goes on here."""
    expected, record = shop.unbroken, shop.create()
    steps = sum(event["event"] == "step" for event in expected)
    _run_and_kill(record, chance.randrange(1, steps), chance.uniform(0, 0.02))
    state = shop.jobs.status(record).state
    if state != "interrupted":
        return f"a killed study is told as {state}"
    return _goes_on_as(shop, record, expected)


def _run_and_kill(record: Record, step: int, later_seconds: float) -> None:
    process = _processes().Process(target=_run_alone, args=(str(record.folder),), daemon=True)
    process.start()
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and process.is_alive():
        if sum(event["event"] == "step" for event in record.events()) >= step:
            time.sleep(later_seconds)
            break
        time.sleep(0.002)
    process.kill()
    process.join()


def _processes() -> Any:
    """Where processes come from: on most systems from one that has imported all that a study needs."""
    import multiprocessing

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def _run_alone(folder: str) -> None:
    from neftune_core.training.record import Record
    from neftune_core.training.study import run_study

    for _ in run_study(Record(Path(folder)), Limits(), lambda: False):
        pass


def _goes_on_as(shop: Shop, record: Record, expected: list[dict[str, Any]]) -> str:
    """Nothing where the resumed study ends with the very numbers of the unbroken one."""
    from neftune_core.training.damage import damages

    log = record.log()
    log.read()
    broken = damages(record, log)
    if broken:
        return f"the record cannot be read whole: {broken[0]}"
    found = numbers(shop.run(record))
    if found == expected:
        return ""
    place = next((at for at, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None)
    return f"{len(found)} events of {len(expected)}, the first other one at {place}"


# ------------------------------------------------------------------ it is stopped


def _stopped(shop: Shop, chance: random.Random) -> str:
    """Stopped at a random moment: the base, its modules and the lock are as before, and the next job starts."""
    from neftune_core.models.loading import load
    from neftune_core.training.accelerator import accelerator

    loaded = load(shop.model)
    before = _fingerprint(loaded.model)
    record = shop.jobs.submit(shop.study(epochs=200), OWNER)
    time.sleep(chance.uniform(0, 1.5))
    asked = time.monotonic()
    shop.jobs.stop(record.id, OWNER)
    while not shop.jobs.status(record).is_over:
        time.sleep(0.01)
    seconds = time.monotonic() - asked
    wrong = shop.ends(record, "stopped")
    if seconds > shop.stop_seconds:
        wrong = wrong or f"it took {seconds:.1f} s"
    if accelerator.is_held:
        wrong = wrong or "the accelerator is still held"
    if _fingerprint(loaded.model) != before:
        wrong = wrong or "the base has changed"
    return wrong or shop.ends(shop.jobs.submit(shop.study(seeds=1, epochs=0.25), OWNER))


def _fingerprint(model: Any) -> Any:
    """Weights, kinds of modules and hooks of a model."""
    from neftune_core.models.trees import weights_hash

    modules = [(name, type(module).__name__, len(module._forward_hooks)) for name, module in model.named_modules()]
    return weights_hash(model), modules, any(parameter.requires_grad for parameter in model.parameters())


# ------------------------------------------------------------------ others come and go


def _left_alone(shop: Shop, chance: random.Random) -> str:
    """Who watched goes away in mid-run, and an answer is broken off: the study goes on, and is seen whole later."""
    from neftune_core.figures.curves import loss_curves
    from neftune_core.training.accelerator import accelerator
    from neftune_core.training.comparison import compare

    record = shop.jobs.submit(shop.study(), OWNER)
    growing: Any = compare(shop.whole, PROMPTS, shop.limits)
    next(growing)
    watching = record.log()
    while not watching.read() and not shop.jobs.status(record).is_over:
        time.sleep(0.01)
    growing.close()
    del watching
    wrong = shop.ends(record)
    drawn = loss_curves(record.events(), record.arms)["data"]
    steps = {max(trace["x"]) for trace in drawn if "/loss/" in trace["uid"]}
    if numbers(record) != shop.unbroken or steps != {12}:
        wrong = wrong or f"the curves end at {steps}"
    return wrong or ("the accelerator is still held" if accelerator.is_held else "")


def _shared(shop: Shop, chance: random.Random) -> str:
    """Others compare and look at noise all the while: neither they nor the study see the difference."""
    answered = shop.whole
    alone = [_answers(shop, answered), _looked_at_noise(shop)]
    wrong: list[str] = []
    over = threading.Event()

    def visit(look: Callable[[], Any], expected: Any) -> None:
        while not over.is_set():
            if look() != expected:
                wrong.append(f"{look} gave something else beside a study")
            time.sleep(chance.uniform(0, 0.01))

    visits = [(lambda: _answers(shop, answered), alone[0]), (lambda: _looked_at_noise(shop), alone[1])]
    threads = [threading.Thread(target=visit, args=pair, daemon=True) for pair in visits]
    record = shop.jobs.submit(shop.study(), OWNER)
    for thread in threads:
        thread.start()
    ended = shop.ends(record)
    over.set()
    for thread in threads:
        thread.join()
    if numbers(record) != shop.unbroken:
        wrong.append("the numbers of the study changed")
    return ended or "".join(wrong[:1])


def _answers(shop: Shop, record: Record) -> Any:
    from neftune_core.training.comparison import compare

    return list(compare(record, PROMPTS, shop.limits))[-1]


def _looked_at_noise(shop: Shop) -> Any:
    """What the Noise tab does to the model: its embeddings, with noise on a tree of its own."""
    import torch

    from neftune_core.models.loading import load, private_tree
    from neftune_core.noise.attach import noisy_embeddings

    loaded, tree = load(shop.model), private_tree(load(shop.model).model)
    ids = torch.tensor([loaded.tokenizer("Say the number 3.")["input_ids"]])
    tree.train()
    with torch.no_grad(), noisy_embeddings(tree, NoiseSettings(strength=5), seed=3):
        return tree(ids.to(loaded.device)).logits.cpu().numpy().tobytes()


# ------------------------------------------------------------------ something runs out, or is no number


def _disk_full(shop: Shop, chance: random.Random) -> str:
    """The disk is full as a checkpoint is written: the last good one stays, and the study goes on from it later."""
    from neftune_core.training import checkpoint
    from neftune_core.training.study import run_study

    record, good = shop.create(), chance.randrange(1, 5)
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
        ending = list(run_study(record, shop.limits, lambda: False))[-1]
    if ending["event"] != "failed" or "disk is full" not in ending["message"]:
        return f"the study {ending['event']}: {ending.get('message')}"
    return _goes_on_as(shop, record, shop.unbroken)


def _small_disk(shop: Shop, chance: random.Random) -> str:
    """A real disk that is too small, where this system lets one be made: the study fails with its sentence."""
    with _mounted(shop.folder / "small", kilobytes=chance.randrange(300, 900)) as folder:
        if folder is None:
            return ""
        from neftune_core.training.record import create

        record = create(shop.study(), OWNER, shop.limits, folder=folder)
        shop.run(record)
        moved = Path(shutil.copytree(record.folder, shop.folder / "runs" / record.id))
    from neftune_core.training.record import Record

    ending = Record(moved).ending()
    if ending is not None and (ending["event"] != "failed" or "disk is full" not in ending["message"]):
        return f"the study {ending['event']}: {ending.get('message')}"
    return _goes_on_as(shop, Record(moved), shop.unbroken)


@contextmanager
def _mounted(folder: Path, kilobytes: int) -> Iterator[Path | None]:
    """A disk of that size; None where this system does not let one be made."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "neftune", str(folder)]
    made = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder if made else None
    finally:
        if made:
            subprocess.run(["umount", str(folder)], check=True)


def _out_of_memory(shop: Shop, chance: random.Random) -> str:
    """The memory runs out in a step, in the words of each device: what helps is said, and the next study runs."""
    import torch

    said = [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: 8 bytes."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ]
    error = chance.choice(said)
    record = _broken_step(shop, chance.randrange(1, 12), error)
    status = shop.jobs.status(record)
    if status.state != "failed" or "smaller batch" not in status.message:
        return f"the study {status.state}: {status.message}"
    return _goes_on_as(shop, record, shop.unbroken)


def _broken_step(shop: Shop, number: int, error: Exception) -> Record:
    from neftune_core.training.lockstep import Lockstep

    step = Lockstep.step

    def failing(run: Lockstep, planned: Any, *rest: Any) -> Any:
        if planned.number == number:
            raise error
        return step(run, planned, *rest)

    with patch.object(Lockstep, "step", failing):
        record = shop.jobs.submit(shop.study(), OWNER)
        shop.jobs.wait(record, WAIT_SECONDS)
    return record


def _no_number(shop: Shop, chance: random.Random) -> str:
    """The loss of one arm is no number from some step on: it is marked, and the others do as without it."""
    from neftune_core.training.lockstep import Lockstep

    step, at, slot = Lockstep.step, chance.randrange(1, 12), chance.randrange(1, 4)

    def poisoned(run: Lockstep, planned: Any, *rest: Any) -> Any:
        if planned.number == at:
            run.optimizer.parts[1].parameter.data[slot] = float("nan")
        return step(run, planned, *rest)

    with patch.object(Lockstep, "step", poisoned):
        found = numbers(shop.run(shop.create(shop.study(seeds=1, model_dropout=0.0))))
    name = list(shop.study().arms)[slot - 1]
    lost = [(event["step"], list(event["arms"])) for event in found if event["event"] == "diverged"]
    if lost != [(at, [name])] or found[-1]["event"] != "finished" or name not in found[-1]["message"]:
        return f"diverged: {lost}, {found[-1]}"
    alone = numbers(shop.run(shop.create(shop.study(seeds=1, model_dropout=0.0))))
    return "" if _losses(found, name) == _losses(alone, name) else "the other arms were changed by it"


def _losses(events: list[dict[str, Any]], without: str) -> list[Any]:
    measured = (event for event in events if event["event"] in ("step", "evaluated"))
    return [[arm for name, arm in event["arms"].items() if name != without] for event in measured]


# ------------------------------------------------------------------ the log


def _fast_log(shop: Shop, chance: random.Random) -> str:
    """Two hundred events a second for as long as `seconds`: none is lost, and a reader keeps up."""
    return fast_log(shop, seconds=60)


def _short_fast_log(shop: Shop, chance: random.Random) -> str:
    return fast_log(shop, seconds=1.5)


def fast_log(shop: Shop, seconds: float) -> str:
    """As `_fast_log`, for that long."""
    record, log = shop.create(), None
    total = round(LOG_EVENTS_A_SECOND * seconds)
    over = threading.Event()
    written_at: dict[int, float] = {}

    def write() -> None:
        started = time.monotonic()
        for number in range(1, total + 1):
            time.sleep(max(0.0, started + number / LOG_EVENTS_A_SECOND - time.monotonic()))
            written_at[number] = time.monotonic()
            arms = {"control": {"loss": 1.0 / number}, "uniform-alpha-5": {"loss": 2.0 / number}}
            record.append({"seed": 0, "event": "step", "step": number, "steps": total, "tokens": 9, "arms": arms})
        over.set()

    writer, late, log = threading.Thread(target=write, daemon=True), 0.0, record.log()
    writer.start()
    while not over.is_set() or len(log.events) < total:
        known = len(log.events)
        for event in log.read()[known:]:
            late = max(late, time.monotonic() - written_at[event["step"]])
        if over.is_set() and len(log.events) == known < total:
            break
        time.sleep(0.05)
    if [event["step"] for event in log.events] != list(range(1, total + 1)):
        return f"{len(log.events)} of {total} events were read"
    return "" if late < 1 else f"the reader came {late:.1f} s late"


FAULTS: dict[str, Fault] = {
    "killed": Fault("the process is killed at a random step", _killed, 20, 2),
    "stopped": Fault("stopped at a random moment", _stopped, 50, 3),
    "left": Fault("the page is closed in mid-run", _left_alone, 5, 1),
    "shared": Fault("others compare and look at noise during the study", _shared, 5, 1),
    "disk": Fault("the disk is full as a checkpoint is written", _disk_full, 8, 1),
    "small disk": Fault("a real disk is too small (needs root; else not made)", _small_disk, 8, 1),
    "memory": Fault("the memory runs out in a step", _out_of_memory, 8, 1),
    "no number": Fault("the loss of one arm is no number", _no_number, 8, 1),
    "fast log": Fault("two hundred events a second for a minute", _fast_log, 1, 0),
    "short fast log": Fault("two hundred events a second", _short_fast_log, 0, 1),
    "damaged": Fault("a record is cut, doubled, mixed, newer or half deleted", read_damaged, 100, 20),
}
