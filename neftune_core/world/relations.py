"""Relations (properties of entities), with all wordings of statements and questions."""

from __future__ import annotations

from dataclasses import dataclass

from neftune_core.world.entities import RelationValue, value
from neftune_core.world.lexicon import ENTITIES
from neftune_core.world.tables import lines, word_table


@dataclass(frozen=True)
class Relation:
    """One property of one kind of entity, with its possible values.

    Attributes:
        kind: Kind of the entities.
        name: Name of the property.
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
