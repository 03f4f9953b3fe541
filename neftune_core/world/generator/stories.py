"""Short stories about the entities of the world.

A plot is a list of moments; each moment offers several sentences, one per line. Slots name a role and a form:
`{hero.it}` is "she" or "he". A role draws its entity from the list in `ROLES`; no two roles share an entity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

from neftune_core.world.generator.chance import Chance
from neftune_core.world.generator.entities import Thing, say
from neftune_core.world.generator.lexicon import (
    ANIMAL,
    DAY,
    FOOD,
    GARMENT,
    INSTRUMENT,
    NUMBERS,
    PERSON,
    PLACE,
    PLANT,
    TOOL,
    VEHICLE,
    WEATHERS,
)


@dataclass(frozen=True)
class Sharing:
    """The numbers of a small subtraction, in words: had, gave, left."""

    kind: str
    name: str
    have: str
    gave: str
    left: str


_OUTDOORS = ("orchard", "meadow", "wood", "garden", "hill", "pond", "river", "square", "harbour")

SHARINGS = tuple(
    Sharing("sharing", f"{have}-{gave}", NUMBERS[have], NUMBERS[gave], NUMBERS[have - gave])
    for have in range(4, 11)
    for gave in range(2, have - 1)
)

Role = tuple[Thing, ...] | tuple[Sharing, ...]

_ANIMALS = {animal.the: animal for animal in ANIMAL if animal.name != "trout"}

ROLES: dict[str, Role] = {
    "hero": PERSON,
    "friend": PERSON,
    "animal": tuple(_ANIMALS.values()),
    "other": tuple(_ANIMALS.values()),
    "food": FOOD,
    "fruit": tuple(food for food in FOOD if food.many != food.name),
    "tool": TOOL,
    "place": PLACE,
    "spot": tuple(place for place in PLACE if place.name in _OUTDOORS),
    "plant": PLANT,
    "vehicle": VEHICLE,
    "garment": GARMENT,
    "instrument": INSTRUMENT,
    "weather": WEATHERS,
    "day": DAY,
    "sharing": SHARINGS,
}

# Heroes mostly appear with the same friend, so that the model learns a distinct second name and does not repeat the
# first one.
COMPANION_OF = {"friend": "hero", "hero": "friend", "other": "animal", "animal": "other"}
FAITHFUL = 0.8

# Roles that a request may name ("Tell me a story about Tilda, the fox and the kettle").
NAMED = ("hero", "friend", "animal", "other", "food", "fruit", "tool", "plant", "vehicle", "garment", "instrument")

_LOST_TOOL = """
One morning {hero.the} wanted to {tool.use}.
{hero.the} got up early to {tool.use}.
It was a bright day, and {hero.the} had to {tool.use}.

But {tool.the} was not in its place.
But {hero.it} could not find {tool.the}.
But {tool.the} was gone.

{hero.the} looked {place.at}, but there was nothing.
First {hero.it} went {place.to} and looked everywhere.
{hero.it} looked {place.at} and did not find it.

Then {hero.it} met {friend.the}.
On the way {hero.it} met {friend.the}.
There stood {friend.the} and smiled.

{friend.the} said, "I saw it next to {animal.the}."
{friend.the} said, "Ask {animal.the}, it was here this morning."
{friend.the} said, "Let us look for it together."

They found {animal.the} asleep beside {tool.the}.
Behind the door they found {tool.the}, and {animal.the} sat on it.
{animal.the} was there, and so was {tool.the}.

{hero.the} laughed and thanked {friend.the}.
{hero.the} was glad and thanked {friend.the} and {animal.the}.
They laughed all the way home.

Before evening {hero.the} could {tool.use} at last.
So in the end {hero.it} could {tool.use}.
Now {hero.the} always puts {tool.the} back in its place.
"""

_HUNGRY_ANIMAL = """
{hero.the} went {place.to} with {food.some}.
One day {hero.the} took {food.some} and went {place.to}.
{hero.the} sat {place.at} and wanted to eat {food.the}.

There {hero.it} saw {animal.the}.
Then {animal.the} came near.
Beside {hero.him} sat {animal.the}.

{animal.the} looked sad and hungry.
{animal.the} had not eaten all day.
{animal.the} looked at {food.the} and did not say a word.

{hero.the} said, "You can have some of it."
{hero.the} said, "Are you hungry?"
{hero.the} thought about it for a moment.

{hero.it} gave half of {food.the} to {animal.the}.
Then {hero.it} shared {food.the} with {animal.the}.
So {hero.the} put {food.the} down in front of {animal.the}.

{animal.the} took it and was glad.
{animal.the} was happy again.
It was gone in a moment.

