"""What one IP address may hold open."""

from __future__ import annotations

import asyncio
import resource
from types import SimpleNamespace
from typing import Any

import pytest
from own_loop import in_own_loop

from neftune_core.ui.server import connections
from neftune_core.ui.server.calls import EvictedSessions
from neftune_core.ui.server.connections import OpenRequests, Sessions, UnreadAnswers
from neftune_core.ui.server.rate_limits import TooManyCalls
from neftune_core.ui.server.recent import Recent


def test_an_address_has_at_most_so_many_requests_open_and_others_are_not_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MOST_REQUESTS", 2)
    found = OpenRequests()
    first, second, other, third = (found.counted(f"10.0.0.{number}") for number in (1, 1, 2, 1))
    with first, second, other, pytest.raises(TooManyCalls, match="too many requests open"), third:
        pytest.fail("a third one was let in")
    with found.counted("10.0.0.1"):
        pass
    assert not found.counts


class Queue:
    """The answers that Gradio keeps, by session."""

    def __init__(self) -> None:
        self.pending_event_ids_session: dict[str, set[str]] = {}
        self.pending_messages_per_session: dict[str, list[str]] = {}
        self.cleaned: list[str] = []

    async def clean_events(self, *, session_hash: str) -> None:
        self.cleaned.append(session_hash)

    def add(self, session: str, event: str) -> None:
        self.pending_event_ids_session.setdefault(session, set()).add(event)
        self.pending_messages_per_session.setdefault(session, []).append(event)


def joined(unread: UnreadAnswers, address: str, session: str, event: str) -> None:
    in_own_loop(lambda: unread.join(address, session))
    unread.queue.add(session, event)


def test_calls_whose_answers_nobody_reads_are_refused_by_address() -> None:
    queue = Queue()
    unread = UnreadAnswers(queue, 2)
    joined(unread, "10.0.0.1", "a", "1")
    joined(unread, "10.0.0.1", "b", "2")
    with pytest.raises(TooManyCalls):
        joined(unread, "10.0.0.1", "c", "3")
    joined(unread, "10.0.0.2", "d", "4")
    queue.pending_event_ids_session["a"].clear()  # it was read
    joined(unread, "10.0.0.1", "c", "3")


def test_answers_that_nobody_has_read_for_a_minute_are_dropped_but_none_that_somebody_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", -1)
    queue = Queue()
    unread = UnreadAnswers(queue, 2)
    joined(unread, "10.0.0.1", "page", "1")
    joined(unread, "10.0.0.1", "program", "2")
    with (
        unread.reading("/gradio_api/queue/data", b"session_hash=page"),
        unread.reading("/gradio_api/call/answers/2", b""),
        pytest.raises(TooManyCalls),
    ):
        joined(unread, "10.0.0.1", "new", "3")
    joined(unread, "10.0.0.1", "new", "3")
    assert queue.cleaned == ["page", "program"]
    assert set(queue.pending_messages_per_session) == set(queue.pending_event_ids_session) == {"new"}


class Connection:
    """A connection of uvicorn: `cycle` is its latest request."""

    def __init__(self, address: str, cycle: Any = None) -> None:
        self.client, self.cycle, self.closed = (address, 1), cycle, False
        self.transport = SimpleNamespace(abort=lambda: setattr(self, "closed", True))


def looked_at(*open_now: Connection, changed: Any = None) -> list[bool]:
    """Which of the connections are closed after two looks; `changed` is called between them."""

    async def look() -> None:
        server = SimpleNamespace(server_state=SimpleNamespace(connections=set(open_now)))
        task = asyncio.create_task(connections.close_idle(server, connections.peer_of))
        await asyncio.sleep(0.05)
        if changed is not None:
            changed()
        await asyncio.sleep(0.1)
        task.cancel()

    in_own_loop(look)
    return [one.closed for one in open_now]


def test_connections_without_a_request_are_closed_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "POLL_SECONDS", 0.06)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)
    answered, answering = SimpleNamespace(response_complete=True), SimpleNamespace(response_complete=False)
    silent, kept, busy = Connection("a"), Connection("a", answered), Connection("a", answering)
    used = Connection("a", answered)
    found = looked_at(silent, kept, busy, used, changed=lambda: setattr(used, "cycle", answering))
    assert found == [True, True, False, False]


def test_an_address_has_at_most_so_many_idle_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_IDLE", 2)
    assert sorted(looked_at(*(Connection("a") for _ in range(5)))) == [False, False, True, True, True]
    assert not any(looked_at(*(Connection(name) for name in "abcde")))


def test_an_address_with_many_sessions_loses_its_own_first() -> None:
    evicted = EvictedSessions()
    sessions = Sessions(evicted, 8)  # an address keeps a fourth
    for session, address in (("mine", "10.0.0.1"), *((f"theirs {n}", "10.0.0.2") for n in range(7))):
        sessions[session] = None
        sessions.note(session, address)
    for _ in range(5):
        sessions.popitem(last=False)
    assert list(sessions) == ["mine", "theirs 5", "theirs 6"]
    assert sessions.popitem(last=False)[0] == "mine"  # nobody has more than a share
    assert "mine" in evicted
    assert "theirs 5" not in evicted


def test_what_is_kept_of_uploads_is_bounded() -> None:
    found: Recent[list[int]] = Recent(3, list)
    for number in range(5):
        found[str(number)].append(number)
    assert dict(found) == {"2": [2], "3": [3], "4": [4]}
    with pytest.raises(KeyError):
        Recent[int](3)["x"]


def test_the_limit_of_open_files_is_raised_and_never_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[Any] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both))
    for now in ((1_024, 4_096), (4_096, 4_096), (1_024, resource.RLIM_INFINITY), (70_000, 1_000_000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, now=now: now)
        connections.allow_many_files()
    assert limits == [(4_096, 4_096), (connections.MOST_FILES, resource.RLIM_INFINITY)]
