"""Parameters of tests that repeat one check over all model families."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.stress.families.tiny import REPRESENTATIVES


def representatives_first(families: Iterable[str]) -> list[Any]:
    """Return the families as parameters; those that are not among the representatives are slow."""
    return [family_case(family) for family in families]


def family_case(family: str, *more: Any) -> Any:
    """Return a family, and further values, as parameters of one case, which is slow unless it is a representative."""
    marks = [] if family in REPRESENTATIVES else [pytest.mark.slow]
    return pytest.param(family, *more, marks=marks)
