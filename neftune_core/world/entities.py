"""Entities of the world with the forms of their names, and sentences from templates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

VOWELS = "aeiou"


def article(noun: str) -> str:
    """Return `noun` with "a" or "an" before it."""
    return f"an {noun}" if noun[0] in VOWELS else f"a {noun}"


def _third_person(verb: str) -> str:
    """Return the third person singular of `verb`: hoot -> hoots, hiss -> hisses."""
    return f"{verb}es" if verb.endswith(("s", "x", "z", "ch", "sh")) else f"{verb}s"


def capital(text: str) -> str:
    """Return `text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Entity:
    """One entity; its fields are the forms that templates can use.

    Attributes:
        kind: Kind of the entity, such as "animal".
        name: Singular noun; the proper name of a person, a day or a month.
        many: Plural; the name itself for a mass noun ("honey") or a proper name.
        a: Name with "a" or "an"; the bare name for a mass noun or a proper name.
        the: Name with "the"; the bare name for a proper name.
        some: "some honey" for a mass noun, otherwise the same as `a`.
        it: Subject pronoun.
        its: Possessive pronoun.
        him: Object pronoun.
        at: Phrase for being at a place ("in the barn"); "" for other kinds.
        to: Phrase for going to a place ("to the barn"); "" for other kinds.
        use: Purpose of a tool, activity of a day, or effect of the weather; "" for other kinds.
        values: Properties by relation name.
    """

    kind: str
    name: str
    many: str
    a: str
    the: str
    some: str
    it: str = "it"
    its: str = "its"
    him: str = "it"
    at: str = ""
    to: str = ""
    use: str = ""
    values: dict[str, str] = field(default_factory=dict, compare=False, hash=False)


@dataclass(frozen=True)
class RelationValue:
    """The value of a relation.

    Attributes:
        text: The value as text, such as "in the barn".
        bare: The text without a leading preposition and article, such as "barn".
        verb: The text with its first word in the third person, such as "hoots".
    """

    text: str
    bare: str
    verb: str

    def __str__(self) -> str:
        return self.text


_LEADING = re.compile(r"^((in|on|at|by|under|behind|from|along|with|over|round) )?((the|a|an) )?")


def value(text: str) -> RelationValue:
    """Parse a value from its text, such as "in the barn", which has the bare form "barn"."""
    first, _, rest = text.partition(" ")
    return RelationValue(text, _LEADING.sub("", text), verb=" ".join(filter(None, (_third_person(first), rest))))


def proper(kind: str, name: str, pronouns: Sequence[str] = ("it", "its", "it"), use: str = "") -> Entity:
    """Return an entity with a proper name: a person, a day or a month.

    Args:
        kind: Kind of the entity.
        name: Proper name, used as every form.
        pronouns: Subject, possessive and object pronoun.
        use: Activity of a day; see `Entity`.

    Returns:
        The entity.
    """
    it, its, him = pronouns
    return Entity(kind, name, name, name, name, name, it, its, him, use=use)


def say(template: str, **things: object) -> str:
    """Fill a template and capitalise its first letter.

    Args:
        template: Text with slots such as `{hero.its}`.
        **things: Entities and values by role.

    Returns:
        The sentence.
    """
    return capital(template.format(**things))


def listing(words: Sequence[str], last: str = "and") -> str:
    """Join words as an English list: "a", "a and b", "a, b and c".

    Args:
        words: Words to join.
        last: Conjunction before the last word.

    Returns:
        The list as text.
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
