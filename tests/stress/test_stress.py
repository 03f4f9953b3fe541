"""The short versions of the stress suites; `python -m tests.stress` has the whole."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stress.crowd import run_crowd
from stress.target import Attack, Target, all_attacks, target


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("attacked")) as found:
        yield found


@pytest.mark.parametrize("attack", all_attacks().values(), ids=all_attacks().keys())
def test_an_attack_does_no_harm(lab: Target, attack: Attack) -> None:
    attack(lab)
    assert lab.server.process.poll() is None
    assert "Traceback" not in lab.server.printed()


@pytest.mark.slow
def test_honest_visitors_notice_nothing_of_hostile_ones(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:  # whose event loop is its own
        (found,) = thread.submit(run_crowd, tmp_path, short=True).result()
    assert found["found"] == "", found
    assert found["answers"] > 10
    assert found["hostile cases"] > 10
