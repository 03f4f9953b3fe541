"""A home on a mounted bucket: what its file system lacks has a substitute, or one sentence says so."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neftune_core import home as home_module
from neftune_core.durable import lock_of_machine, write_whole
from neftune_core.errors import NotAvailable, RecordError
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.home import home, home_note
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.study import run_study

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="buckets are mounted on Linux")

SHORT = EXAMPLE.model_copy(
    update={
        "training": EXAMPLE.training.model_copy(update={"steps": 2, "evaluations": 1, "evaluation_rows": 4}),
        "measuring": MeasuringSettings(prompts=2, new_tokens=2),
    }
)
LACKING = (errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ENOLCK)


@pytest.fixture(autouse=True)
def tried_anew() -> Iterator[None]:
    home_module.can_hold_records.cache_clear()
    yield
    home_module.can_hold_records.cache_clear()


def failing(number: int, below: Path, before: Any) -> Any:
    """Return a function that fails for files below a folder, as on a mount that lacks the operation."""

    def call(first: Any, *given: Any, **named: Any) -> Any:
        name = Path(f"/proc/self/fd/{first}").readlink() if isinstance(first, int) else os.fspath(first)
        if Path(name).is_relative_to(below):
            raise OSError(number, os.strerror(number), name)
        return before(first, *given, **named)

    return call


@pytest.mark.parametrize("number", LACKING)
def test_a_study_runs_on_a_mount_without_locks_flushes_and_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for module, name in ((fcntl, "flock"), (os, "fsync"), (os, "chmod")):
        monkeypatch.setattr(module, name, failing(number, tmp_path, getattr(module, name)))
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    record = create(SHORT, "")
    assert record.folder.is_relative_to(tmp_path)
    assert list(run_study(record, Limits(), lambda: False))[-1]["event"] == "finished"
    assert record.ending() is not None


def test_without_locks_a_record_still_has_one_writer_among_all_processes_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOTSUP, tmp_path, fcntl.flock))
    record = create(SHORT, "", folder=tmp_path)
    again = Record(record.folder)
    with record.claimed():
        assert again.is_running()
        with pytest.raises(RecordError, match="already running"), again.claimed():
            pass
        seen = "import sys; from filelock import FileLock; FileLock(sys.argv[1]).acquire(timeout=0)"
        tried = [sys.executable, "-c", seen, str(lock_of_machine(record.folder / "claim"))]
        assert b"Timeout" in subprocess.run(tried, capture_output=True).stderr
    assert not again.is_running()
    with again.claimed():
        pass


@pytest.mark.parametrize("operation", ["replace", "rename", "append"])
def test_a_mount_on_which_records_cannot_live_gets_one_sentence_and_no_half_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    if operation == "append":
        opened = failing(errno.EPERM, tmp_path, Path.open)
        whole = Path.open
        monkeypatch.setattr(
            Path, "open", lambda path, mode="r", *a, **k: (opened if "a" in mode else whole)(path, mode, *a, **k)
        )
    else:
        monkeypatch.setattr(os, operation, failing(errno.ENOTSUP, tmp_path, getattr(os, operation)))
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path / "bucket"))
    with pytest.raises(NotAvailable, match=r"does not support appending.*--advanced-writes"):
        home()
    assert list((tmp_path / "bucket").iterdir()) == []


def test_a_space_whose_bucket_cannot_hold_records_uses_a_temporary_folder_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEFTUNE_HOME", raising=False)
    monkeypatch.setenv("SPACE_ID", "owner/space")
    monkeypatch.setattr(home_module, "SPACE_STORAGE", tmp_path)
    with monkeypatch.context() as mount:
        mount.setattr(os, "replace", failing(errno.EPERM, tmp_path, os.replace))
        assert not home().is_relative_to(tmp_path)
        assert "storage bucket of this Space is not used" in home_note()
    home_module.can_hold_records.cache_clear()
    assert home().is_relative_to(tmp_path)
    assert home_note() == ""


def test_a_full_disk_is_not_taken_for_a_mount_that_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    with monkeypatch.context() as mount:
        mount.setattr(os, "fsync", failing(errno.ENOSPC, tmp_path, os.fsync))
        assert home() == tmp_path
        with pytest.raises(OSError, match="No space left"):
            write_whole(tmp_path / "file", "text")
    assert not (tmp_path / "file").exists()
