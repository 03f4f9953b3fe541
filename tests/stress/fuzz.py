"""Thousands of hostile uploads and calls against a served lab: crashes, and outputs that must not be shown."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neftune_core.errors import NotAvailable
from tests.stress.findings import FindingsTable
from tests.stress.hostile import MARKUP, PATHS, Hostile
from tests.stress.visitor import Answer, Function, Server, Visitor, served

CASES = 2000
SHARES = {"file": 0.45, "call": 0.40, "request": 0.15}
CASES_A_VISITOR = 100
# Small studies: some of the calls are right ones.
LIMITS = {"steps": 5, "waiting_jobs": 2, "study_minutes": 1, "upload_megabytes": 5, "local_paths": False}

FAULT = "An internal error occurred"
TRACEBACK = "Traceback (most recent call last)"
SHOWN = 12


@dataclass
class Found:
    """The findings of a run; `examples` has some faults by kind, with their input."""

    cases: int = 0
    crashes: int = 0
    internal_errors: int = 0
    tracebacks: int = 0
    unanswered: int = 0
    slowest_seconds: float = 0.0
    slowest: str = ""
    kinds: Counter[str] = field(default_factory=Counter)
    distinct: set[str] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)

    def note(self, sent: Sent, answer: Answer, seconds: float) -> None:
        """Count one case and its response."""
        self.cases += 1
        self.distinct.add(sent.name)
        if seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest = seconds, sent.text[:100]
        told = bool(answer.told) or answer.status >= 400
        self.kinds[f"{sent.kind}, {'refused' if told else 'answered'}"] += 1
        self.unanswered += answer.status == 0 and "InvalidURL" not in answer.text
        wrong = {
            "internal error": answer.status >= 500 or FAULT in answer.text,
            "traceback": TRACEBACK in answer.text or 'File \\"/' in answer.text,
            "no answer": answer.status == 0 and "InvalidURL" not in answer.text,
        }
        self.internal_errors += wrong["internal error"]
        self.tracebacks += wrong["traceback"]
        self.examples += [f"{what}: {sent.text[:600]} -> {answer.text[-600:]}" for what, met in wrong.items() if met]


@dataclass(frozen=True)
class Sent:
    """One case: its kind, its input as text (to identify duplicates), and a function that sends it."""

    kind: str
    text: str
    send: Callable[[Visitor], Answer]

    @property
    def name(self) -> str:
        """Return the identity of this case."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def measure_fuzz(cases: int = CASES, seed: int = 0) -> FindingsTable:
    """Run `cases` hostile cases against a separate lab; return a table of counts with the faults as notes.

    Raises `NotAvailable` where the lab cannot be served here.
    """
    from neftune_core.models.device import describe_machine

    with tempfile.TemporaryDirectory() as home:
        started = time.perf_counter()
        found = fuzz(Path(home), cases, seed)
        seconds = time.perf_counter() - started
    table = FindingsTable("Hostile uploads and calls", describe_machine())
    counts = {
        "cases": found.cases,
        "distinct": len(found.distinct),
        "crashes": found.crashes,
        "internal errors": found.internal_errors,
        "tracebacks shown": found.tracebacks,
        "unanswered": found.unanswered,
        **{f"cases: {kind}": count for kind, count in sorted(found.kinds.items())},
        "slowest case, s": found.slowest_seconds,
        "all, s": seconds,
    }
    table.rows += [{"what": what, "count": count} for what, count in counts.items()]
    table.notes += [*found.examples[:SHOWN], f"slowest case: {found.slowest}"]
    table.findings = found.crashes + found.internal_errors + found.tracebacks + found.unanswered
    return table


def fuzz(home: Path, cases: int, seed: int) -> Found:
    """Run the cases against a lab with its files under `home`; restart the lab if it crashes."""
    hostile, found = Hostile(seed), Found()
    while found.cases < cases:
        with served(home / f"lab-{found.crashes}", LIMITS) as server:
            if not server.address:
                raise NotAvailable(f"The lab could not be served here: {server.printed()[-300:]}")
            _run(server, hostile, found, cases)
            fallen = server.process.poll() is not None
            found.crashes += fallen
            _examine(server, found)
    return found


def _run(server: Server, hostile: Hostile, found: Found, cases: int) -> None:
    """Send cases until there are enough, or the server has crashed."""
    functions = Visitor(server.address).functions()
    while found.cases < cases and server.process.poll() is None:
        visitor = Visitor(server.address)
        for _ in range(min(CASES_A_VISITOR, cases - found.cases)):
            sent = drawn(hostile, functions, visitor)
            while sent.name in found.distinct:
                sent = drawn(hostile, functions, visitor)
            started = time.perf_counter()
            answer = sent.send(visitor)
            found.note(sent, answer, time.perf_counter() - started)


def _examine(server: Server, found: Found) -> None:
    """Find faults in the server's terminal output and log that no response showed."""
    printed, logged = server.printed(), server.logged()
    found.tracebacks += printed.count(TRACEBACK)
    if TRACEBACK in printed:
        found.examples.append("terminal: " + printed[-2000:])
    faults = logged.count("unexpected error")
    if faults > found.internal_errors:
        found.internal_errors = faults
    if faults:
        found.examples.append("log: " + logged[-2000:])


