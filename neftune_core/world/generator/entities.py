"""A thing of the world with the forms of its name, and how a template becomes a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

VOWELS = "aeiou"


def article(noun: str) -> str:
    """`noun` with "a" or "an" before it."""
    return f"an {noun}" if noun[0] in VOWELS else f"a {noun}"


def third_person(verb: str) -> str:
    """The form of `verb` after "it": hoot -> hoots, hiss -> hisses."""
    return f"{verb}es" if verb.endswith(("s", "x", "z", "ch", "sh")) else f"{verb}s"


def capital(text: str) -> str:
    """`text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Thing:
    """One thing. The fields are the forms that templates may ask for.

    `many` is the plural, or the name itself for a mass noun ("honey"); `a` is then the bare name and
    `some` says "some honey". People, days and months have no article. `at` and `to` are for places,
    `use` is what a tool is for, what a day is for, what weather does.
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
class Value:
    """What a relation says about a thing: as text, as a bare word ("barn"), and as a verb after "it"."""

    text: str
    bare: str
    verb: str

    def __str__(self) -> str:
        return self.text


_LEADING = (
    "in ",
    "on ",
    "at ",
    "by ",
    "under ",
    "behind ",
    "from ",
    "along ",
    "with ",
    "over ",
    "round ",
)
_ARTICLES = ("the ", "a ", "an ")


def value(text: str) -> Value:
    """A value from its text: "in the barn" has the bare word "barn"."""
    bare = text
    for words in (_LEADING, _ARTICLES):
        for word in words:
            if bare.startswith(word):
                bare = bare[len(word) :]
                break
    first, _, rest = text.partition(" ")
    return Value(text=text, bare=bare, verb=" ".join(filter(None, (third_person(first), rest))))


def common(kind: str, name: str, many: str, use: str = "", at: str = "", to: str = "") -> Thing:
    """A thing with a common noun; `many` is "-" for a mass noun such as honey."""
    mass = many == "-"
    return Thing(
        kind,
        name,
        many=name if mass else many,
        a=name if mass else article(name),
        the=f"the {name}",
        some=f"some {name}" if mass else article(name),
        at=at,
        to=to,
        use=use,
    )


def proper(kind: str, name: str, pronouns: Sequence[str] = ("it", "its", "it"), use: str = "") -> Thing:
    """A thing with a name of its own: a person, a day, a month."""
    it, its, him = pronouns
    return Thing(kind, name, name, name, name, name, it, its, him, use=use)


def say(template: str, **things: object) -> str:
    """The template as a sentence: slots filled ({hero.its}), first letter in upper case."""
    return capital(template.format(**things))


def listing(words: Sequence[str], last: str = "and") -> str:
    """Words as English lists them: "a", "a and b", "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
