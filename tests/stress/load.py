"""Many visitors of one lab at once on the loopback interface: response times and losses.

Each session behaves like the page: a call is queued, and its response is read from an event stream.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil

from neftune_core.home import folder_bytes
from neftune_core.models.device import describe_machine
from neftune_core.studies.records.record import all_records
from tests.stress.findings import FindingsTable
from tests.stress.visitor import Function, Server, Visitor, served

SECONDS = 120.0
IN_TIME = 1.0
"""Seconds within which 95% of the answers of mixed use are to come."""
WORDS = ("robot", "owl", "village", "painter", "river", "lamp", "letter", "garden", "window", "winter")


@dataclass(frozen=True)
class Load:
    """The size of a load: Noise tab, simultaneous studies, mixed use, and a killed server."""

    sessions: int = 100
    every_seconds: float = 2.0
    noise_seconds: float = 120.0
    studies: int = 30
    within_seconds: float = 10.0
    steps: int = 20
    mixed_seconds: float = 1_200.0
    mixed_sessions: tuple[int, ...] = (20, 40, 60, 80, 100, 120, 160)
    """How many share the mixed use: the most of these whose calls were answered in time for `rate_seconds`."""
    rate_seconds: float = 75.0
    parts: tuple[str, ...] = ("noise", "studies", "mixed", "killed")


SHORT = Load(
    sessions=6,
    every_seconds=1.0,
    noise_seconds=3.0,
    studies=3,
    within_seconds=1.0,
    steps=2,
    mixed_seconds=4.0,
    mixed_sessions=(2, 3),
    rate_seconds=3.0,
)
"""What the tests run."""


@dataclass
class Results:
    """The results: seconds per response, errors in words, and refusals with their messages."""

    seconds: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def p95(self) -> float:
        """Return the 95th percentile of the seconds; infinite if there was no response."""
        return statistics.quantiles(self.seconds, n=20)[-1] if len(self.seconds) > 1 else float("inf")


class Refused(Exception):
    """The lab refused a request, with a reason."""


class Session:
    """One asynchronous visitor with a separate key."""

    def __init__(self, client: httpx.AsyncClient, functions: Sequence[Function], told: Results) -> None:
        self.client, self.told = client, told
        self.functions = {function.name: function for function in reversed(functions)}
        self.key, self.session = secrets.token_hex(32), secrets.token_hex(8)

    async def call(self, name: str, *, timed: bool = True, **changes: Any) -> list[Any] | None:
        """Call a function of the page with its default values except `changes` (by elem_id), and return its outputs."""
        function = self.functions[name]
        return await self.send(function.number, function.usual(self.key, **changes), timed=timed)

    async def send(self, number: int, data: Sequence[Any], *, timed: bool = True) -> list[Any] | None:
        """Return the outputs of one call; None, with an entry in `told`, if it failed or was refused."""
        begun = time.perf_counter()
        try:
            outputs = await asyncio.wait_for(self._asked(number, data), SECONDS)
        except Refused as sentence:
            self.told.refused.append(str(sentence))
            return None
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            self.told.wrong.append(f"{type(error).__name__}: {str(error)[:200]}")
            return None
        if timed:
            self.told.seconds.append(time.perf_counter() - begun)
        return outputs

    async def _asked(self, number: int, data: Sequence[Any]) -> list[Any]:
        body = {"fn_index": number, "session_hash": self.session, "data": list(data)}
        joined = await self.client.post("/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            raise ValueError(f"status {joined.status_code}: {joined.text}")
        outputs, refused = list[Any](), ""
        address = f"/gradio_api/queue/data?session_hash={self.session}"
        async with self.client.stream("GET", address) as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if message.get("msg") == "log":
                    refused = str(message["log"])  # read on: a stream that is dropped takes events of the next call
                if message.get("msg") in ("process_generating", "process_completed"):
                    said = message.get("output") or {}
                    if not message["success"]:
                        raise ValueError(str(said))
                    outputs = said.get("data") or outputs
        if refused:
            raise Refused(refused)
        return outputs


def measure_load(load: Load | None = None) -> FindingsTable:
    """Measure the parts of `load`, each on a new server, and return their table."""
    asked = load or Load()
    table = FindingsTable("Many users at once, loopback only", describe_machine())
    for part in asked.parts:
        with tempfile.TemporaryDirectory() as home:
            table.rows += PARTS[part](asked, Path(home))
    return table


def _noise(load: Load, home: Path) -> list[dict[str, Any]]:
    with served(home) as server:
        return [measure_noise_tab(load, server)]


def measure_noise_tab(load: Load, server: Server) -> dict[str, Any]:
    """Let many sessions change the text in the Noise tab of a running lab; return a row of the table."""
    warm(server)
    one_by_one, all_open = asyncio.Lock(), asyncio.Barrier(load.sessions)
    sizes, opening = [memory(server)], list[float]()

    async def act(one: Session) -> None:
        async with one_by_one:
            begun = time.perf_counter()
            await one.call("redraw", timed=False)
            opening.append(time.perf_counter() - begun)
        if await all_open.wait() == 0:
            sizes.append(memory(server))
        await _changing_text(one, load)

    told = asyncio.run(_everybody(server, load.sessions, act))
    return {
        "what": f"{load.sessions} sessions in the Noise tab, text changed every {load.every_seconds:g} s for "
        f"{load.noise_seconds:g} s",
        "answers": len(told.seconds),
        "errors": len(told.wrong + told.refused),
        "median ms": 1000 * statistics.median(told.seconds or [0]),
        "p95 ms": 1000 * told.p95(),
        "first call of a session, ms": 1000 * statistics.median(opening),
        "memory": f"{sizes[0] / 1e6:.0f} MB, {sizes[1] / 1e6:.0f} with all of them, "
        f"{memory(server) / 1e6:.0f} at the end",
        "first error": (told.wrong + told.refused or [""])[0][:100],
    }


async def _changing_text(one: Session, load: Load) -> None:
    """Change the text at a fixed rate, even if earlier changes have not been answered."""
    start = time.perf_counter() + load.every_seconds * int(one.session[:4], 16) / 0x10000
    await asyncio.sleep(start - time.perf_counter())
    for number in range(round(load.noise_seconds / load.every_seconds)):
        wait = start + number * load.every_seconds - time.perf_counter()
        await asyncio.sleep(max(0.0, wait))
        words = (WORDS[(number * 7 + int(one.session[4 + place], 16)) % len(WORDS)] for place in range(5))
        await one.call("redraw", noise_text=f"Write about a {' and a '.join(words)}, please.")


def _studies(load: Load, home: Path) -> list[dict[str, Any]]:
    with served(home) as server:
        warm(server)
        ends: list[tuple[float, str]] = []
        begun = time.perf_counter()

        async def study(one: Session) -> None:
            await asyncio.sleep(load.within_seconds * int(one.session[:4], 16) / 0x10000)
            outputs = await one.call("start", **_small(load))
            record = str(outputs[0]) if outputs else ""
            state = await _until_over(one, record)
            ends.append((time.perf_counter() - begun, state))

        told = asyncio.run(_everybody(server, load.studies, study))
        finished = sorted(seconds for seconds, state in ends if state == "finished")
        kept = [
            record for record in all_records(folder=home / "runs") if (record.ending() or {}).get("event") == "finished"
        ]
        gaps = [later - earlier for earlier, later in pairwise(finished)] or [0.0]
        owners = {record.about.get("owner") for record in kept}
        return [
            {
                "what": f"{load.studies} sessions begin a study of {load.steps} steps within {load.within_seconds:g} s",
                "finished": len(finished),
                "records whole": len(kept),
                "owners": len(owners),
                "errors": len(told.wrong + told.refused),
                "first and last end, s": f"{finished[0]:.0f}, {finished[-1]:.0f}" if finished else "-",
                "longest gap, s": max(gaps),
                "p95 ms": 1000 * told.p95(),
                "first error": (told.wrong + told.refused or [""])[0][:100],
            }
        ]


def _small(load: Load) -> dict[str, Any]:
    """Return the changes on the Train tab, by elem_id, for a study of a few seconds."""
    return {"train_steps": load.steps, "train_evaluations": 2, "train_evaluation_rows": 8, "train_strengths": ""}


async def _until_over(one: Session, record: str) -> str:
    """Follow a study through the API, and return its final state."""
    status = one.functions["study_status"].number
    while record:
        outputs = await one.send(status, [record, one.key, 0])
        if outputs is None:
            return "lost"
        if outputs[0]["is_over"]:
            return str(outputs[0]["state"])
        await asyncio.sleep(2.0)
    return "never begun"


def _mixed(load: Load, home: Path) -> list[dict[str, Any]]:
    """Find the highest rate with timely responses, each on a new server; then run it for the whole time."""
    found, tried = load.mixed_sessions[0], list[dict[str, Any]]()
    for sessions in load.mixed_sessions:
        tried += _mixed_use(sessions, load.rate_seconds, load, home / f"of{sessions}")
        if tried[-1]["errors"] or tried[-1]["p95 ms"] > 1000 * IN_TIME:
            break
        found = sessions
    return tried + _mixed_use(found, load.mixed_seconds, load, home / "whole")


def _mixed_use(sessions: int, seconds: float, load: Load, home: Path) -> list[dict[str, Any]]:
    """Run mixed use: text changes, data reading and training. Memory is measured after a quarter and at the end."""
    with served(home) as server:
        warm(server)
        begun = time.perf_counter()
        sizes: list[tuple[float, int]] = []

        async def one_visitor(one: Session) -> None:
            await asyncio.sleep(min(load.within_seconds, seconds / 4) * int(one.session[:4], 16) / 0x10000)
            while time.perf_counter() < begun + seconds:
                kind = int(secrets.token_hex(1), 16) % 16
                if kind == 0:
                    outputs = await one.call("start", **_small(load))
                    await _until_over(one, str(outputs[0]) if outputs else "")
                elif kind < 3:
                    await one.call("plan")
                else:
                    await one.call("redraw", noise_text=f"A {WORDS[kind % len(WORDS)]}, number {secrets.token_hex(2)}.")
                sizes.append((time.perf_counter(), memory(server)))
                await asyncio.sleep(load.every_seconds)

        told = asyncio.run(_everybody(server, sessions, one_visitor))
        early = next((size for moment, size in sizes if moment >= begun + seconds / 4), sizes[0][1])
        return [
            {
                "what": f"mixed use by {sessions} sessions for {seconds / 60:.3g} minutes",
                "answers": len(told.seconds),
                "answers a second": len(told.seconds) / (time.perf_counter() - begun),
                "errors": len(told.wrong),
                "refused": len(told.refused),
                "p95 ms": 1000 * told.p95(),
                "studies": len(all_records(folder=home / "runs")),
                "memory after a quarter": f"{early / 1e6:.0f} MB",
                "at the end": f"{sizes[-1][1] / 1e6:.0f} MB ({100 * (sizes[-1][1] / early - 1):+.0f}%)",
                "disk": f"{folder_bytes(home) / 1e6:.0f} MB",
                "first error or refusal": (told.wrong + told.refused or [""])[0][:100],
            }
        ]


def _killed(load: Load, home: Path) -> list[dict[str, Any]]:
    """Kill a server with queued studies, restart it, and return what happened to every study."""
    with served(home) as server:
        warm(server)

        async def begin(one: Session) -> None:
            await one.call("start", train_steps=400)

        told = asyncio.run(_everybody(server, load.studies, begin))
        time.sleep(2.0)
        server.process.kill()
        server.process.wait()
    with served(home) as server:
        warm(server)
        from neftune_core.studies.records.integrity import damages
        from neftune_core.studies.records.progress import of_record

        records = all_records(folder=home / "runs")
        states = [of_record(record) for record in records]
        whole = sum(not damages(record, _read(record)) for record in records)
        said = sum(state.state == "interrupted" or not state.is_over for state in states)
        return [
            {
                "what": f"killed with {load.studies} studies begun, and begun again",
                "errors": len(told.wrong + told.refused),
                "records": len(records),
                "whole": whole,
                "go on, or say that they were broken off": said,
            }
        ]


def _read(record: Any) -> Any:
    log = record.log()
    log.read()
    return log


PARTS: dict[str, Callable[[Load, Path], list[dict[str, Any]]]] = {
    "noise": _noise,
    "studies": _studies,
    "mixed": _mixed,
    "killed": _killed,
}


async def _everybody(server: Server, sessions: int, act: Callable[[Session], Awaitable[None]]) -> Results:
    """Run this many sessions at once, and return their combined results."""
    visitor = Visitor(server.address)
    functions = visitor.functions()
    visitor.client.close()
    told = Results()
    most = httpx.Limits(max_connections=4 * sessions, max_keepalive_connections=4 * sessions)
    async with httpx.AsyncClient(base_url=server.address, timeout=SECONDS, limits=most, trust_env=False) as client:
        await asyncio.gather(*(act(Session(client, functions, told)) for _ in range(sessions)))
    return told


def warm(server: Server) -> None:
    """Wait until the bundled model is loaded."""
    visitor = Visitor(server.address)
    for name in ("redraw", "plan"):
        function = visitor.function(name)
        visitor.call(function, function.usual(visitor.key))
    visitor.client.close()


def memory(server: Server) -> int:
    """Return the server's memory in bytes."""
    return int(psutil.Process(server.process.pid).memory_info().rss)
