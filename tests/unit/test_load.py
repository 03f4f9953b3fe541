"""Many visitors at once, in short; `python -m tests.stress load` runs the full load."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.stress.load import PARTS, SHORT

WHOLE = pytest.mark.skipif(
    not os.environ.get("NEFTUNE_TEST_LOAD"),
    reason="trains on a server of its own, minutes on a busy machine: set NEFTUNE_TEST_LOAD=1",
)


def row(part: str, home: Path) -> dict[str, Any]:
    (found,) = rows(part, home)
    return found


def rows(part: str, home: Path) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(1) as thread:  # whose loop is its own, where a test before left one running here
        return thread.submit(PARTS[part], SHORT, home).result()


@WHOLE
@pytest.mark.slow
def test_studies_started_at_once_all_finish_and_each_has_its_owner(tmp_path: Path) -> None:
    found = row("studies", tmp_path)
    assert found["errors"] == 0, found
    assert found["finished"] == found["records whole"] == found["owners"] == SHORT.studies


@WHOLE
@pytest.mark.slow
def test_a_server_that_is_killed_under_load_loses_no_study(tmp_path: Path) -> None:
    found = row("killed", tmp_path)
    assert found["errors"] == 0, found
    assert found["records"] == found["whole"] == SHORT.studies
    assert found["go on, or say that they were broken off"] == SHORT.studies


@WHOLE
@pytest.mark.slow
def test_mixed_use_tries_each_rate_and_keeps_the_highest_without_an_error(tmp_path: Path) -> None:
    found = rows("mixed", tmp_path)
    assert [each["errors"] for each in found] == [0, 0, 0], found
    assert [int(each["what"].split()[3]) for each in found] == [*SHORT.mixed_sessions, SHORT.mixed_sessions[-1]]
    assert found[-1]["answers"] > SHORT.mixed_sessions[-1]
