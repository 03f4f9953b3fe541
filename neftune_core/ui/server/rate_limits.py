"""Rate limits per IP address: calls, passwords and new studies, counted in memory.

Limits per key would have no effect, since a visitor can create any number of keys. On a Space, a forged proxy header
evades these limits, but not the limit of the queue.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from neftune_core.errors import LabError
from neftune_core.language import later, say
from neftune_core.models.estimates import duration
from neftune_core.settings import Limits
from neftune_core.ui.server.recent import Recent

KEPT_ADDRESSES = 10_000
MINUTE, HOUR = 60.0, 3600.0
CALL_BYTES = 100_000
"""A call with a larger body, in bytes, is counted as several calls, because parsing it delays all visitors."""
PASSWORDS_A_MINUTE, PASSWORDS_OF_ALL = 10, 100


class TooManyCalls(LabError):
    """Raised when an IP address exceeds a rate limit."""


class Window:
    """Sliding-window limit on the number of events per address.

    Args:
        most: Maximum number of events; 0 for no limit.
        seconds: Length of the window in seconds.
        clock: Returns the time in seconds.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.seconds, self.clock = most, seconds, clock
        self._times: Recent[deque[float]] = Recent(KEPT_ADDRESSES, deque)
        self._lock = threading.Lock()

    @property
    def addresses(self) -> int:
        """Return the number of addresses with stored events."""
        return len(self._times)

    def wait(self, address: str, weight: int = 1) -> float:
        """Count an event if it is allowed.

        Args:
            address: The IP address.
            weight: Number of events that it counts as.

        Returns:
            0 if the event is allowed; otherwise the number of seconds to wait.
        """
        if not self.most:
            return 0.0
        with self._lock:
            moment = self.clock()
            self._times[address] = times = self._times[address]
            while times and times[0] <= moment - self.seconds:
                times.popleft()
            if len(times) + weight > self.most:
                return times[0] + self.seconds - moment if times else self.seconds
            times.extend([moment] * weight)
        return 0.0


class Rates:
    """The rate limits of one server: calls and passwords per minute, new studies per hour.

    The methods raise `TooManyCalls` if an IP address has reached its limit.

    Args:
        limits: Limits of the server.
        clock: Returns the time in seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.calls = Window(limits.calls_a_minute, MINUTE, clock)
        self.studies = Window(limits.studies_an_hour, HOUR, clock)
        self.passwords = Window(PASSWORDS_A_MINUTE, MINUTE, clock)
        self.passwords_of_all = Window(PASSWORDS_OF_ALL, MINUTE, clock)

    def count_call(self, address: str, size: int = 0) -> None:
        """Count one call; a large one counts as several.

        Args:
            address: The IP address.
            size: Size of its body in bytes.

        Raises:
            TooManyCalls: If the limit is reached.
        """
        _require(
            self.calls.wait(address, 1 + size // CALL_BYTES),
            later("Your IP address made too many calls within a minute: wait {duration}."),
        )

    def count_password(self, address: str) -> None:
        """Count one login attempt, which is limited for each address and for all addresses together.

        Raises:
            TooManyCalls: If the limit is reached.
        """
        _require(
            self.passwords.wait(address) or self.passwords_of_all.wait(""),
            later("Too many passwords were tried within a minute: wait {duration}."),
        )

    def count_study(self, address: str) -> None:
        """Count one new study; with an empty address nothing is counted.

        Raises:
            TooManyCalls: If the limit is reached.
        """
        _require(
            self.studies.wait(address) if address else 0.0,
            later(
                "Your IP address has reached this server's maximum number of studies per hour ({most}): wait "
                "{duration}, or run the lab on your own machine."
            ),
            most=self.studies.most,
        )


def _require(seconds: float, words: str, **values: Any) -> None:
    """Raise `TooManyCalls` unless `seconds`, the time to wait, is 0."""
    if seconds:
        raise TooManyCalls(say(words, duration=duration(seconds), **values))
