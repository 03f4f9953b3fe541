"""Rate limits per network address: calls, passwords and new studies, counted in memory.

Limits per key would have no effect, since a visitor can create any number of keys. On a Space, a forged proxy header
evades these limits, but not the limit of the queue.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from neftune_core.errors import LabError
from neftune_core.language import later, plural, say
from neftune_core.settings import Limits
from neftune_core.ui.server.recent import Recent

KEPT_ADDRESSES = 10_000
MINUTE, HOUR = 60.0, 3600.0
CALL_BYTES = 100_000
"""Body size in bytes above which a call counts as several, because parsing it delays all visitors."""
PASSWORDS_A_MINUTE, PASSWORDS_OF_ALL = 10, 100


class TooManyCalls(LabError):
    """Raised when a network address exceeds a rate limit."""


class Window:
    """Limit on the number of events per address within a sliding window.

    Args:
        most: Maximum number of events; 0 for no limit.
        seconds: Length of the window in seconds.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self._times: Recent[deque[float]] = Recent(KEPT_ADDRESSES, deque)
        self._lock = threading.Lock()

    @property
    def addresses(self) -> int:
        """Return the number of addresses with stored events."""
        return len(self._times)

    def wait(self, address: str, now: float | None = None, weight: int = 1) -> float:
        """Count an event if it is allowed.

        Args:
            address: The network address.
            now: Monotonic time in seconds; the current time if None.
            weight: Number of events that it counts as.

        Returns:
            0 if the event is allowed; otherwise the number of seconds to wait.
        """
        if not self.most:
            return 0.0
        moment = time.monotonic() if now is None else now
        with self._lock:
            self._times[address] = times = self._times[address]
            while times and times[0] <= moment - self.seconds:
                times.popleft()
            if len(times) + weight > self.most:
                return times[0] + self.seconds - moment if times else self.seconds
            times.extend([moment] * weight)
        return 0.0


class Rates:
    """The rate limits of one server: calls and passwords per minute, new studies per hour."""

    def __init__(self, limits: Limits) -> None:
        self.calls = Window(limits.calls_a_minute, MINUTE)
        self.studies = Window(limits.studies_an_hour, HOUR)
        self.passwords = Window(PASSWORDS_A_MINUTE, MINUTE)
        self.passwords_of_all = Window(PASSWORDS_OF_ALL, MINUTE)

    def count_call(self, address: str, now: float | None = None, size: int = 0) -> None:
        """Count one call; a large one counts as several.

        Args:
            address: The network address.
            now: Monotonic time in seconds; the current time if None.
            size: Size of its body in bytes.

        Raises:
            TooManyCalls: If the limit is reached.
        """
        _require(
            self.calls.wait(address, now, 1 + size // CALL_BYTES),
            later("Your network address made too many calls within a minute: wait {left} second."),
            later("Your network address made too many calls within a minute: wait {left} seconds."),
        )

    def count_password(self, address: str, now: float | None = None) -> None:
        """Count one login attempt.

        Args:
            address: The network address.
            now: Monotonic time in seconds; the current time if None.

        Raises:
            TooManyCalls: If the limit of this address, or of all addresses, is reached.
        """
        _require(
            self.passwords.wait(address, now) or self.passwords_of_all.wait("", now),
            later("Too many passwords were tried within a minute: wait {left} second."),
            later("Too many passwords were tried within a minute: wait {left} seconds."),
        )

    def count_study(self, address: str, now: float | None = None) -> None:
        """Count one new study; with an empty address nothing is counted.

        Args:
            address: The network address.
            now: Monotonic time in seconds; the current time if None.

        Raises:
            TooManyCalls: If the limit is reached.
        """
        _require(
            self.studies.wait(address, now) / 60 if address else 0.0,
            later(
                "Your network address has reached this server's maximum number of studies per hour ({most}): wait "
                "{left} minute, or run the lab on your own machine."
            ),
            later(
                "Your network address has reached this server's maximum number of studies per hour ({most}): wait "
                "{left} minutes, or run the lab on your own machine."
            ),
            most=self.studies.most,
        )


def _require(left: float, one: str, several: str, **values: Any) -> None:
    """Raise `TooManyCalls` with one of two messages unless `left`, the time to wait in the messages' unit, is 0."""
    if left:
        count = max(1, round(left))
        raise TooManyCalls(say(plural(count, one, several), left=count, **values))
