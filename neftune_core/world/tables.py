"""The word tables of the world, stored in `assets/world/words/`."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any

from neftune_core.home import assets


@cache
def word_table(name: str) -> dict[str, Any]:
    """Return the table `NAME.toml`; the caller must not change it."""
    return tomllib.loads((assets() / "world" / "words" / f"{name}.toml").read_text(encoding="utf-8"))


def lines(text: str) -> tuple[str, ...]:
    """Return the lines of a text."""
    return tuple(text.splitlines())
