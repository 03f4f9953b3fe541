"""Fault injection: `python -m tests.stress faults` injects all faults that a study must survive.

Each fault is repeated with fixed random seeds; a try returns a description of the failure, or "".
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from neftune_core.models.settings import ModelSettings
from tests.stress.faults.company import page_closed, shared
from tests.stress.faults.damage import read_damaged
from tests.stress.faults.endings import killed, stopped
from tests.stress.faults.fault_log import minute_of_log, moment_of_log
from tests.stress.faults.setup import Environment, environment
from tests.stress.faults.shortage import disk_full, no_number, out_of_memory, small_disk
from tests.stress.findings import FindingsTable

TINY = "tiny"

Try = Callable[[Environment, random.Random], str]


@dataclass(frozen=True)
class Fault:
    """A fault; `count` is the number of tries of a full run, `short` that of a test."""

    words: str
    once: Try
    count: int
    short: int


def try_fault(fault: Fault, environment: Environment, count: int) -> list[str]:
    """Return the failures of `count` tries."""
    found = (fault.once(environment, random.Random(f"{fault.words} {number}")) for number in range(count))
    return [words for words in found if words]


def measure_faults(model: str) -> FindingsTable:
    """Inject every fault, and count tries and survivals; takes some minutes with the model `tiny`."""
    from neftune_core.models.device import describe_machine

    table = FindingsTable("Faults that a study must survive", describe_machine())
    with environment(None if model == TINY else ModelSettings(source=model)) as found:
        for fault in FAULTS.values():
            if not fault.count:
                continue
            started = time.perf_counter()
            wrong = try_fault(fault, found, fault.count)
            row = {"fault": fault.words, "tries": fault.count, "survived": fault.count - len(wrong)}
            table.rows.append({**row, "seconds": round(time.perf_counter() - started, 1)})
            table.notes += [f"{fault.words}: {words}" for words in wrong[:3]]
            table.findings += len(wrong)
    return table


FAULTS: dict[str, Fault] = {
    "killed": Fault("the process is killed at a random step", killed, 20, 2),
    "stopped": Fault("stopped at a random moment", stopped, 50, 3),
    "left": Fault("the page is closed in mid-run", page_closed, 5, 1),
    "shared": Fault("others compare and look at noise during the study", shared, 5, 1),
    "disk": Fault("the disk is full as a checkpoint is written", disk_full, 8, 1),
    "small disk": Fault("a real disk is too small (needs root; else not made)", small_disk, 8, 1),
    "memory": Fault("the memory runs out in a step", out_of_memory, 8, 1),
    "no number": Fault("the loss of one arm is no number", no_number, 8, 1),
    "fast log": Fault("two hundred events per second for a minute", minute_of_log, 1, 0),
    "short fast log": Fault("two hundred events per second", moment_of_log, 0, 1),
    "damaged": Fault("a record is cut, doubled, mixed, newer or half deleted", read_damaged, 100, 20),
}
