"""Fixtures that several test files share: rows, a hub and live models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_mock import hub_of
from model_folders import copied_standin

from neftune_core.data.settings import DataSettings
from neftune_core.data.sources import read
from neftune_core.models.loading import clear_cache
from neftune_core.settings import Limits
from neftune_core.sweeps.queue import LabJobs
from tests.stress.families.tiny import FAMILIES


@pytest.fixture(autouse=True)
def _queues_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the queues that a test opened, so that a failed test leaves no study running."""
    opened: list[LabJobs] = []
    begin = LabJobs.__init__

    def opening(queue: LabJobs, *given: Any, **options: Any) -> None:
        opened.append(queue)
        begin(queue, *given, **options)

    monkeypatch.setattr(LabJobs, "__init__", opening)
    yield
    for queue in opened:
        queue.close(60)


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a new home folder, so that nothing of other tests is in it."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NEFTUNE_HOME", str(folder))
    return folder


@pytest.fixture
def no_models() -> Iterator[None]:
    """Forget the loaded models, before the test and after it."""
    clear_cache()  # `evict_all` also collects garbage, which takes longer than most tests
    yield
    clear_cache()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the stand-in's folder to damage."""
    return copied_standin(tmp_path / "my-model")


@pytest.fixture
def reading(tmp_path):
    """Return a function that writes `content` to the file `name` and reads it."""

    def of(content, name="rows.jsonl", limits=None, **more):
        path = tmp_path / name
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content)
        return read(DataSettings(source=f"file:{path}", **more), limits or Limits())

    return of


@pytest.fixture
def hub_with(monkeypatch, tmp_path):
    """Return a function that serves a hub data set of these files to the lab."""
    with contextlib.ExitStack() as stack:

        def serve(**files):
            named = {name.replace("_", "."): content for name, content in files.items()}
            address, seen = stack.enter_context(hub_of(named))
            monkeypatch.setenv("HF_ENDPOINT", address)
            monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
            return seen

        yield serve


@pytest.fixture
def model() -> Any:
    return FAMILIES["Llama"].build().train()


@pytest.fixture
def pair() -> Any:
    return FAMILIES["T5"].build().train()
