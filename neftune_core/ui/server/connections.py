"""Limits per IP address on open requests, idle connections, unread answers and sessions, and fair queues.

A visitor can open any number of these at no cost, and Gradio never closes them. Gradio also answers the calls of a
function in order of arrival, so that a visitor with hundreds of slow calls would delay everyone else. The waiting calls
of different addresses therefore take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

from neftune_core.language import later, say
from neftune_core.ui.server.rate_limits import TooManyCalls
from neftune_core.ui.server.recent import Recent

MOST_REQUESTS = 500
"""Maximum number of open requests per address. A page opens at most six, and a whole class may share an address."""
MOST_IDLE = 500
"""Maximum number of idle connections per address."""
IDLE_SECONDS = 30.0
"""Seconds after which a connection is closed if it has not sent complete request headers."""
POLL_SECONDS = 2.0
"""Time between checks for idle connections, in seconds."""
MOST_UNREAD, MOST_UNREAD_PRIVATE = 300, 10_000
"""Maximum number of unanswered and unread calls per address, on a public and on a private server."""
UNREAD_SECONDS = 60.0
"""Seconds after which an unread answer may be dropped."""
MOST_FILES = 65_536
"""Maximum number of open files and connections of this process, if the system allows that many."""
TRACKED_UPLOADS = 1_000
"""Number of uploads for which Gradio keeps the progress."""
LARGEST_PART_HEADER = 2_048
"""Maximum size of an uploaded file's headers in bytes. Gradio shortens a long file name one character at a time."""

TOO_MANY = later("Your IP address has too many requests open at once: wait until some are answered.")

ANSWERS = re.compile(r"/gradio_api/queue/data$", re.IGNORECASE)
ANSWER = re.compile(r"/gradio_api/call/(?:v2/)?[^/]+/([^/]+)$", re.IGNORECASE)


@contextmanager
def _counted(counts: Counter[str], name: str) -> Iterator[None]:
    """Count `name` once more inside the block; afterwards, remove its entry if the count is 0."""
    counts[name] += 1
    try:
        yield
    finally:
        counts[name] -= 1
        if not counts[name]:
            del counts[name]


class OpenRequests:
    """Counter of the open requests of each address; `counts` has no entries of 0."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    @contextmanager
    def counted(self, address: str) -> Iterator[None]:
        """Count a request until the block ends.

        Raises:
            TooManyCalls: If the address already has `MOST_REQUESTS` open requests.
        """
        if self.counts[address] >= MOST_REQUESTS:
            raise TooManyCalls(say(TOO_MANY))
        with _counted(self.counts, address):
            yield


class UnreadAnswers:
    """Limit on the unanswered and unread calls of each address.

    Args:
        queue: Gradio's queue, which stores the answers of a session until they are read.
        most: Maximum number of unanswered and unread calls per address.
    """

    def __init__(self, queue: Any, most: int = MOST_UNREAD) -> None:
        self.queue, self.most = queue, most
        self._joined: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._read: Counter[str] = Counter()

    @contextmanager
    def reading(self, path: str, query: bytes) -> Iterator[None]:
        """If a request reads the answers of a session, mark the session as read inside the block.

        Args:
            path: Path of the request.
            query: Query string of the request, undecoded.

        Yields:
            Nothing.
        """
        with _counted(self._read, self._session_read(path, query)):
            yield

    def _session_read(self, path: str, query: bytes) -> str:
        """Return the session from which a request reads answers, determined as in Gradio; "" if none."""
        if ANSWERS.search(path):
            return parse_qs(query.decode("latin-1")).get("session_hash", [""])[0]
        event = ANSWER.search(path)
        pending = self.queue.pending_event_ids_session
        return next((found for found, events in pending.items() if event and event[1] in events), "")

    async def join(self, address: str, session: str) -> None:
        """Count a call; if the address has too many, first drop answers that have been unread for `UNREAD_SECONDS`.

        Args:
            address: The IP address.
            session: The session of the call.

        Raises:
            TooManyCalls: If the address still has too many unanswered and unread calls.
        """
        if self._count(address) >= self.most:
            await self._drop_old(address)
        if self._count(address) >= self.most:
            raise TooManyCalls(say(TOO_MANY))
        self._joined[session] = address, time.monotonic()
        self._joined.move_to_end(session)

    def _count(self, address: str) -> int:
        pending = self.queue.pending_event_ids_session
        for session in [session for session in self._joined if not pending.get(session)]:
            del self._joined[session]
        return sum(len(pending[session]) for session, (of, _) in self._joined.items() if of == address)

    async def _drop_old(self, address: str) -> None:
        now = time.monotonic()
        for session, (of, joined) in list(self._joined.items()):
            if of == address and session not in self._read and now - joined > UNREAD_SECONDS:
                await self.queue.clean_events(session_hash=session)
                self.queue.pending_event_ids_session.pop(session, None)
                self.queue.pending_messages_per_session.pop(session, None)
                del self._joined[session]


async def close_idle(server: Any, address_of: Callable[[Any], str]) -> None:
    """Until cancelled, close connections that have been idle for `IDLE_SECONDS` or exceed `MOST_IDLE` per address.

    Args:
        server: The uvicorn server.
        address_of: Returns the IP address of a connection.
    """
    since: dict[Any, tuple[Any, float]] = {}
    while True:
        now, idle = time.monotonic(), Counter[str]()
        open_now = [found for found in server.server_state.connections if hasattr(found, "cycle")]
        since = {found: since.get(found, (found.cycle, now)) for found in open_now}
        for found, (cycle, begun) in since.items():
            if cycle is not found.cycle or not (cycle is None or cycle.response_complete):
                since[found] = found.cycle, now
                continue
            idle[address_of(found)] += 1
            if now - begun > IDLE_SECONDS or idle[address_of(found)] > MOST_IDLE:
                found.transport.abort()
        await asyncio.sleep(POLL_SECONDS)


def peer_of(connection: Any) -> str:
    """Return the IP address of the peer of a connection."""
    return str((connection.client or ("",))[0])


def allow_many_files() -> None:
    """Raise this process's limit on open files to `MOST_FILES`, or as far as the system allows."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def limit_header_size() -> None:
    """Make uvicorn parse requests with h11, which rejects request lines and headers of more than 16 kB.

    Call it before the launch. httptools, which uvicorn uses by default, has no such limit.
    """
    from uvicorn.config import HTTP_PROTOCOLS

    HTTP_PROTOCOLS["auto"] = HTTP_PROTOCOLS["h11"]


