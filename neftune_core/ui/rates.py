"""How often somebody may call: counted by the address that calls come from, in memory, and forgotten when it is over.

A key cannot be counted, since whoever wants more makes another. On a Space all calls come from the platform's proxy,
which names the visitor's address; whoever writes that header themselves gets around this count, and not around the
places of the queue.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict, deque

from starlette.types import Scope

from neftune_core.errors import LabError
from neftune_core.settings import Limits

KEPT_ADDRESSES = 10_000
LONGEST_ADDRESS = 60
MINUTE, HOUR = 60.0, 3600.0


class TooMany(LabError):
    """More calls than this server answers."""


class _Window:
    """At most `most` events of one address within `seconds`; 0 counts nothing."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, address: str, now: float) -> float:
        """0 where the event is allowed, and is then counted; else the seconds until the next one is."""
        if not self.most:
            return 0.0
        with self._lock:
            times = self._times.setdefault(address, deque())
            self._times.move_to_end(address)
            while times and times[0] <= now - self.seconds:
                times.popleft()
            if len(times) >= self.most:
                return times[0] + self.seconds - now
            times.append(now)
            while len(self._times) > KEPT_ADDRESSES:
                self._times.popitem(last=False)
        return 0.0


class Rates:
    """The two limits of a server: calls a minute, and studies begun in an hour."""

    def __init__(self, limits: Limits) -> None:
        self.calls = _Window(limits.calls_a_minute, MINUTE)
        self.studies = _Window(limits.studies_an_hour, HOUR)

    def count(self, scope: Scope, *, begins: bool, now: float | None = None) -> None:
        """Count one call; raises `TooMany`."""
        address, moment = _address(scope), time.monotonic() if now is None else now
        left = self.calls.wait(address, moment)
        if left:
            raise TooMany(f"That were too many calls in a minute from your address: wait {left:.0f} seconds.")
        left = self.studies.wait(address, moment) if begins else 0.0
        if left:
            raise TooMany(
                f"Your address began {self.studies.most} studies within an hour, the most that this server runs for "
                f"one: wait {max(1, round(left / 60))} minutes, or run the lab on a machine of your own."
            )


def _address(scope: Scope) -> str:
    """The address a call comes from; of the long ones of today the part that belongs to one household."""
    address = (scope.get("client") or ("", 0))[0]
    if "SPACE_ID" in os.environ:
        named = dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin-1").partition(",")[0].strip()
        address = named[:LONGEST_ADDRESS] or address
    return ":".join(address.split(":")[:4]) if address.count(":") > 1 else address
