"""Short versions of the stress suites; `python -m tests.stress` runs the full ones."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stress import imports, load
from stress.crowd import run_crowd
from stress.target import Attack, Target, all_attacks, target
from stress.visitor import Visitor


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("attacked")) as found:
        yield found


@pytest.mark.parametrize("attack", all_attacks().values(), ids=all_attacks().keys())
def test_an_attack_does_no_harm(lab: Target, attack: Attack) -> None:
    attack(lab)
    assert lab.server.process.poll() is None
    assert "Traceback" not in lab.server.printed()


def test_fuzzed_imports_get_a_sentence_each_and_take_no_memory(lab: Target) -> None:
    rows = imports.import_into(lab, imports.SHORT)
    assert [row["found"] for row in rows if row["found"]] == [], rows
    assert sum(row.get("cases", 0) for row in rows) == imports.SHORT
    assert sum(row.get("taken", 0) for row in rows) > 3


def test_sessions_that_change_their_text_all_get_their_answers(lab: Target) -> None:
    with ThreadPoolExecutor(1) as thread:  # whose event loop is its own
        found = thread.submit(load.measure_noise_tab, load.SHORT, lab.server).result()
    assert found["errors"] == 0, found
    assert found["answers"] == load.SHORT.sessions * round(load.SHORT.noise_seconds / load.SHORT.every_seconds)


def test_an_answer_that_never_ends_is_given_up() -> None:
    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b": heartbeat\n")
                    time.sleep(0.05)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        visitor = Visitor(f"http://127.0.0.1:{server.server_port}", longest=0.3)
        begun = time.monotonic()
        assert visitor.send("GET", "/").text.startswith(": heartbeat")
        assert time.monotonic() - begun < 5
        visitor.client.close()
        server.shutdown()


@pytest.mark.slow
def test_honest_visitors_notice_nothing_of_hostile_ones(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:  # whose event loop is its own
        (found,) = thread.submit(run_crowd, tmp_path, short=True).result()
    assert found["found"] == "", found
    assert found["answers"] > 10
    assert found["hostile cases"] > 10
