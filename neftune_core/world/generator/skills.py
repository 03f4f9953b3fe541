"""Small tasks with one right answer: counting, sorting, opposites, plurals, spelling, homes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neftune_core.world.generator.chance import Chance
from neftune_core.world.generator.entities import Thing, article, capital, listing
from neftune_core.world.generator.facts import ASKED
from neftune_core.world.generator.lexicon import DAY, GROUPS, KINDS, MONTH, NUMBERS, OPPOSITE_PAIRS, SEASONS


@dataclass(frozen=True)
class Task:
    """A task of a skill.

    Attributes:
        skill: Name of the skill.
        key: Identity of the task, whatever its wording.
        fields: Values for the wordings of the skill.
        answer: The right answer.
        material: List or word that can be given as separate input.
    """

    skill: str
    key: str
    fields: dict[str, str]
    answer: str
    material: str = ""


@dataclass(frozen=True)
class Skill:
    """One skill: how to make a task, its wordings in pretraining, and those that pretraining never uses."""

    make: Callable[[Chance], Task]
    asks: tuple[str, ...]
    held: tuple[str, ...] = ()


def _words(kind: str) -> list[str]:
    return [thing.name for thing in KINDS[kind]]


_GROUP_KINDS = tuple(GROUPS)
_COUNTABLE = tuple(thing for kind in GROUPS for thing in KINDS[kind] if thing.a != thing.name)
_ALL_WORDS = tuple(word for kind in GROUPS for word in _words(kind) if " " not in word)
_PLURAL_PAIRS = tuple((thing.name, thing.many) for thing in _COUNTABLE)


def _homes() -> tuple[tuple[str, str], ...]:
    by_home: dict[str, list[str]] = {}
    for fact in ASKED:
        if fact.relation.key == "person home":
            by_home.setdefault(fact.value.text, []).append(fact.thing.name)
    return tuple((home, listing(sorted(names))) for home, names in sorted(by_home.items()) if len(names) == 2)


HOMES = _homes()


def _opposite(chance: Chance) -> Task:
    first, second = chance.shuffled(chance.one(OPPOSITE_PAIRS))
    return Task("opposite", first, {"word": first}, f"{capital(second)}.", first)


def _plural(chance: Chance) -> Task:
    one, many = chance.one(_PLURAL_PAIRS)
    return Task("plural", one, {"word": one}, f"{capital(many)}.", one)


def _list(chance: Chance, low: int, high: int) -> list[str]:
    kind = chance.one(_GROUP_KINDS)
    return chance.some(_words(kind), chance.between(low, high))


def _count(chance: Chance) -> Task:
    words = _list(chance, 2, 7)
    line = ", ".join(words)
    return Task("count", line, {"list": line}, f"{capital(NUMBERS[len(words)])}.", line)


def _sort_numbers(chance: Chance) -> Task:
    numbers = chance.some(range(1, 20), chance.between(3, 4))
    line = ", ".join(map(str, numbers))
    return Task("sort numbers", line, {"list": line}, f"{', '.join(map(str, sorted(numbers)))}.", line)


def _sort_words(chance: Chance) -> Task:
    words = chance.some(_ALL_WORDS, 3)
    while len({word[0] for word in words}) < 3:
        words = chance.some(_ALL_WORDS, 3)
    line = ", ".join(words)
    return Task("sort words", line, {"list": line}, capital(f"{', '.join(sorted(words))}."), line)


def _odd(chance: Chance) -> Task:
    kind, other = chance.some(_GROUP_KINDS, 2)
    words = chance.some(_words(kind), 3)
    odd = chance.one([word for word in _words(other) if word not in _words(kind)])
    line = ", ".join(chance.shuffled([*words, odd]))
    return Task("odd", line, {"list": line}, f"{capital(odd)}.", line)


def _lives(chance: Chance) -> Task:
    home, names = chance.one(HOMES)
    return Task("lives", home, {"home": home}, f"{names}.")


def _after(chance: Chance) -> Task:
    days, months = [day.name for day in DAY], [month.name for month in MONTH]
    numbers = list(NUMBERS)
    what, series = chance.one((("day", days), ("month", months), ("number", numbers), ("season", list(SEASONS))))
    place = chance.below(len(series) - 1) if what == "number" else chance.below(len(series))
    after = series[(place + 1) % len(series)]
    return Task("after", f"{what} {series[place]}", {"what": what, "word": series[place]}, f"{capital(after)}.")


def _before(chance: Chance) -> Task:
    task = _after(chance)
    word = task.answer[:-1]
    if task.fields["what"] in ("number", "season"):
        word = word.lower()
    fields = {"what": task.fields["what"], "word": word}
    return Task("before", f"{fields['what']} {word}", fields, f"{capital(task.fields['word'])}.")


def _sum(chance: Chance) -> Task:
    first, second = chance.between(0, 10), chance.between(0, 10)
    return Task("sum", f"{first} + {second}", {"sum": f"{first} + {second}"}, f"{first + second}.")


def _difference(chance: Chance) -> Task:
    first, second = sorted((chance.between(0, 12), chance.between(0, 12)), reverse=True)
    return Task("difference", f"{first} - {second}", {"sum": f"{first} - {second}"}, f"{first - second}.")


def _sum_in_words(chance: Chance) -> Task:
    first, second = chance.between(1, 10), chance.between(1, 10)
    fields = {"first": NUMBERS[first], "second": NUMBERS[second]}
    answer = f"{capital(NUMBERS[first + second])}."
    return Task("sum in words", f"{first} and {second}", fields, answer)


def _spell(chance: Chance) -> Task:
    word = chance.one(_ALL_WORDS)
    return Task("spell", word, {"word": word}, f"{'-'.join(word)}.", word)


def _letter(chance: Chance) -> Task:
    word = chance.one(_ALL_WORDS)
    return Task("letter", word, {"word": word}, f"{word[0]}.", word)


def _letters(chance: Chance) -> Task:
    word = chance.one(_ALL_WORDS)
    return Task("letters", word, {"word": word}, f"{capital(NUMBERS[len(word)])}.", word)


def _which_group(chance: Chance) -> Task:
    kind, other = chance.some(_GROUP_KINDS, 2)
    word = chance.one([name for name in _words(kind) if name not in _words(other)])
    groups = [article(GROUPS[name][0]) for name in chance.shuffled((kind, other))]
    fields = {"thing": _the(kind, word), "groups": " or ".join(groups)}
    return Task("group", word, fields, f"{capital(article(GROUPS[kind][0]))}.")


def _the(kind: str, word: str) -> str:
    return next(thing.a for thing in KINDS[kind] if thing.name == word)


def _bigger(chance: Chance) -> Task:
    first, second = chance.some(range(1, 20), 2)
    line = f"{first} or {second}"
    return Task("bigger", line, {"list": line}, f"{max(first, second)}.")


def _smaller(chance: Chance) -> Task:
    first, second = chance.some(range(1, 20), 2)
    line = f"{first} or {second}"
    return Task("smaller", line, {"list": line}, f"{min(first, second)}.")


def _last(chance: Chance) -> Task:
    words = _list(chance, 3, 5)
    line = ", ".join(words)
    return Task("last", line, {"list": line}, f"{capital(words[-1])}.", line)


def _first(chance: Chance) -> Task:
    words = _list(chance, 3, 5)
    line = ", ".join(words)
    return Task("first", line, {"list": line}, f"{capital(words[0])}.", line)


def _repeat(chance: Chance) -> Task:
    word, times = chance.one(_ALL_WORDS), chance.between(2, 4)
    fields = {"word": word, "times": NUMBERS[times]}
    return Task("repeat", f"{word} {times}", fields, capital(", ".join([word] * times)) + ".")


def _copy(chance: Chance) -> Task:
    line = ", ".join(_list(chance, 2, 5))
    return Task("copy", line, {"list": line}, f"{capital(line)}.", line)


def _member(chance: Chance) -> Task:
    kind, *others = chance.some(_GROUP_KINDS, 3)
    word = chance.one(_words(kind))
    wrong = [chance.one([name for name in _words(other) if name not in _words(kind)]) for other in others]
    line = ", ".join(chance.shuffled([word, *wrong]))
    fields = {"list": line, "group": article(GROUPS[kind][0])}
    return Task("member", line, fields, f"{capital(word)}.", line)


_NAMED_KINDS = (
    *((kind, "", many) for kind, (_, many) in GROUPS.items() if " " not in many),
    ("animal", "a bird", "birds"),
    ("animal", "a mammal", "mammals"),
    ("animal", "an insect", "insects"),
    ("food", "a fruit", "fruits"),
    ("food", "a vegetable", "vegetables"),
    ("food", "a drink", "drinks"),
)


def _name(chance: Chance) -> Task:
    kind, narrower, many = chance.one(_NAMED_KINDS)
    words = [thing.name for thing in KINDS[kind] if narrower in ("", thing.values.get("kind"))]
    count = chance.between(2, 3)
    answer = capital(", ".join(chance.some(words, count)))
    return Task("name", many, {"count": NUMBERS[count], "many": many}, f"{answer}.")


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


SKILLS: dict[str, Skill] = {
    "opposite": Skill(
        _opposite,
        _lines("""What is the opposite of {word}?
        Tell me the opposite of {word}.
        Which word is the opposite of {word}?
        Give the opposite: {word}"""),
        _lines("""Do you know the opposite of {word}?
        What is the opposite of this word: {word}"""),
    ),
    "plural": Skill(
        _plural,
        _lines("""What is the plural of {word}?
        Tell me the plural of {word}.
        There is one {word}. What do you say when there are two?
        Give the plural: {word}"""),
        _lines("""Do you know the plural of {word}?
        What is the plural of this word: {word}"""),
    ),
    "count": Skill(
        _count,
        _lines("""How many words are in this list: {list}
        Count the words: {list}
        Count these words.
        Tell me how many words there are: {list}"""),
        _lines("""How many words do you see: {list}
        Count the words in this list: {list}"""),
    ),
    "sort numbers": Skill(
        _sort_numbers,
        _lines("""Put these numbers in order: {list}
        Sort the numbers: {list}
        Put the numbers in order, the smallest first: {list}
        Sort these numbers."""),
        _lines("""Sort these numbers, the smallest first: {list}
        Put this list of numbers in order: {list}"""),
    ),
    "sort words": Skill(
        _sort_words,
        _lines("""Put these words in the order of the alphabet: {list}
        Sort the words: {list}
        Sort these words from a to z: {list}
        Sort these words."""),
        _lines("""Sort this list from a to z: {list}
        Put the words in this list in the order of the alphabet: {list}"""),
    ),
    "odd": Skill(
        _odd,
        _lines("""Which word is the odd one out: {list}
        Find the odd one out: {list}
        Which word does not belong: {list}
        Find the word that does not belong."""),
        _lines("""Which is the odd one out in this list: {list}
        Tell me the odd one out: {list}"""),
    ),
    "lives": Skill(
        _lives,
        _lines("""Who lives {home}?
        Tell me who lives {home}.
        Which people live {home}?
        Who has a house {home}?"""),
        _lines("""Do you know who lives {home}?
        Which two people live {home}?"""),
    ),
    "after": Skill(
        _after,
        _lines("""Which {what} comes after {word}?
        What comes after {word}?
        Tell me the {what} after {word}."""),
        _lines("""Do you know which {what} comes after {word}?
        What is the {what} after {word}?"""),
    ),
    "before": Skill(
        _before,
        _lines("""Which {what} comes before {word}?
        What comes before {word}?
        Tell me the {what} before {word}."""),
    ),
    "sum": Skill(
        _sum,
        _lines("""What is {sum}?
        {sum} = ?
        How much is {sum}?
        {sum}"""),
    ),
    "difference": Skill(
        _difference,
        _lines("""What is {sum}?
        {sum} = ?
        How much is {sum}?"""),
    ),
    "sum in words": Skill(
        _sum_in_words,
        _lines("""What is {first} and {second}?
        How much is {first} and {second}?
        What do {first} and {second} make?"""),
    ),
    "spell": Skill(
        _spell,
        _lines("""Spell {word}.
        How do you spell {word}?
        Spell this word: {word}"""),
    ),
    "letter": Skill(
        _letter,
        _lines("""Which is the first letter of {word}?
        With which letter does {word} begin?
        What is the first letter of this word: {word}"""),
    ),
    "letters": Skill(
        _letters,
        _lines("""How many letters does {word} have?
        Count the letters: {word}"""),
    ),
    "group": Skill(
        _which_group,
        _lines("""Is {thing} {groups}?
        What is {thing}, {groups}?
        Tell me: is {thing} {groups}?"""),
    ),
    "bigger": Skill(
        _bigger,
        _lines("""Which number is bigger, {list}?
        What is more, {list}?"""),
    ),
    "smaller": Skill(
        _smaller,
        _lines("""Which number is smaller, {list}?
        What is less, {list}?"""),
    ),
    "last": Skill(
        _last,
        _lines("""Which word is the last in this list: {list}
        What is the last word: {list}"""),
    ),
    "first": Skill(
        _first,
        _lines("""Which word is the first in this list: {list}
        What is the first word: {list}"""),
    ),
    "repeat": Skill(
        _repeat,
        _lines("""Say {word} {times} times.
        Repeat {word} {times} times."""),
    ),
    "copy": Skill(
        _copy,
        _lines("""Say after me: {list}
        Repeat this list: {list}
        Copy the words."""),
    ),
    "name": Skill(
        _name,
        _lines("""Name {count} {many}.
        Tell me the names of {count} {many}.
        Which {many} do you know? Name {count}."""),
    ),
    "member": Skill(
        _member,
        _lines("""Which of these is {group}: {list}
        Find {group} in this list: {list}
        Is there {group} here? {list}"""),
    ),
}

# The skills of the instruction set; the others are there so that these can be learned.
ASKED_SKILLS = ("opposite", "plural", "count", "sort numbers", "sort words", "odd", "lives", "after")


def statement(chance: Chance) -> str:
    """Return a statement about a skill: an opposite, a plural, a spelling, an order, a sum."""
    return chance.one(_STATEMENTS)(chance)


def _state_opposite(chance: Chance) -> str:
    task = _opposite(chance)
    return f"The opposite of {task.key} is {task.answer.lower()}"


def _state_plural(chance: Chance) -> str:
    one, many = chance.one(_PLURAL_PAIRS)
    return chance.one((f"One {one}, two {many}.", f"The plural of {one} is {many}."))


def _state_spelling(chance: Chance) -> str:
    task = _spell(chance)
    return f"The word {task.key} is spelled {task.answer}"


def _state_letter(chance: Chance) -> str:
    word = chance.one(_ALL_WORDS)
    return f"The word {word} begins with {word[0]}."


def _state_order(chance: Chance) -> str:
    task = _after(chance)
    return f"After {task.fields['word']} comes {_plain(task)}."


def _plain(task: Task) -> str:
    word = task.answer[:-1]
    return word.lower() if task.fields["what"] in ("number", "season") else word


def _state_sum(chance: Chance) -> str:
    first, second = chance.between(0, 10), chance.between(0, 10)
    return f"{first} + {second} = {first + second}."


def _state_pair(chance: Chance) -> str:
    home, names = chance.one(HOMES)
    return f"{names} live {home}."


def _state_group(chance: Chance) -> str:
    kind = chance.one(_GROUP_KINDS)
    things: list[Thing] = chance.some(KINDS[kind], 3)
    return capital(f"{listing([thing.a for thing in things])} are {GROUPS[kind][1]}.")


def _state_count(chance: Chance) -> str:
    return f"Count with me: {', '.join(NUMBERS[1 : chance.between(3, 12) + 1])}."


_STATEMENTS = (
    _state_opposite,
    _state_plural,
    _state_spelling,
    _state_letter,
    _state_order,
    _state_sum,
    _state_pair,
    _state_group,
    _state_count,
)
