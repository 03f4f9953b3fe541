"""Serve the lab with the bundled model on the loopback interface, once for all API tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from public_lab import LIMITS, TOKEN

from tests.stress.visitor import Server, Visitor, served


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a public lab whose host has a hub token."""
    with served(tmp_path_factory.mktemp("lab"), LIMITS, HF_TOKEN=TOKEN, OMP_NUM_THREADS="1") as found:
        assert found.address.startswith("http"), found.printed()
        warm = Visitor(found.address)
        plan = warm.function("plan")
        warm.call(plan, plan.usual(warm.key))  # answered once the bundled model is there
        warm.client.close()
        yield found


@pytest.fixture(scope="session")
def long_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a public lab with tools for agents: studies long enough to be steered, two per hour and address."""
    limits = {**LIMITS, "steps": 200, "studies_an_hour": 2, "waiting_jobs": 9}
    with served(tmp_path_factory.mktemp("long-lab"), limits, NEFTUNE_MCP="1", OMP_NUM_THREADS="1") as found:
        assert found.address.startswith("http"), found.printed()
        yield found


@pytest.fixture
def visitor(server: Server) -> Iterator[Visitor]:
    """Return a new visitor."""
    made = Visitor(server.address)
    yield made
    made.client.close()


@pytest.fixture
def visitors(server: Server) -> Iterator[Callable[[str], Visitor]]:
    """Return a function that creates visitors with separate keys."""
    made: list[Visitor] = []

    def visit(key: str = "") -> Visitor:
        made.append(Visitor(server.address, key))
        return made[-1]

    yield visit
    for one in made:
        one.client.close()
