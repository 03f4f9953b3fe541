"""A study that is killed or stopped, and its state afterwards."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_core.settings import Limits
from tests.stress.faults.setup import OWNER, WAIT_SECONDS, Environment, numbers, still_held

if TYPE_CHECKING:
    from neftune_core.studies.records.record import Record

IMPORTED = [
    "tests.stress.faults.endings",
    "neftune_core.studies.study",
    "transformers.models.llama.modeling_llama",
]


def killed(environment: Environment, chance: random.Random) -> str:
    """A separate process is killed at a random step of a random seed, and the study resumes in this one."""
    expected, record = environment.uninterrupted, environment.create()
    steps = sum(event["event"] == "step" for event in expected)
    _run_and_kill(record, chance.randrange(1, steps), chance.uniform(0, 0.02))
    state = environment.jobs.status(record).state
    if state != "interrupted":
        return f"a killed study is reported as {state}"
    return resumes_as(environment, record, expected)


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
    """Return the multiprocessing context; on most systems, workers are forked from a process with all imports."""
    import multiprocessing

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def _run_alone(folder: str) -> None:
    from neftune_core.studies.records.record import Record
    from neftune_core.studies.study import run_study

    for _ in run_study(Record(Path(folder)), Limits(), lambda: False):
        pass


def resumes_as(environment: Environment, record: Record, expected: list[dict[str, Any]]) -> str:
    """Return "" if the resumed study ends with the same numbers as the uninterrupted one."""
    from neftune_core.studies.records.integrity import damages

    log = record.log()
    log.read()
    broken = damages(record, log)
    if broken:
        return f"the record cannot be read whole: {broken[0]}"
    found = numbers(environment.run(record))
    if found == expected:
        return ""
    place = next((at for at, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None)
    return f"{len(found)} events of {len(expected)}, the first other one at {place}"


def stopped(environment: Environment, chance: random.Random) -> str:
    """A study is stopped at a random moment: base, modules and lock are restored, and the next job starts."""
    from neftune_core.models.loading import load

    loaded = load(environment.model)
    before = _fingerprint(loaded.model)
    record = environment.jobs.submit(environment.study(epochs=200), OWNER)
    time.sleep(chance.uniform(0, 1.5))
    asked = time.monotonic()
    environment.jobs.stop(record.id, OWNER)
    while not environment.jobs.status(record).is_over:
        time.sleep(0.01)
    seconds = time.monotonic() - asked
    wrong = environment.ends(record, "stopped")
    if seconds > environment.stop_seconds:
        wrong = wrong or f"it took {seconds:.1f} s"
    wrong = wrong or still_held()
    if _fingerprint(loaded.model) != before:
        wrong = wrong or "the base has changed"
    return wrong or environment.ends(environment.jobs.submit(environment.study(seeds=1, epochs=0.25), OWNER))


def _fingerprint(model: Any) -> Any:
    """Return a fingerprint of a model's weights, module types and hooks."""
    from tests.weights import weights_hash

    modules = [(name, type(module).__name__, len(module._forward_hooks)) for name, module in model.named_modules()]
    return weights_hash(model), modules, any(parameter.requires_grad for parameter in model.parameters())
