"""All entities of the world with their properties, and short lists of words."""

from __future__ import annotations

from neftune_core.world.entities import Entity, common, proper
from neftune_core.world.tables import lines, word_table

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
        forms = (f"{at} the {name}", f"to the {name}") if at else ("", "")
        thing = common(kind, name, cells.pop("many", f"{name}s"), use, *forms)
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
