"""The starter sets: small instruction sets written for this project and shipped with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neftune_core.errors import DataError
from neftune_core.home import assets


@dataclass(frozen=True)
class Starter:
    """One set in words, with its licence."""

    words: str
    licence: str = "Apache-2.0"


STARTERS: dict[str, Starter] = {
    "open-ended": Starter("Short writing, advice and explanations"),
    "translation": Starter("Between English and Chinese, French, German and Spanish"),
    "question-answering": Starter("Short factual answers, some from a given text"),
    "dialogue": Starter("Conversations of several turns"),
}


def starter_file(name: str) -> Path:
    """The JSONL file of a starter set; raises `DataError` for a name that is not in the table."""
    if name not in STARTERS:
        raise DataError(f"There is no starter set called {name!r}: choose one of {', '.join(STARTERS)}.")
    return assets() / "starters" / f"{name}.jsonl"
