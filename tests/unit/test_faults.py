"""A short part of `python -m tests.stress faults`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stress.faults.setup import Environment, environment
from tests.stress.faults.summary import FAULTS, try_fault


@pytest.fixture(scope="module")
def small() -> Iterator[Environment]:
    """Return an environment that trains a tiny model."""
    with environment() as found:
        found.stop_seconds = 20  # tests may share a busy machine; the bench asks for the promised two
        yield found


@pytest.fixture(autouse=True)
def _queues_end() -> None:
    """Leave the queue open: it serves every test of this file, and its environment closes it."""


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.short])
def test_a_study_survives(name: str, small: Environment) -> None:
    assert try_fault(FAULTS[name], small, FAULTS[name].short) == []
