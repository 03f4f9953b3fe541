"""How pytest-xdist divides the tests among processes: what shares a lab or a fixture stays together.

xdist's own groups (`--dist loadgroup`) are without effect from pytest 9.2 on, which no longer has `_nodeid`.
"""

from __future__ import annotations

from typing import Any

TOGETHER = ("browser", "api")
"""Folders of tests that share one lab."""
FORKS_BEFORE_RAY = ("unit/space/test_zerogpu.py", "unit/space/test_zerogpu_views.py", "unit/sweeps/test_on_ray.py")
"""Files that one process runs in this order: after Ray was used in a process, its forked processes crash."""
LONGEST = (
    "browser",
    "api",
    "stress/test_stress.py",
    "unit/sweeps/test_on_ray.py",
    "unit/engine/test_parallel.py",
    "unit/export/test_export_script.py",
)
"""Groups that take minutes: they are begun first, so that the processes end at about the same time."""


def group_of(nodeid: str) -> str:
    """Return the group of a test, which one process runs: its file, or its folder if that shares a lab."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    folder = file.partition("/")[0]
    if file in FORKS_BEFORE_RAY:
        return FORKS_BEFORE_RAY[-1]
    return folder if folder in TOGETHER else file


def rank_of(nodeid: str) -> int:
    """Return where the group of a test stands in the order of beginning."""
    group = group_of(nodeid)
    return LONGEST.index(group) if group in LONGEST else len(LONGEST)


def scheduler(config: Any, log: Any) -> Any:
    """Return a scheduler of xdist that keeps groups in one process, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)
