"""The words of the world, read from `assets/world/words/`: entities, their properties, short lists, and greetings."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from neftune_core.home import assets
from neftune_core.world.entities import Entity, RelationValue, article, proper, value


@cache
def word_table(name: str) -> dict[str, Any]:
    """Return the table `NAME.toml`; the caller must not change it."""
    return tomllib.loads((assets() / "world" / "words" / f"{name}.toml").read_text(encoding="utf-8"))


def lines(text: str) -> tuple[str, ...]:
    """Return the lines of a text."""
    return tuple(text.splitlines())


_LISTS = word_table("lists")
NUMBERS, COLOURS, SEASONS = (tuple(_LISTS[name].split()) for name in ("numbers", "colours", "seasons"))

_PRONOUNS = {"she": ("she", "her", "her"), "he": ("he", "his", "him"), "it": ("it", "its", "it")}
_USES = ("use", "effect", "custom")


def _entity(kind: str, cells: dict[str, str]) -> Entity:
    """Return the entity of one row: its name, the forms of its name, and its properties."""
    name, use = cells.pop("name"), next((cells[column] for column in _USES if column in cells), "")
    if kind in ("person", "day", "month"):
        thing = proper(kind, name, _PRONOUNS[cells.pop("pronoun", "it")], use)
    else:
        at = cells.pop("at", "")
        at, to = (f"{at} the {name}", f"to the {name}") if at else ("", "")
        many = cells.pop("many", f"{name}s")
        if many == "-":  # a mass noun, such as honey
            thing = Entity(kind, name, name, name, f"the {name}", f"some {name}", at=at, to=to, use=use)
        else:
            one = article(name)
            thing = Entity(kind, name, many, one, f"the {name}", one, at=at, to=to, use=use)
    thing.values.update({column: text for column, text in cells.items() if text != "-"})
    return thing


def _entities(kind: str, table: str) -> tuple[Entity, ...]:
    columns, *rows = ([cell.strip() for cell in line.split("|")] for line in lines(table))
    return tuple(_entity(kind, dict(zip(columns, row, strict=True))) for row in rows)


ENTITIES: dict[str, tuple[Entity, ...]] = {
    kind: _entities(kind, table) for kind, table in word_table("entities").items()
}

GROUPS: dict[str, tuple[str, str]] = {kind: (one, many) for kind, (one, many) in _LISTS["groups"].items()}
"""Singular and plural name of each kind used in tasks on groups, such as counting and the odd one out."""

OPPOSITE_PAIRS = tuple((first, second) for first, second in map(str.split, _LISTS["opposites"].split(", ")))


@dataclass(frozen=True)
class Relation:
    """One property of one kind of entity, with its possible values.

    Attributes:
        states: Wordings of statements in pretraining.
        asks: Wordings of questions in pretraining.
        held: Wordings of questions that pretraining never uses.
        answer: Template of the short answer.
        values: The possible values, sorted by text.
    """

    kind: str
    name: str
    states: tuple[str, ...]
    asks: tuple[str, ...]
    held: tuple[str, ...]
    answer: str
    values: tuple[RelationValue, ...]

    @property
    def key(self) -> str:
        """Unique name, such as "animal home"."""
        return f"{self.kind} {self.name}"


def _relation(key: str, wording: dict[str, str]) -> Relation:
    kind, name = key.split()
    wording = word_table("relations")[wording["same"]] if "same" in wording else wording
    texts = sorted({thing.values[name] for thing in ENTITIES[kind] if name in thing.values})
    states, asks, held = (lines(wording[use]) for use in ("states", "asks", "held"))
    return Relation(kind, name, states, asks, held, wording.get("answer", "{v}."), tuple(map(value, texts)))


RELATIONS = tuple(_relation(key, wording) for key, wording in word_table("relations").items() if " " in key)

TALK: tuple[tuple[tuple[str, ...], str], ...] = tuple(
    (tuple(asks.split(" | ")), answer)
    for asks, answer in (block.split("\n=> ") for block in word_table("conversation")["talk"].split("\n\n"))
)

UNKNOWN: str = word_table("outside")["unknown"]
"""The answer to unanswerable questions."""
