"""The lab that attacks are run against."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stress.visitor import Server, Visitor, served

LIMITS = {
    "steps": 2_000,
    "waiting_jobs": 2,
    "address_jobs": 4,
    "queue_places": 8,
    "upload_megabytes": 2,
    "local_paths": False,
}
"""Limits of a small public lab."""
TOKEN = "hf_" + "Str3ss" * 6


@dataclass
class Target:
    """A served lab and its visitors.

    Attributes:
        server: The lab in a process of its own.
        scratch: An empty folder for further labs and files.
    """

    server: Server
    scratch: Path
    _visitors: list[Visitor] = field(default_factory=list)

    def visitor(self, key: str = "", local_address: str | None = None) -> Visitor:
        """Return a new visitor of the lab, with this key or a random one, from this loopback address."""
        self._visitors.append(Visitor(self.server.address, key, local_address=local_address))
        return self._visitors[-1]

    def close(self) -> None:
        """Close the connections of all visitors."""
        for visitor in self._visitors:
            visitor.client.close()


Attack = Callable[[Target], None]


@contextmanager
def target(folder: Path, **environment: str) -> Iterator[Target]:
    """Serve a small public lab under `folder` and yield it as the target of attacks."""
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    with served(folder / "lab", LIMITS, HF_TOKEN=TOKEN, OMP_NUM_THREADS="1", **environment) as server:
        assert server.address.startswith("http"), server.printed()
        found = Target(server, folder / "scratch")
        warm = found.visitor()
        plan = warm.function("plan")
        warm.call(plan, plan.usual(warm.key))
        try:
            yield found
        finally:
            found.close()


def all_attacks() -> dict[str, Attack]:
    """Return every attack of this folder, by `module.function`."""
    package = __name__.rpartition(".")[0]
    modules = [
        importlib.import_module(f"{package}.{found.name}")
        for found in pkgutil.iter_modules([str(Path(__file__).parent)])
        if not found.name.startswith(("__", "test_"))
    ]
    return {
        f"{module.__name__.rpartition('.')[2]}.{attack.__name__}": attack
        for module in modules
        for attack in getattr(module, "ATTACKS", ())
    }


def run_attacks(folder: Path) -> list[dict[str, Any]]:
    """Run every attack against one lab; one row per attack, with what it found (empty if the lab held)."""
    with target(folder) as found:
        rows = [{"attack": name, "found": _finding(attack, found)} for name, attack in all_attacks().items()]
        alive = found.server.process.poll() is None
        rows.append({"attack": "the server is still there", "found": "" if alive else "it has fallen over"})
        traceback = "Traceback" in found.server.printed()
        rows.append({"attack": "no traceback in its terminal", "found": found.server.printed() if traceback else ""})
    return rows


def _finding(attack: Attack, found: Target) -> str:
    try:
        attack(found)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:600]
    return ""
