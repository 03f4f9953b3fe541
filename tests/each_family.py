"""Parameters of tests that repeat one check over all model families; only the representatives are fast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.stress.families.tiny import REPRESENTATIVES


def family_cases(families: Iterable[str]) -> list[Any]:
    """Return one case per family, which is slow unless the family is a representative."""
    return [family_case(family) for family in families]


def family_case(family: str, *more: Any) -> Any:
    """Return the case of a family, with further values; it is slow unless the family is a representative."""
    marks = [] if family in REPRESENTATIVES else [pytest.mark.slow]
    return pytest.param(family, *more, marks=marks)
