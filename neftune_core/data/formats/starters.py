"""The starter sets: small instruction sets written for this project."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neftune_core.errors import DataError
from neftune_core.home import assets
from neftune_core.language import say


@dataclass(frozen=True)
class Starter:
    """One starter set.

    Attributes:
        words: Description shown to users.
        file: Path of the rows below `assets/`.
        held_out: Path of the separate held-out file; "" if there is none.
        licence: Licence of the rows.
        languages: ISO 639-1 codes.
    """

    words: str
    file: str
    held_out: str = ""
    licence: str = "Apache-2.0"
    languages: Sequence[str] = ("en",)


STARTERS: dict[str, Starter] = {
    name: Starter(**fields)
    for name, fields in tomllib.loads((assets() / "starters" / "index.toml").read_text(encoding="utf-8")).items()
}


def data_title(title: object) -> str:
    """Return the title of a data set; titles of starter sets are translated to the current language."""
    words = str(title or "")
    return say(words) if words in STARTERS else words


def starter_file(name: str) -> Path:
    """Return the JSONL file of a starter set.

    Raises:
        DataError: If there is no starter set of this name.
    """
    return assets() / _starter(name).file


def held_out_file(name: str) -> Path | None:
    """Return the separate held-out file of a starter set; None if some of its rows are held out instead.

    Raises:
        DataError: If there is no starter set of this name.
    """
    file = _starter(name).held_out
    return assets() / file if file else None


def own_held_out(source: str, share: float) -> str:
    """Return the held-out file that belongs to a data source.

    Args:
        source: The data source, such as "starter:world-format".
        share: Share of held-out rows; 0 if no held-out rows are wanted.

    Returns:
        The held-out file as a source; "" if there is none or none is wanted.
    """
    scheme, _, name = source.partition(":")
    file = held_out_file(name) if scheme == "starter" and share > 0 else None
    return f"file:{file}" if file else ""


def _starter(name: str) -> Starter:
    if name not in STARTERS:
        choices = ", ".join(STARTERS)
        raise DataError(
            say("There is no starter set called {name!r}: choose one of {choices}.", name=name, choices=choices)
        )
    return STARTERS[name]
