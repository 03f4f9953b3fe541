"""Templates of stories.

A plot is a list of moments, and each moment offers several sentences. Slots name a role and a form: `{hero.it}` is
"she" or "he". The entity of a role is drawn from its list in `ROLES`; no two roles share an entity.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter

from neftune_core.world.entities import Entity
from neftune_core.world.lexicon import ENTITIES, NUMBERS, lines, word_table


@dataclass(frozen=True)
class Sharing:
    """The numbers of a subtraction in a story, in words.

    Attributes:
        name: The first two numbers in digits, such as "5-2".
        have: Number at the start.
        gave: Number given away.
        left: Number left over.
    """

    name: str
    have: str
    gave: str
    left: str


_OUTDOORS = ("orchard", "meadow", "wood", "garden", "hill", "pond", "river", "square", "harbour")

SHARINGS = tuple(
    Sharing(f"{have}-{gave}", NUMBERS[have], NUMBERS[gave], NUMBERS[have - gave])
    for have in range(4, 11)
    for gave in range(2, have - 1)
)

Role = tuple[Entity, ...] | tuple[Sharing, ...]

ANIMALS = tuple(animal for animal in ENTITIES["animal"] if animal.name != "trout")

ROLES: dict[str, Role] = {
    **ENTITIES,
    "hero": ENTITIES["person"],
    "friend": ENTITIES["person"],
    "animal": ANIMALS,
    "other": ANIMALS,
    "fruit": tuple(food for food in ENTITIES["food"] if food.many != food.name),
    "spot": tuple(place for place in ENTITIES["place"] if place.name in _OUTDOORS),
    "sharing": SHARINGS,
}

PLOTS = tuple(tuple(map(lines, plot.split("\n\n"))) for plot in word_table("stories").values())


def slots(template: str) -> list[tuple[str, str]]:
    """Return the slots of a template in order, as (role, form): "{hero.it}" is ("hero", "it")."""
    names = [name for _, name, _, _ in Formatter().parse(template) if name]
    return [(role, form) for role, _, form in (name.partition(".") for name in names)]


def with_hero_name(template: str) -> str:
    """Replace one pronoun of the hero with the hero's name, unless the template already has the name."""
    if "{hero." not in template or "{hero.the}" in template:
        return template
    for pronoun in ("{hero.it}", "{hero.him}"):
        if pronoun in template:
            return template.replace(pronoun, "{hero.the}", 1)
    return template