From that day {animal.the} followed {hero.the} everywhere.
They were friends from that day on.
Since then {animal.the} waits for {hero.the} every morning.
"""

_PICNIC = """
{hero.the} and {friend.the} wanted to have a picnic {spot.at}.
It was a warm day, and {hero.the} went {spot.to} with {friend.the}.
One summer day {hero.the} asked {friend.the} to come {spot.to}.

{hero.the} brought {food.some}, and {friend.the} brought a blanket.
{friend.the} carried {food.some} in a basket.
They took {food.some} with them.

But then dark clouds came over the hill.
Suddenly it began to rain.
They had just sat down when it began to rain.

Because of the rain, the grass was soon wet.
The blanket was wet, because it rained so hard.
It rained, so they could not stay.

They ran into the barn.
They ran under the bridge.
They ran home as fast as they could.

There sat {animal.the}, warm and dry.
{animal.the} came with them, because it was wet too.
On the way they met {animal.the} and took it with them.

They shared {food.the} and told stories.
Together they had {food.the} and were happy.
{food.the} was still dry, and so they had a good meal.

When the sun came out, everything was dry again.
Later the sun came out.
In the evening they walked home under a clear sky.
"""

_MENDING = """
{tool.the} of {hero.the} was broken.
One day {hero.the} broke {tool.the}.
{hero.the} dropped {tool.the}, and it broke.

Without it {hero.it} could not {tool.use}.
So {hero.it} could not {tool.use}.
{hero.it} was sad, because {hero.it} wanted to {tool.use}.

{hero.the} took it to {friend.the}.
{hero.it} asked {friend.the} for help.
Then {hero.it} thought of {friend.the}, who can mend many things.

{friend.the} looked at it for a long time.
{friend.the} said, "I will try."
{friend.the} said, "That is not easy, but I can do it."

{friend.the} worked until the evening.
{friend.the} worked all day {place.at}.
For three hours {friend.the} did not look up.

At last {tool.the} was as good as new.
In the end {tool.the} was better than before.
When it was done, {tool.the} looked like new.

{hero.the} gave {friend.the} {food.some} to say thank you.
To say thank you, {hero.the} brought {food.some}.
They shared {food.some} and were happy.

Now {hero.the} could {tool.use} again.
The next day {hero.it} began to {tool.use}.
Since then {hero.the} takes good care of {tool.the}.
"""

_RACE = """
{animal.the} and {other.the} wanted to know who was faster.
{animal.the} said to {other.the}, "I am faster than you."
One day {animal.the} asked {other.the} to run a race.

They agreed to race {spot.to}.
The race went {spot.to}.
Everyone came to watch the race.

{hero.the} counted to three, and off they went.
{hero.the} said, "One, two, three, go."
{hero.the} rang a bell to begin the race.

At first {animal.the} was far ahead.
{animal.the} was very fast.
{animal.the} ran and never looked back.

But then {animal.the} stopped to rest.
But on the way {animal.the} found {food.some} and stopped.
But soon {animal.the} was tired and fell asleep.

{other.the} was slow, but it did not stop.
{other.the} went on, step by step.
{other.the} came along and passed quietly.

So {other.the} won the race.
In the end {other.the} was first.
At the end of the day {other.the} had won.

{animal.the} was not angry and said, "Well done."
{hero.the} gave {other.the} {food.some}.
They went home together and laughed about it.
"""

_BIRTHDAY = """
It was the birthday of {hero.the}.
{hero.the} had a birthday, and the sun was shining.
Soon it would be the birthday of {hero.the}.

{friend.the} wanted to bring something nice.
{friend.the} did not know what to bring.
{friend.the} had thought about a present for days.

So {friend.the} went to the market and bought {food.some}.
So {friend.the} made {garment.a}.
In the market {friend.the} found {tool.a}.

{friend.the} put it in a box with a red ribbon.
{friend.the} hid it behind the door.
{friend.the} carried it home and told nobody.

When {hero.the} opened the door, everyone began to sing.
All the neighbours came, and {animal.the} came too.
There was music, and even {animal.the} danced.

{hero.the} opened the box and laughed.
{hero.the} said, "This is just what I wanted."
{hero.the} was so happy that {hero.it} danced.

They ate and sang until it was dark.
It was the best birthday of all.
That night {hero.the} fell asleep with a smile.
"""

_NIGHT = """
One night {hero.the} heard a strange sound.
In the middle of the night {hero.the} woke up.
It was dark, and {hero.the} could not sleep.

Something was moving {place.at}.
The sound came from outside.
Somebody was knocking at the window.

{hero.it} took a lantern and went out.
{hero.the} was a little afraid, but {hero.it} went to look.
{hero.it} put on {garment.a} and opened the door.

It was only {animal.the}.
There sat {animal.the} in the moonlight.
{hero.the} held up the light and saw {animal.the}.

{animal.the} was looking for {other.the}.
{animal.the} was cold and could not sleep.
{animal.the} had lost its way in the dark.

