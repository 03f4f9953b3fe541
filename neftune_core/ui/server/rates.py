"""How often a network address may call, send a password or begin a study: counted in memory, forgotten when it is over.

A key cannot be counted, since whoever wants more makes another. Whoever forges the platform's header on a Space gets
around this count, and not around the places of the queue.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque

from neftune_core.errors import LabError
from neftune_core.language import say
from neftune_core.settings import Limits

KEPT_ADDRESSES = 10_000
MINUTE, HOUR = 60.0, 3600.0
PASSWORDS_A_MINUTE, PASSWORDS_OF_ALL = 10, 100


class TooMany(LabError):
    """More calls than this server answers."""


class Window:
    """At most `most` events of one address within `seconds`; 0 counts nothing."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, address: str, now: float | None = None) -> float:
        """Return 0 if the event is allowed, and count it; else the seconds until the next one is."""
        if not self.most:
            return 0.0
        moment = time.monotonic() if now is None else now
        with self._lock:
            times = self._times.setdefault(address, deque())
            self._times.move_to_end(address)
            while times and times[0] <= moment - self.seconds:
                times.popleft()
            if len(times) >= self.most:
                return times[0] + self.seconds - moment
            times.append(moment)
            while len(self._times) > KEPT_ADDRESSES:
                self._times.popitem(last=False)
        return 0.0


class Rates:
    """The limits of one server by time: calls and passwords in a minute, studies begun in an hour."""

    def __init__(self, limits: Limits) -> None:
        self.calls = Window(limits.calls_a_minute, MINUTE)
        self.studies = Window(limits.studies_an_hour, HOUR)
        self.passwords = Window(PASSWORDS_A_MINUTE, MINUTE)
        self.passwords_of_all = Window(PASSWORDS_OF_ALL, MINUTE)

    def count_call(self, address: str, now: float | None = None) -> None:
        """Count one call; raises `TooMany`."""
        left = self.calls.wait(address, now)
        if left:
            raise TooMany(
                say(
                    "That was too many calls in a minute from your network address: wait {left} seconds.",
                    left=round(left),
                )
            )

    def count_password(self, address: str, now: float | None = None) -> None:
        """Count one attempt to sign in with the password; raises `TooMany`."""
        left = self.passwords.wait(address, now) or self.passwords_of_all.wait("", now)
        if left:
            raise TooMany(f"Too many passwords were tried within a minute: wait {max(1, round(left))} seconds.")

    def count_study(self, address: str, now: float | None = None) -> None:
        """Count one study, whichever handler begins it; raises `TooMany`. Without an address nothing is counted."""
        left = self.studies.wait(address, now) if address else 0.0
        if left:
            raise TooMany(
                say(
                    "Your network address began {most} studies within an hour, the most that this server runs for "
                    "one: wait {left} minutes, or run the lab on a machine of your own.",
                    most=self.studies.most,
                    left=max(1, round(left / 60)),
                )
            )
