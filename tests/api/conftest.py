"""The lab served on the loopback with the bundled model, once for all these tests, and visitors of its addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from public_lab import LIMITS, TOKEN

from tests.stress.visitor import Server, Visitor, served


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A lab for the public, whose host has a token of the hub."""
    with served(tmp_path_factory.mktemp("lab"), LIMITS, HF_TOKEN=TOKEN, OMP_NUM_THREADS="1") as found:
        assert found.address.startswith("http"), found.printed()
        warm = Visitor(found.address)
        plan = warm.function("plan")
        warm.call(plan, plan.usual(warm.key))  # answered once the bundled model is there
        warm.client.close()
        yield found


@pytest.fixture
def visitor(server: Server) -> Iterator[Visitor]:
    """Somebody who has just come."""
    made = Visitor(server.address)
    yield made
    made.client.close()


@pytest.fixture
def visitors(server: Server) -> Iterator[Callable[[str], Visitor]]:
    """Makes visitors with keys of their own."""
    made: list[Visitor] = []

    def visit(key: str = "") -> Visitor:
        made.append(Visitor(server.address, key))
        return made[-1]

    yield visit
    for one in made:
        one.client.close()
