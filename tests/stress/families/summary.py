"""Every check on every model family, as a table and as a file.

The checks are those of noise on a live model (`families_live`) and of the engine (`families_engine`); two columns more
show what the hook of the common trainers does on the same models.
"""

from __future__ import annotations

import json
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.stress.families.building import Check, Family
from tests.stress.families.engine import CHECKS as ENGINE
from tests.stress.families.live import CHECKS as LIVE
from tests.stress.families.live import COMMON_HOOK
from tests.stress.families.tiny import FAMILIES
from tests.stress.findings import FindingsTable

CHECKS: dict[str, Check] = {**LIVE, **ENGINE}
COLUMNS: dict[str, Check] = {**CHECKS, **COMMON_HOOK}

CELLS = {True: "yes", False: "no", None: "not applicable"}
PACKAGES = ("torch", "transformers", "peft", "trl")


def measure_families(file: Path | None = None) -> FindingsTable:
    """Run every check on a tiny random model of every family; write JSON to `file` if given.

    A check that ends in an error does not hold, and a note says which error. One whose package is not installed does
    not apply, and a note says so.
    """
    from neftune_core.models.device import describe_machine
    from neftune_core.models.silence_warnings import silence_transformers

    table = FindingsTable("Families of models", describe_machine())
    found: dict[str, dict[str, bool | None]] = {}
    with silence_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # names that the packages will call otherwise one day
        for name, family in FAMILIES.items():
            found[name] = {}
            for column, check in COLUMNS.items():
                found[name][column], note = _outcome(check, family)
                table.notes += [f"{name}, {column}: {note}"] if note else []
            table.rows.append({"family": family.words} | {column: CELLS[held] for column, held in found[name].items()})
    versions = ", ".join(f"{package} {number}" for package, number in _versions().items())
    table.notes.append(f"Tiny random models of the real architectures; {versions}.")
    if file is not None:
        file.write_text(json.dumps(record_of(found), indent=1) + "\n", encoding="utf-8")
    return table


def record_of(found: dict[str, dict[str, bool | None]]) -> dict[str, Any]:
    """Return the outcomes as plain values that are the same on every machine with the same versions."""
    return {
        "versions": _versions(),
        "ours": list(CHECKS),
        "common_hook": list(COMMON_HOOK),
        "families": {
            name: {
                "words": FAMILIES[name].words,
                "encoder_decoder": FAMILIES[name].encoder_decoder,
                "pretrained_for_this": FAMILIES[name].pretrained_for_this,
                "checks": checks,
            }
            for name, checks in found.items()
        },
    }


def _outcome(check: Check, family: Family) -> tuple[bool | None, str]:
    """Return whether `check` holds, and a note if this could not be determined."""
    try:
        return check(family), ""
    except ModuleNotFoundError as error:
        return None, f"the package {error.name} is not installed"
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"


def _versions() -> dict[str, str]:
    """Return the versions of the packages that affect the outcome."""
    return {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]  # without the build for a device
    except PackageNotFoundError:
        return "not installed"
