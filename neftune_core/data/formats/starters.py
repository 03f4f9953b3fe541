"""The starter sets: small instruction sets written for this project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neftune_core.errors import DataError
from neftune_core.home import assets
from neftune_core.language import say


@dataclass(frozen=True)
class Starter:
    """One starter set, with its files under `assets/` ("" for no separate held-out file) and ISO 639-1 languages."""

    words: str
    file: str
    held_out: str = ""
    licence: str = "Apache-2.0"
    languages: tuple[str, ...] = ("en",)


def _world(name: str, words: str) -> Starter:
    return Starter(words, f"world/{name}-train.jsonl", f"world/{name}-held-out.jsonl")


STARTERS: dict[str, Starter] = {
    "open-ended": Starter("Short writing, advice and explanations", "starters/open-ended.jsonl"),
    "translation": Starter(
        "Translation between English and Chinese, French, German and Spanish",
        "starters/translation.jsonl",
        languages=("en", "zh", "fr", "de", "es"),
    ),
    "english-german": Starter(
        "English sentences translated into German, for encoder-decoders",
        "starters/english-german.jsonl",
        languages=("en", "de"),
    ),
    "question-answering": Starter("Short factual answers, some from a given text", "starters/question-answering.jsonl"),
    "dialogue": Starter("Conversations of several turns", "starters/dialogue.jsonl"),
    "world-facts": _world("facts", "The bundled world: short answers about it"),
    "world-format": _world("format", "The bundled world: the same answers in a form the model has not seen"),
    "world-stories": _world("story", "The bundled world: short stories about given things"),
    "world-skills": _world("skill", "The bundled world: sort, count, opposite, plural, odd one out"),
    "world-noisy": _world("noisy", "The bundled world: facts with a fifth of the answers wrong"),
    "world-stated": _world("stated", "The bundled world: facts that the model has read but was never asked about"),
}


def data_title(title: object) -> str:
    """Return the title of data; the titles of starter sets are translated to the current language."""
    words = str(title or "")
    return say(words) if words in STARTERS else words


def starter_file(name: str) -> Path:
    """Return the JSONL file of a starter set; raise `DataError` for an unknown name."""
    return assets() / _starter(name).file


def held_out_file(name: str) -> Path | None:
    """Return the separate held-out file of a starter set; None if some of its rows are held out instead."""
    file = _starter(name).held_out
    return assets() / file if file else None


def _starter(name: str) -> Starter:
    if name not in STARTERS:
        choices = ", ".join(STARTERS)
        raise DataError(
            say("There is no starter set called {name!r}: choose one of {choices}.", name=name, choices=choices)
        )
    return STARTERS[name]