{hero.the} said, "Come in, it is warm here."
{hero.the} gave it {food.some}.
{hero.the} sang a quiet song.

Soon {animal.the} was asleep.
Then they both slept until the morning.
After that there was no more noise that night.
"""

_GROWING = """
In spring {hero.the} planted {plant.a}.
{hero.the} had {plant.a} in a small pot.
{friend.the} gave {hero.the} {plant.a} to plant.

Every day {hero.it} gave it water.
{hero.it} put it where the sun was warm.
{hero.it} looked at it every morning.

On the first day nothing happened.
For a week nothing happened.
At first it was very small.

{animal.the} wanted to eat it, but {hero.the} said no.
{animal.the} sat beside it and kept it safe.
Then {weather.the} came and began to {weather.use}.

{hero.the} covered it at night, so it was safe.
{hero.the} was patient and waited.
{hero.the} did not forget it for one day.

After some time {plant.the} was as high as the fence.
One morning {plant.the} was bigger than {animal.the}.
Soon {plant.the} was the finest in Brindle.

{friend.the} came to see it and said, "How beautiful it is."
Everyone in Brindle came to see {plant.the}.
{hero.the} was proud and showed it to {friend.the}.
"""

_STUCK = """
One day {vehicle.the} stood still and would not move.
{vehicle.the} was stuck, and {hero.the} did not know what to do.
{hero.the} was on the way {place.to} when {vehicle.the} stopped.

{hero.the} pushed, but it did not help.
{hero.it} pushed and pulled, but nothing happened.
{hero.it} walked round it three times.

Then {friend.the} came along and helped to pull.
{friend.the} came and pushed too.
{hero.it} called {friend.the}, and {friend.the} came at once.

But {vehicle.the} still did not move.
It moved a little, but not enough.
Two were not strong enough.

{animal.the} had watched it all.
At that moment {animal.the} came by.
{animal.the} said, "Let me help you."

They laughed, because {animal.the} was not very strong.
{hero.the} said, "Every little helps."
{friend.the} counted to three.

All together they pushed, and {vehicle.the} began to move.
With one last push {vehicle.the} was free.
Now there were three of them, and it worked.

So everyone came home before dark.
They thanked {animal.the} and went on.
Since then nobody laughs at {animal.the}.
"""

_SHARING = """
{hero.the} had {sharing.have} {fruit.many}.
There were {sharing.have} {fruit.many} in the basket of {hero.the}.
{hero.the} had picked {sharing.have} {fruit.many}.

On the way {hero.it} met {friend.the}.
{friend.the} came along and looked hungry.
{friend.the} sat {place.at} and had nothing to eat.

{hero.the} gave {sharing.gave} of the {sharing.have} {fruit.many} to {friend.the}.
From {sharing.have} {fruit.many}, {hero.it} gave away {sharing.gave}.
{friend.the} took {sharing.gave} {fruit.many} and said thank you.

{sharing.have} take away {sharing.gave} is {sharing.left}.
From {sharing.have} take {sharing.gave}, and there are {sharing.left}.
That is how {sharing.have} less {sharing.gave} became {sharing.left}.

{hero.the} was happy with the rest.
{animal.the} wanted one too, but it was too late.
They sat down and ate together.

{friend.the} said, "Tomorrow I will share with you."
The next day {friend.the} brought {food.some} for {hero.the}.
It is good to share.
"""

_DAY = """
It was {day.the}, the day when people {day.use}.
On {day.the} the people of Brindle {day.use}.
It was {day.the}, so everyone was about to {day.use}.

{hero.the} wanted to help.
{hero.the} met {friend.the} {place.at}.
But {hero.the} was late.

{hero.it} brought {tool.the} and {food.some}.
{hero.it} put on {garment.a} and went out.
In the street {hero.it} heard {friend.the} play {instrument.the}.

{weather.the} came and began to {weather.use}.
The sun was shining, and it was warm.
It was a day like a song.

{animal.the} was there too and wanted to play.
{animal.the} came by and made everyone laugh.
{hero.the} saw {animal.the} and waved.

{friend.the} said, "I like this day best."
{hero.the} said, "What a fine day it is."
They worked and sang together.

In the evening everyone was tired and happy.
When the moon came up, they went home.
So the day came to an end.
"""

_MUSIC = """
{hero.the} wanted to learn to play {instrument.the}.
{hero.the} had found {instrument.a} {place.at}.
One day {friend.the} gave {instrument.a} to {hero.the}.

At first it did not sound good at all.
The first sound was so loud that {animal.the} ran away.
{hero.it} tried it, but it sounded sad.

{friend.the} said, "Try again, slowly."
{friend.the} showed {hero.the} how to do it.
But {hero.the} did not give up.

