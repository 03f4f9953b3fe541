"""The short versions of the stress suites; `python -m tests.stress` has the whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
