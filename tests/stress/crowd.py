"""A crowd of honest visitors who must not be affected by hostile ones among them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.stress.fuzz import drawn
from tests.stress.hostile import Hostile
from tests.stress.load import IN_TIME, SECONDS, WORDS, Results, Session, warm
from tests.stress.visitor import Function, Server, Visitor, served

LIMITS = {"steps": 50, "waiting_jobs": 2, "queue_places": 100, "study_minutes": 1, "local_paths": False}
STUDY = {"train_steps": 20, "train_evaluations": 2, "train_evaluation_rows": 8, "train_strengths": ""}
PATIENCE_SECONDS = 5.0
"""After which a hostile visitor gives up on an answer: some ask for streams that never end."""
HOSTILE_ADDRESS = "127.0.0.2"
"""Hostile visitors come from another address of the loopback interface, as they would on a network."""


@dataclass(frozen=True)
class Crowd:
    """Size and duration of a crowd, and the limit for the 95th percentile of honest response times in seconds."""

    honest: int = 32
    hostile: int = 8
    seconds: float = 120.0
    pause_seconds: float = 2.0
    in_time: float = IN_TIME


SHORT = Crowd(honest=6, hostile=2, seconds=10.0, pause_seconds=1.0, in_time=5.0)
"""What pytest runs, also on a machine that is busy with other work."""


def run_crowd(folder: Path, *, short: bool) -> list[dict[str, Any]]:
    """Run a crowd on one lab; return one row with the measurements and what it `found`."""
    crowd = SHORT if short else Crowd()
    with served(folder, LIMITS) as server:
        assert server.address.startswith("http"), server.printed()
        warm(server)
        told, cases = asyncio.run(_all(server, crowd))
        fallen = server.process.poll() is not None
        printed = server.printed()
    problems = [
        *(f"the honest got an error: {words}" for words in told.wrong[:1]),
        *([f"95% of the answers took up to {told.p95():.2f} s"] if told.p95() > crowd.in_time else []),
        *(["the server fell over"] if fallen else []),
        *(["a traceback in its terminal"] if "Traceback" in printed else []),
    ]
    row = {
        "sessions": f"{crowd.honest} honest, {crowd.hostile} hostile",
        "seconds": crowd.seconds,
        "answers": len(told.seconds),
        "errors": len(told.wrong),
        "refused": len(told.refused),
        "p95 ms": round(1000 * told.p95()),
        "hostile cases": cases,
        "found": "; ".join(problems),
    }
    return [row]


async def _all(server: Server, crowd: Crowd) -> tuple[Results, int]:
    visitor = Visitor(server.address)
    functions = visitor.functions()
    visitor.client.close()
    told, until = Results(), time.perf_counter() + crowd.seconds
    async with contextlib.AsyncExitStack() as open_clients:
        sessions = [
            Session(await open_clients.enter_async_context(_client(server, number)), functions, told)
            for number in range(crowd.honest)
        ]
        honest = [_honest(one, crowd, until) for one in sessions]
        threads = open_clients.enter_context(ThreadPoolExecutor(crowd.hostile))  # the loop needs its own to connect
        run = asyncio.get_running_loop().run_in_executor
        hostile = [run(threads, _hostile, server, functions, seed, until) for seed in range(crowd.hostile)]
        done = await asyncio.gather(*honest, *hostile)
    return told, sum(cases for cases in done if cases)


def _client(server: Server, number: int) -> httpx.AsyncClient:
    """Return the connections of one honest visitor with a separate address."""
    transport = httpx.AsyncHTTPTransport(local_address=f"127.0.1.{number + 1}")
    return httpx.AsyncClient(base_url=server.address, timeout=SECONDS, transport=transport, trust_env=False)


async def _honest(one: Session, crowd: Crowd, until: float) -> None:
    """Change the text, read data, and occasionally train a small study."""
    chance = random.Random(one.key)
    await asyncio.sleep(chance.random() * crowd.pause_seconds)
    while time.perf_counter() < until:
        kind = chance.randrange(16)
        if kind == 0:
            await one.call("start", **STUDY)
        elif kind < 3:
            await one.call("plan")
        else:
            await one.call("redraw", noise_text=f"A {chance.choice(WORDS)}, number {secrets.token_hex(2)}.")
        await asyncio.sleep(crowd.pause_seconds)


def _hostile(server: Server, functions: list[Function], seed: int, until: float) -> int:
    """Send hostile uploads, calls and requests one after another; return their number."""
    visitor = Visitor(server.address, longest=PATIENCE_SECONDS, local_address=HOSTILE_ADDRESS)
    hostile, cases = Hostile(seed), 0
    while time.perf_counter() < until and server.process.poll() is None:
        drawn(hostile, functions, visitor).send(visitor)
        cases += 1
    visitor.client.close()
    return cases