{hero.it} practised every day after dinner.
Day after day {hero.the} sat {place.at} and played.
After a week it was a little better.

Then {animal.the} came back to listen.
One evening {animal.the} began to dance to it.
Even {animal.the} stopped to hear the music.

At the next feast {hero.the} played for everyone.
On Saturday {hero.the} played in the square.
Soon all of Brindle knew the song.

{friend.the} was proud of {hero.the}.
Everyone clapped, and {friend.the} clapped most of all.
Since then there is music in the house of {hero.the} every evening.
"""

_GARMENT = """
{hero.the} had lost {garment.a}.
The wind took {garment.the} of {hero.the} and carried it away.
{hero.the} could not find {garment.the}.

{hero.it} asked {friend.the}, but {friend.the} had not seen it.
{hero.it} looked {place.at} and found only {tool.a}.
{hero.the} looked under the table and behind the door.

It was cold, and {hero.the} needed it.
{hero.the} was sad, because it was a present from {friend.the}.
There was frost on the window, so it was no day to go without it.

At last {hero.it} went {spot.to}.
Then {hero.it} heard a small sound.
In the end {hero.it} saw something strange.

There lay {animal.the}, fast asleep in {garment.the}.
{animal.the} had made a bed of {garment.the}.
{garment.the} was the new home of {animal.the}.

{hero.the} smiled and let it sleep.
{hero.the} said, "Keep it, you need it more than I do."
{hero.it} did not wake {animal.the} and went home quietly.

{friend.the} heard of it and made {hero.the} a new one.
The next day {friend.the} brought {hero.the} another one.
So both were warm that winter.
"""


def _moments(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(block.splitlines()) for block in text.strip().split("\n\n"))


PLOTS: tuple[tuple[tuple[str, ...], ...], ...] = tuple(
    _moments(text)
    for text in (
        _LOST_TOOL,
        _HUNGRY_ANIMAL,
        _PICNIC,
        _MENDING,
        _RACE,
        _BIRTHDAY,
        _NIGHT,
        _GROWING,
        _STUCK,
        _SHARING,
        _DAY,
        _MUSIC,
        _GARMENT,
    )
)


@dataclass(frozen=True)
class Story:
    """A story and its cast, role by role in the order of appearance."""

    text: str
    sentences: tuple[str, ...]
    cast: tuple[tuple[str, Thing], ...]


def slots(template: str) -> list[tuple[str, str]]:
    """Return the slots of a template in order, as (role, form): "{hero.it}" is ("hero", "it")."""
    names = [name for _, name, _, _ in Formatter().parse(template) if name]
    return [(role, form) for role, _, form in (name.partition(".") for name in names)]


def introduced(template: str) -> str:
    """Return the template with the hero named, for a story that has not named the hero yet."""
    if "{hero." not in template or "{hero.the}" in template:
        return template
    for pronoun in ("{hero.it}", "{hero.him}"):
        if pronoun in template:
            return template.replace(pronoun, "{hero.the}", 1)
    return template


def _with_hero_named(templates: list[str]) -> list[str]:
    first = next((place for place, template in enumerate(templates) if "{hero." in template), 0)
    return [*templates[:first], introduced(templates[first]), *templates[first + 1 :]]


def cast_for(roles: list[str], chance: Chance) -> dict[str, Thing | Sharing]:
    """Draw a distinct entity for each role.

    Args:
        roles: The roles.
        chance: The random stream.

    Returns:
        The cast by role.
    """
    cast: dict[str, Thing | Sharing] = {}
    taken: list[str] = []
    for role in roles:
        choices: Sequence[Thing | Sharing] = ROLES[role]
        thing = _companion(cast.get(COMPANION_OF.get(role, "")), chance) or chance.one(choices)
        while thing.name in taken:
            thing = chance.one(choices)
        taken.append(thing.name)
        cast[role] = thing
    return cast


def _companion(one: Thing | Sharing | None, chance: Chance) -> Thing | None:
    """Return, most of the time, the usual companion: a person's neighbour in the list, or an animal's friend."""
    if not isinstance(one, Thing) or not chance.happens(FAITHFUL):
        return None
    if one.kind == "person":
        return PERSON[PERSON.index(one) ^ 1]
    return _ANIMALS.get(one.values["friend"])


def tell(chance: Chance) -> Story:
    """Return a story, determined by `chance`."""
    templates = _with_hero_named([chance.one(moment) for moment in chance.one(PLOTS)])
    roles = list(dict.fromkeys(role for template in templates for role, _ in slots(template)))
    cast = cast_for(roles, chance)
    sentences = tuple(say(template, **cast) for template in templates)
    named = tuple((role, cast[role]) for role in roles if role in NAMED)
    people = tuple((role, thing) for role, thing in named if isinstance(thing, Thing))
    return Story(" ".join(sentences), sentences, people)
