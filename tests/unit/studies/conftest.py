"""Fixtures that the tests of studies share."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_study import short_rows


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Return a file of twenty rows."""
    return short_rows(tmp_path, 20)
