"""A log that grows quickly while it is read."""

from __future__ import annotations

import json
import random
import time

from neftune_core.bench.page import LogWriter
from tests.stress.faults.setup import Environment

LOG_EVENTS_A_SECOND = 200


def minute_of_log(environment: Environment, chance: random.Random) -> str:
    """Two hundred events per second for a minute: none is lost, and a page that polls keeps up."""
    return fast_log(environment, seconds=60)


def moment_of_log(environment: Environment, chance: random.Random) -> str:
    """Like `minute_of_log`, but short enough for a test."""
    return fast_log(environment, seconds=1.5)


def fast_log(environment: Environment, seconds: float) -> str:
    """Like `minute_of_log`, with a duration. Every poll reads new events and draws the curves, like the page."""
    from neftune_core.figures.curves import loss_curves

    record = environment.create()
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
