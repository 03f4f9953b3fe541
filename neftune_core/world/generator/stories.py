"""Short stories about the entities of the world, generated from the plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neftune_core.world.entities import Entity, say
from neftune_core.world.generator.chance import Chance
from neftune_core.world.lexicon import ENTITIES
from neftune_core.world.plots import ANIMALS, PLOTS, ROLES, Sharing, slots, with_hero_name

PERSON = ENTITIES["person"]
_BY_NAME = {animal.the: animal for animal in ANIMALS}

# Heroes mostly appear with the same friend, so that the model learns a distinct second name instead of repeating the
# first.
COMPANION_OF = {"friend": "hero", "hero": "friend", "other": "animal", "animal": "other"}
FAITHFUL = 0.8

# Roles that a request may name ("Tell me a story about Tilda, the fox and the kettle").
NAMED = ("hero", "friend", "animal", "other", "food", "fruit", "tool", "plant", "vehicle", "garment", "instrument")


@dataclass(frozen=True)
class Story:
    """A short story.

    Attributes:
        text: The story.
        sentences: The sentences of the story, in order.
        cast: The (role, entity) of each role in `NAMED` that the story has, in order of appearance.
    """

    text: str
    sentences: tuple[str, ...]
    cast: tuple[tuple[str, Entity], ...]


def _with_hero_named(templates: list[str]) -> list[str]:
    first = next((place for place, template in enumerate(templates) if "{hero." in template), 0)
    return [*templates[:first], with_hero_name(templates[first]), *templates[first + 1 :]]


def _cast_for(roles: list[str], chance: Chance) -> dict[str, Entity | Sharing]:
    """Draw a distinct entity for each role."""
    cast: dict[str, Entity | Sharing] = {}
    taken: list[str] = []
    for role in roles:
        choices: Sequence[Entity | Sharing] = ROLES[role]
        thing = _companion(cast.get(COMPANION_OF.get(role, "")), chance) or chance.one(choices)
        while thing.name in taken:
            thing = chance.one(choices)
        taken.append(thing.name)
        cast[role] = thing
    return cast


def _companion(one: Entity | Sharing | None, chance: Chance) -> Entity | None:
    """Return the usual companion (a person's neighbour in the list, or an animal's friend), or sometimes None."""
    if not isinstance(one, Entity) or not chance.happens(FAITHFUL):
        return None
    if one.kind == "person":
        return PERSON[PERSON.index(one) ^ 1]
    return _BY_NAME.get(one.values["friend"])


def tell(chance: Chance) -> Story:
    """Draw a story."""
    templates = _with_hero_named([chance.one(moment) for moment in chance.one(PLOTS)])
    roles = list(dict.fromkeys(role for template in templates for role, _ in slots(template)))
    cast = _cast_for(roles, chance)
    sentences = tuple(say(template, **cast) for template in templates)
    named = tuple((role, cast[role]) for role in roles if role in NAMED)
    people = tuple((role, thing) for role, thing in named if isinstance(thing, Entity))
    return Story(" ".join(sentences), sentences, people)
