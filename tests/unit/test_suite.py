"""The suite itself: which tests are slow, and how tests are divided among processes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import division
import pytest
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parents[1]


class Options:
    """What the scheduler asks of a run with two processes."""

    option = type("Option", (), {"tx": ["popen", "popen"], "maxprocesses": None, "loadscopereorder": True})()

    def getvalue(self, name: str) -> object:
        return getattr(self.option, name)


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/browser/test_walk.py::test_a[light-]", "browser"),
        ("tests/api/test_ending.py::test_b", "api"),
        ("tests/unit/ui/test_gate.py::test_c[tests/api/x]", "unit/ui/test_gate.py"),
        ("tests/unit/space/test_zerogpu.py::test_d", "unit/sweeps/test_on_ray.py"),
    ],
)
def test_what_shares_a_lab_or_a_file_stays_in_one_process(test: str, group: str) -> None:
    found = division.scheduler(Options(), None)
    assert isinstance(found, LoadScopeScheduling)
    assert found._split_scope(test) == group  # the method that xdist documents for this
    assert found.config.option.loadscopereorder is False


def test_what_takes_longest_exists_and_is_begun_first() -> None:
    assert [name for name in division.LONGEST + division.FORKS_BEFORE_RAY if not (TESTS / name).exists()] == []
    tests = ["tests/unit/ui/test_gate.py::a", "tests/api/test_ending.py::b", "tests/browser/test_walk.py::c"]
    assert sorted(tests, key=division.rank_of) == tests[::-1]


def test_slow_variants_exist_and_are_not_run_by_default() -> None:
    for beginning in division.SLOW:
        file, _, rest = beginning.partition("::")
        assert f"def {rest.partition('[')[0]}" in (TESTS / file).read_text(encoding="utf-8"), beginning
    assert division.is_slow(f"tests/{division.SLOW[0]}")
    assert not division.is_slow("tests/unit/test_suite.py::test_slow_variants_exist_and_are_not_run_by_default")
    options = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
        "ini_options"
    ]
    assert "-m 'not slow'" in options["addopts"]
