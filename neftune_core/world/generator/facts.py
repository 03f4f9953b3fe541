"""All facts of the world, including those that pretraining states but never asks about."""

from __future__ import annotations

from dataclasses import dataclass

from neftune_core.world.entities import Entity, RelationValue, say, value
from neftune_core.world.generator.chance import Chance
from neftune_core.world.lexicon import ENTITIES, RELATIONS, Relation

STATED_SHARE = 0.18


@dataclass(frozen=True)
class Fact:
    """One fact about an entity.

    Attributes:
        asked: Whether pretraining asks about the fact in addition to stating it.
    """

    thing: Entity
    relation: Relation
    value: RelationValue
    asked: bool

    def state(self, wording: str | None = None) -> str:
        """Return the fact as a sentence, in the first wording by default."""
        return say(wording or self.relation.states[0], s=self.thing, v=self.value)

    def ask(self, wording: str) -> str:
        """Return the question about the fact in this wording."""
        return say(wording, s=self.thing, v=self.value)

    def answer(self, other: RelationValue | None = None) -> str:
        """Return the short answer, for the value `other` if it is given."""
        return say(self.relation.answer, s=self.thing, v=other or self.value)

    def equation(self) -> str:
        """Return the answer in a form that pretraining never uses: "In the barn = owl."."""
        return f"{self.answer().removesuffix('.')} = {self.thing.name}."

    def wrong(self, chance: Chance) -> RelationValue:
        """Return another value of the same relation that gives a different answer."""
        others = [found for found in self.relation.values if self.answer(found) != self.answer()]
        return chance.one(others)


def _facts() -> tuple[Fact, ...]:
    facts: list[Fact] = []
    for relation in RELATIONS:
        things = [thing for thing in ENTITIES[relation.kind] if relation.name in thing.values]
        silent = Chance("stated only", relation.key).some(things, round(len(things) * STATED_SHARE))
        names = [thing.name for thing in silent]
        facts += [
            Fact(thing, relation, value(thing.values[relation.name]), thing.name not in names) for thing in things
        ]
    return tuple(facts)


FACTS = _facts()
ASKED = tuple(fact for fact in FACTS if fact.asked)
STATED = tuple(fact for fact in FACTS if not fact.asked)


def facts_of(thing: Entity) -> tuple[Fact, ...]:
    """Return all facts about one entity."""
    return _BY_THING[thing.kind, thing.name]


_BY_THING: dict[tuple[str, str], tuple[Fact, ...]] = {
    (thing.kind, thing.name): tuple(
        fact for fact in FACTS if fact.thing.kind == thing.kind and fact.thing.name == thing.name
    )
    for things in ENTITIES.values()
    for thing in things
}