def limit_uploads() -> None:
    """Limit how many uploads Gradio tracks, and the length of their file names."""
    from gradio.route_utils import GradioMultiPartParser
    from gradio.routes import file_upload_statuses as progress

    progress._statuses = Recent(TRACKED_UPLOADS)
    progress._signals = Recent(TRACKED_UPLOADS, asyncio.Event)  # type: ignore[assignment]
    defaults = GradioMultiPartParser.__init__.__kwdefaults__
    assert defaults is not None
    defaults["max_header_size"] = LARGEST_PART_HEADER


class DiscardedState(dict[int, Any]):
    """Empty replacement for the component descriptions that Gradio stores for each session.

    They take 1.7 MB per session. Gradio uses them only for links to a state of the page, which the gate blocks.
    """

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: int) -> Any:
        return {}

    def __setitem__(self, key: int, value: Any) -> None:
        pass


class Sessions(OrderedDict[str, Any]):
    """Gradio's sessions by hash, oldest first; evicted ones are added to `evicted`.

    Since anyone can open sessions, those of an address with more than `share` sessions are evicted first.

    Args:
        evicted: The evicted sessions.
        most: Number of sessions that the server keeps.
    """

    SHARE = 4

    def __init__(self, evicted: Any, most: int) -> None:
        super().__init__()
        self.evicted, self.share = evicted, most // self.SHARE
        self._addresses: dict[str, str] = {}

    def put_in(self, page: Any) -> None:
        """Make a launched page store its sessions here, without descriptions of its components."""
        holder = page.state_holder
        holder.session_data = self
        holder.blocks = SimpleNamespace(default_config=page.default_config, blocks={})

    def __setitem__(self, session: str, state: Any) -> None:
        if hasattr(state, "config_values"):
            state.config_values = DiscardedState()
        super().__setitem__(session, state)

    def note(self, session: Any, address: str) -> None:
        """Record the address of a session.

        Args:
            session: Id of the session; ignored if it is not known.
            address: The IP address.
        """
        if isinstance(session, str) and session in self:
            self._addresses[session] = address

    def popitem(self, last: bool = True) -> tuple[str, Any]:
        session = next(reversed(self)) if last else self._next_to_evict()
        state = self.pop(session)
        self._addresses.pop(session, None)
        self.evicted.add(session)
        return session, state

    def _next_to_evict(self) -> str:
        """Return the session to evict, the oldest one of the address with the most sessions.

        If this address does not exceed its share, return the oldest session of all addresses.
        """
        counts = Counter(self._addresses.get(session, "") for session in self)
        address, count = counts.most_common(1)[0]
        if count <= self.share:
            return next(iter(self))
        return next(session for session in self if self._addresses.get(session, "") == address)


class FairQueue(list[Any]):
    """Round-robin queue of the waiting events of one function.

    The first event of every address comes before the second event of any address, and so on. Within a round, events
    stay in order of arrival. `address` returns the IP address of an event.
    """

    def __init__(self, address: Callable[[Any], str]) -> None:
        super().__init__()
        self._address = address

    def append(self, event: Any) -> None:
        """Insert an event at the end of the first round that has no event from the same address."""
        mine, waiting = self._address(event), Counter[str]()
        own_round = sum(self._address(other) == mine for other in self)
        for place, other in enumerate(self):
            if waiting[self._address(other)] > own_round:
                self.insert(place, event)
                return
            waiting[self._address(other)] += 1
        super().append(event)


class FairQueues(dict[str, Any]):
    """Gradio's event queues by id; each stores its waiting events in a `FairQueue`."""

    def __init__(self, address: Callable[[Any], str]) -> None:
        super().__init__()
        self._address = address

    def __setitem__(self, name: str, queue: Any) -> None:
        queue.queue = FairQueue(self._address)
        super().__setitem__(name, queue)
