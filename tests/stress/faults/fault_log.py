"""A log that grows fast, and is read meanwhile."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import TYPE_CHECKING

from tests.stress.faults.setup import Shop

if TYPE_CHECKING:
    from neftune_core.studies.records.record import Record

LOG_EVENTS_A_SECOND = 200


def minute_of_log(shop: Shop, chance: random.Random) -> str:
    """Two hundred events a second for a minute: none is lost, and a page that looks all the while keeps up."""
    return fast_log(shop, seconds=60)


def moment_of_log(shop: Shop, chance: random.Random) -> str:
    """As `minute_of_log`, as short as a test may be."""
    return fast_log(shop, seconds=1.5)


class LogWriter(threading.Thread):
    """Appends the steps of two arms to `record`, `rate` a second; `written` has the time (epoch) of each."""

    def __init__(self, record: Record, events: int, rate: float) -> None:
        super().__init__(daemon=True)
        self.record, self.events, self.rate = record, events, rate
        self.written: dict[int, float] = {}

    def run(self) -> None:
        """One event after the other, each at its time."""
        started = time.monotonic()
        for step in range(1, self.events + 1):
            time.sleep(max(0.0, started + step / self.rate - time.monotonic()))
            losses = {"control": {"loss": 1 / step}, "uniform-alpha-5": {"loss": 2 / step}}
            told = {"seed": 0, "event": "step", "step": step, "steps": self.events, "tokens": 9, "arms": losses}
            self.written[step] = time.time()
            self.record.append(told)


def fast_log(shop: Shop, seconds: float) -> str:
    """As `minute_of_log`, for that long. Every look reads what is new and draws the curves, as the page does."""
    from neftune_core.figures.curves import loss_curves

    record = shop.create()
    total = round(LOG_EVENTS_A_SECOND * seconds)
    writer, late, log, arms = LogWriter(record, total, LOG_EVENTS_A_SECOND), 0.0, record.log(), record.arms
    writer.start()
    while writer.is_alive() or len(log.events) < total:
        is_over, known = not writer.is_alive(), len(log.events)
        json.dumps(loss_curves(log.read(), arms))
        for event in log.events[known:]:
            late = max(late, time.time() - writer.written[event["step"]])
        if is_over and len(log.events) == known < total:
            break
        time.sleep(0.05)
    if [event["step"] for event in log.events] != list(range(1, total + 1)):
        return f"{len(log.events)} of {total} events were read"
    return "" if late < 1 else f"the reader came {late:.1f} s late"
