"""Questions that the world cannot answer; the single correct answer to all of them is `lexicon.UNKNOWN`.

A tenth of the topics and a tenth of the wordings are held out of pretraining, to measure whether the model also answers
"I do not know" to unseen questions.
"""

from __future__ import annotations

from neftune_core.world.entities import capital, say
from neftune_core.world.generator.chance import Chance
from neftune_core.world.generator.facts import ASKED
from neftune_core.world.lexicon import ENTITIES, RELATIONS, lines, word_table

_WORDS = word_table("outside")
_STARTS, _MIDDLES, _ENDS = (tuple(_WORDS[part].split()) for part in ("starts", "middles", "ends"))


def _split(items: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the items for pretraining, and the held-out items: a tenth, but at least one."""
    order = Chance("outside", *items).shuffled(items)
    held = max(1, len(items) // 10)
    return tuple(order[held:]), tuple(order[:held])


_TOPIC_PARTS = {group: _split(text.split(", ")) for group, text in _WORDS["topics"].items()}
_WORDING_PARTS = {group: _split([*lines(text)]) for group, text in _WORDS["wordings"].items()}
_FOREIGN_PARTS = _split([*lines(_WORDS["foreign"])])

_WEIGHTS = tuple(_WORDS["weights"].items())

# Any nonsense question may occur in pretraining, so none can be held out.
_HELD_WEIGHTS = tuple(pair for pair in _WEIGHTS if pair[0] != "nonsense")


def made_up_name(chance: Chance) -> str:
    """Return an invented lower-case word, such as "zorvik", that is not the name of an entity."""
    name = ""
    while not name or name in _KNOWN:
        parts = [chance.one(_STARTS) + chance.one(_MIDDLES) for _ in range(chance.between(1, 2))]
        name = "".join(parts) + chance.one(_ENDS)
    return name


_KNOWN = tuple(thing.name.lower() for things in ENTITIES.values() for thing in things)


def question(chance: Chance, *, held: bool = False) -> str:
    """Draw a question that the world cannot answer.

    Args:
        chance: The random stream.
        held: Whether to use held-out topics, if the kind of question has any, and held-out wordings (always for
            questions about the present, in half of the draws for the other kinds that have any).

    Returns:
        The question.
    """
    group = chance.weighted(_HELD_WEIGHTS if held else _WEIGHTS)
    if group == "foreign":
        return chance.one(_FOREIGN_PARTS[held])
    if group == "scripts":
        return _scripts(chance)
    if group == "letters":
        return _letters(chance)
    if group == "nonsense":
        return _nonsense(chance)
    wordings = _WORDING_PARTS[group][held and (group == "now" or chance.happens(0.5))]
    return _fill(chance, group, chance.one(wordings), held=held)


def _fill(chance: Chance, group: str, wording: str, *, held: bool) -> str:
    if group == "name":
        name = made_up_name(chance)
        return wording.replace("{x}", capital(name) if "the {x}" not in wording else name)
    if group == "numbers":
        return wording.replace("{a}", str(_large(chance))).replace("{b}", str(chance.between(3, 99)))
    if "{x}" not in wording:
        return wording
    topics = _TOPIC_PARTS[group][held]
    text = wording.replace("{x}", chance.one(topics)).replace("{z}", chance.one(topics))
    text = text.replace("{y}", chance.one(_TOPIC_PARTS["job"][held]))
    return _with_articles(text)


def _with_articles(text: str) -> str:
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}")
    return text.replace(" an uni", " a uni")


def _large(chance: Chance) -> int:
    return chance.one((chance.between(100, 999), chance.between(1000, 99999), chance.between(31, 99)))


def _letters(chance: Chance) -> str:
    if chance.happens(0.5):
        return " ".join(made_up_name(chance) for _ in range(chance.between(1, 5)))
    return "".join(chr(chance.between(33, 126)) for _ in range(chance.between(3, 16)))


def _scripts(chance: Chance) -> str:
    """Return a few random characters of one script, which the tokenizer encodes as bytes."""
    first, last = chance.one(_WORDS["scripts"])
    words = ["".join(chr(chance.between(first, last)) for _ in range(chance.between(2, 5)))]
    while len(words) < 3 and chance.happens(0.5):
        words.append("".join(chr(chance.between(first, last)) for _ in range(chance.between(2, 5))))
    return " ".join(words) + chance.one(("", "?", "？", "."))


def _nonsense(chance: Chance) -> str:
    """Return a question that does not fit its entity: "What does the hammer eat?"."""
    while True:
        fact = chance.one(ASKED)
        kind = chance.one(tuple(ENTITIES))
        thing = chance.one(ENTITIES[kind])
        misfit = all(relation.name != fact.relation.name for relation in RELATIONS if relation.kind == kind)
        if misfit and fact.relation.name in _WORDS["never_fitting"].split():
            return say(fact.relation.asks[0], s=thing)


def unknown_noun(chance: Chance) -> str:
    """Return a noun, without an article, for something that does not exist in the world."""
    return chance.one(_TOPIC_PARTS["strange"][0])


def stranger(chance: Chance) -> str:
    """Return the name of a person who does not exist in the world."""
    return capital(made_up_name(chance))
