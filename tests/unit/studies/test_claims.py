"""One writer per record, regardless of processes and clocks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from processes import ended

from neftune_core.durable import claiming, is_claimed
from neftune_core.errors import RecordError
from neftune_core.studies.records import removal
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE

HOLD = """
import sys, time
from pathlib import Path
from neftune_core.durable import claiming
with claiming(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return create(EXAMPLE, "key-of-ann", folder=tmp_path)


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that locks `path` until it is killed."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, ended(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process


def test_a_record_is_claimed_by_one_writer_at_a_time(record: Record) -> None:
    assert not record.is_running()
    with record.claimed():
        assert record.is_running()
        with pytest.raises(RecordError, match="already running"), record.claimed():
            pass
        assert record.is_running()
    assert not record.is_running()
    with record.claimed():
        assert record.is_running()


def test_a_killed_process_leaves_no_claim(record: Record) -> None:
    with another_process(record.folder / "claim") as process:
        assert record.is_running()
        with pytest.raises(RecordError, match="already running"), record.claimed():
            pass
        with pytest.raises(RecordError, match="stop it first"):
            removal.remove(record)
        process.kill()
        process.wait()
        assert not record.is_running()
    removal.remove(record)
    assert not record.folder.exists()


def test_a_clock_that_is_set_back_takes_no_claim_away(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_process(record.folder / "claim"):
        monkeypatch.setattr(time, "time", lambda: 1.0)
        monkeypatch.setattr(psutil, "boot_time", lambda: 1.0)  # from which the start of a process is reckoned
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: 1.0)
        assert record.is_running()
        with pytest.raises(RecordError, match="already running"), record.claimed():
            pass


def test_of_many_who_claim_at_once_one_gets_it(tmp_path: Path) -> None:
    path, together, over = tmp_path / "claim", threading.Barrier(16), threading.Event()
    got: list[bool] = []

    def claim() -> None:
        together.wait()
        with claiming(path) as mine:
            got.append(mine)
            over.wait(30)

    threads = [threading.Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while len(got) < 16 and time.monotonic() < deadline:
        time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 15 + [True]
    assert not is_claimed(path)


def test_reading_does_not_block_claims(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    path.touch()
    look = """
import sys, time
from pathlib import Path
from neftune_core.durable import is_claimed
print("ready", flush=True)
while True:
    is_claimed(Path(sys.argv[1]))
    time.sleep(0.002)
"""
    with ExitStack() as stack:
        for _ in range(2):
            command = [sys.executable, "-c", look, str(path)]
            looking = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(looking.kill)
            assert looking.stdout is not None
            looking.stdout.readline()
        for _ in range(20):
            with claiming(path) as mine:
                assert mine


def test_a_missing_claim_has_no_owner_and_reading_creates_none(tmp_path: Path) -> None:
    assert not is_claimed(tmp_path / "claim")
    assert list(tmp_path.iterdir()) == []