def drawn(hostile: Hostile, functions: Sequence[Function], visitor: Visitor) -> Sent:
    """Return the next case."""
    kind = hostile.chance.choices(list(SHARES), list(SHARES.values()))[0]
    return MAKERS[kind](hostile, functions, visitor)


def _file(hostile: Hostile, functions: Sequence[Function], visitor: Visitor) -> Sent:
    """Return an upload, and the function that reads it."""
    file = hostile.file()
    read = next(function for function in functions if function.name == "refresh")
    place = hostile.chance.choice(("data-file", "data-file", "data-held-out"))
    changes = {"data-source": "file" if place == "data-file" else "starter"}

    def send(visitor: Visitor) -> Answer:
        uploaded = visitor.upload(file.name, file.content)
        if not uploaded.outputs:
            return uploaded
        return visitor.call(read, read.usual(visitor.key, **changes, **{place: uploaded.outputs[0]}))

    return Sent("file", f"{file.name} {file.content[:100_000]!r} {place}", send)


def _call(hostile: Hostile, functions: Sequence[Function], visitor: Visitor) -> Sent:
    """Return a function call with some values that the page never sends."""
    function = hostile.chance.choice([one for one in functions if one.fields] + list(functions))
    data = function.usual(visitor.key)
    for place in hostile.chance.sample(range(len(data)), min(len(data), hostile.chance.choice((1, 1, 2, 5)))):
        field = function.fields[place]
        data[place] = hostile.for_field(field.kind, field.usual, field.choices)
    if hostile.chance.random() < 0.05:
        data = data[: hostile.chance.randint(0, len(data))]
    more: dict[str, Any] = {}
    if hostile.chance.random() < 0.3:
        more = {"event_data": hostile.chance.choice((None, {"id": hostile.words(9)}, hostile.value()))}
    if hostile.chance.random() < 0.1:
        more |= {"trigger_id": hostile.chance.choice((None, 0, -1, 10**9, "x", True))}
    text = f"{function.name} {json.dumps(data)} {json.dumps(more)}"
    return Sent("call", text, lambda visitor: visitor.call(function, data, **more))


METHODS = ("GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS")
ADDRESSES = (
    "/gradio_api/queue/join",
    "/gradio_api/queue/data?session_hash={}",
    "/gradio_api/call/{}",
    "/gradio_api/call/start/{}",
    "/gradio_api/run/{}",
    "/gradio_api/call/v2/{}",
    "/gradio_api/file={}",
    "/gradio_api/proxy={}",
    "/gradio_api/upload?upload_id={}",
    "/gradio_api/cancel",
    "/gradio_api/reset",
    "/gradio_api/component_server",
    "/gradio_api/info?page={}",
    "/gradio_api/deep_link?session_hash={}",
    "/gradio_api/process_recording",
    "/page-files/1/{}",
    "/static/{}",
    "/assets/{}",
    "/config?page={}",
    "/theme.css?{}",
    "/monitoring/{}",
    "/custom_component/{}",
    "/?text={}&noise.strength={}&noise.kind={}",
    "/{}",
)


def _request(hostile: Hostile, functions: Sequence[Function], visitor: Visitor) -> Sent:
    """Return a request that the page never makes."""
    from urllib.parse import quote

    part = hostile.chance.choice((hostile.chance.choice(PATHS), hostile.chance.choice(MARKUP), hostile.words(9)))
    part = part.encode("utf-8", "ignore").decode()[:2000]
    part = quote(part, safe=hostile.chance.choice(("", "/:", "/:=?&.")))
    address = hostile.chance.choice(ADDRESSES).replace("{}", part)
    method = hostile.chance.choice(METHODS)
    body = _body(hostile, functions, visitor) if method in ("POST", "PUT", "DELETE") else b""
    kinds = ("application/json", "application/json", "text/plain", "multipart/form-data; boundary=x", "")
    headers = {"content-type": hostile.chance.choice(kinds)} if body else {}
    return Sent(
        "request",
        f"{method} {address} {headers} {body[:100_000]!r}",
        lambda visitor: visitor.send(method, address, content=body, headers=headers),
    )


def _body(hostile: Hostile, functions: Sequence[Function], visitor: Visitor) -> bytes:
    function = hostile.chance.choice(functions)
    call: dict[str, Any] = {
        "fn_index": function.number,
        "session_hash": visitor.session,
        "data": function.usual(visitor.key),
    }
    for name in hostile.chance.sample([*call, "event_id", "batched", "trigger_id", "simple_format", "oauth_token"], 2):
        call[name] = hostile.value()
    text = json.dumps(hostile.chance.choice((call, call, hostile.value())))
    odd = (
        text[: hostile.chance.randint(0, len(text))],
        "[" * 9000,
        '{"data":' * 500,
        '{"data":[' + "1," * 50_000 + "1]}",
    )
    form = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{hostile.name()}"\r\n\r\nx\r\n--x--\r\n'
    return hostile.damaged(hostile.chance.choice((text, text, *odd, form)).encode("utf-8", "ignore"))


MAKERS = {"file": _file, "call": _call, "request": _request}
