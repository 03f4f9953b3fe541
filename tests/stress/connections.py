"""Attacks with what costs nothing to open: connections, requests, streams, uploads and answers that nobody reads."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

from neftune_core.ui.server.connections import MOST_IDLE, MOST_REQUESTS, MOST_UNREAD

from .crowd import HOSTILE_ADDRESS
from .imports import MOST_MEMORY_MB, peak_memory, reset_peak
from .target import Attack, Target

UNREAD_ADDRESS = "127.0.0.3"
"""The address whose answers nobody reads: for a minute, it is refused further calls."""
LONGEST_SECONDS = 2.0
"""For an answer to another visitor meanwhile."""


def _sockets(lab: Target, stack: ExitStack, number: int, words: str) -> list[socket.socket]:
    """Open connections from a hostile address and say the same on each."""
    found = urlsplit(lab.server.address)
    opened = []
    for place in range(number):
        made = socket.create_connection((found.hostname, found.port), 10, source_address=(HOSTILE_ADDRESS, 0))
        stack.callback(made.close)
        made.sendall(words.replace("{}", str(place)).encode())
        opened.append(made)
    return opened


def _others_are_answered(lab: Target) -> None:
    begun = time.perf_counter()
    assert lab.visitor().send("GET", "/config").status == 200
    seconds = time.perf_counter() - begun
    assert seconds < LONGEST_SECONDS, f"another visitor waits {seconds:.1f} s"


def connections_that_say_nothing(lab: Target) -> None:
    """Open connections and send the beginning of a request on each."""
    with ExitStack() as stack:
        opened = _sockets(lab, stack, MOST_IDLE + 100, "GET / HTTP/1.1\r\nHost: ")
        _others_are_answered(lab)
        deadline, closed = time.monotonic() + 20, 0
        while closed < 100 and time.monotonic() < deadline:
            time.sleep(0.5)
            closed = sum(_is_closed(one) for one in opened)
        assert closed >= 100, f"{len(opened) - closed} connections of one address are open"


def _is_closed(one: socket.socket) -> bool:
    one.settimeout(0)
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def heads_without_end(lab: Target) -> None:
    """Send requests whose address, header or number of headers never ends."""
    idle = reset_peak(lab.server)
    host = urlsplit(lab.server.address).netloc
    begin = f"GET / HTTP/1.1\r\nHost: {host}\r\n"
    for words, block in (
        ("GET /", b"a" * 1_000_000),
        (begin + "X-A: ", b"a" * 1_000_000),
        (begin, b"X: y\r\n" * 100_000),
    ):
        with ExitStack() as stack:
            (opened,) = _sockets(lab, stack, 1, words)
            with suppress(OSError):
                for _ in range(50):
                    opened.sendall(block)
            _others_are_answered(lab)
    taken = peak_memory(lab.server) - idle
    assert taken < MOST_MEMORY_MB / 4, f"{taken:.0f} MB"


def streams_that_never_end(lab: Target) -> None:
    """Open streams of events that the server keeps open."""
    host = urlsplit(lab.server.address).netloc
    words = f"GET /gradio_api/heartbeat/stream{{}} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    with ExitStack() as stack:
        opened = _sockets(lab, stack, MOST_REQUESTS + 50, words)
        answers = []
        for one in opened:
            one.settimeout(20)
            answers.append(one.recv(12))
        refused = sum(answer.endswith(b"429") for answer in answers)
        assert refused >= 50, f"{len(opened) - refused} streams of one address are open"
        _others_are_answered(lab)


def files_with_long_names(lab: Target) -> None:
    """Upload many files at once whose names are as long as they may be."""
    visitor = lab.visitor(local_address=HOSTILE_ADDRESS)
    names = ("x" * 7_900, "\u754c" * 2_600, "x" * 1_900)
    for name in names:
        files = [("files", (f"{name}{number}.jsonl", b"{}")) for number in range(200)]
        begun = time.perf_counter()
        visitor.client.post("/gradio_api/upload", files=files)
        seconds = time.perf_counter() - begun
        assert seconds < LONGEST_SECONDS, f"200 names of {len(name):,} letters take {seconds:.1f} s"
    field = visitor.client.post("/gradio_api/upload?upload_id=field", files={"files": (None, b"text")})
    assert field.status_code == 400, field.text


def answers_that_nobody_reads(lab: Target) -> None:
    """Call the same function again and again, and never read an answer."""
    visitor = lab.visitor(local_address=UNREAD_ADDRESS)
    read, idle = visitor.function("refresh"), reset_peak(lab.server)
    statuses = []
    for number in range(MOST_UNREAD + 50):
        call = {"fn_index": read.number, "session_hash": f"unread{number % 40}", "data": read.usual(visitor.key)}
        statuses.append(visitor.send("POST", "/gradio_api/queue/join", json=call).status)
    assert statuses.count(200) <= MOST_UNREAD, f"{statuses.count(200)} answers of one address are kept"
    assert statuses.count(429) >= 50, statuses[-1]
    taken = peak_memory(lab.server) - idle
    assert taken < MOST_MEMORY_MB, f"{taken:.0f} MB"
    _others_are_answered(lab)


def a_session_for_each_call(lab: Target) -> None:
    """Make every call under a new session, which the server remembers."""
    visitor = lab.visitor(local_address=HOSTILE_ADDRESS)
    plan, idle = visitor.function("plan"), reset_peak(lab.server)
    for number in range(100):
        visitor.session = f"session{number}"
        answer = visitor.call(plan, plan.usual(visitor.key))
        assert answer.status == 200, answer.text[:200]
    taken = peak_memory(lab.server) - idle
    assert taken < MOST_MEMORY_MB / 4, f"{taken:.0f} MB for 100 sessions"


ATTACKS: tuple[Attack, ...] = (
    connections_that_say_nothing,
    heads_without_end,
    streams_that_never_end,
    files_with_long_names,
    answers_that_nobody_reads,
    a_session_for_each_call,
)
