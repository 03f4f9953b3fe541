"""Small tasks, such as counting, sorting, opposites, plurals and spelling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from neftune_core.world.entities import Entity, article, capital, listing
from neftune_core.world.generator.chance import Chance
from neftune_core.world.generator.facts import ASKED
from neftune_core.world.lexicon import ENTITIES, GROUPS, NUMBERS, OPPOSITE_PAIRS, SEASONS, lines, word_table


@dataclass(frozen=True)
class SkillTask:
    """One task, such as one word to spell.

    Attributes:
        key: Identity of the task, independent of its wording.
        fields: Values for the wordings of the skill.
        material: List or word that can be given as separate input.
    """

    key: str
    fields: dict[str, str]
    answer: str
    material: str = ""


@dataclass(frozen=True)
class Skill:
    """A kind of small task.

    Attributes:
        make: Draws a task.
        asks: Wordings of the task in pretraining.
        held: Wordings that pretraining never uses.
    """

    make: Callable[[Chance], SkillTask]
    asks: tuple[str, ...]
    held: tuple[str, ...] = ()


def _words(kind: str) -> list[str]:
    return [thing.name for thing in ENTITIES[kind]]


_GROUP_KINDS = tuple(GROUPS)
_COUNTABLE = tuple(thing for kind in GROUPS for thing in ENTITIES[kind] if thing.a != thing.name)
_ALL_WORDS = tuple(word for kind in GROUPS for word in _words(kind) if " " not in word)
_PLURAL_PAIRS = tuple((thing.name, thing.many) for thing in _COUNTABLE)


def _homes() -> tuple[tuple[str, str], ...]:
    by_home: dict[str, list[str]] = {}
    for fact in ASKED:
        if fact.relation.key == "person home":
            by_home.setdefault(fact.value.text, []).append(fact.thing.name)
    return tuple((home, listing(sorted(names))) for home, names in sorted(by_home.items()) if len(names) == 2)


HOMES = _homes()


def _opposite(chance: Chance) -> SkillTask:
    first, second = chance.shuffled(chance.one(OPPOSITE_PAIRS))
    return SkillTask(first, {"word": first}, f"{capital(second)}.", first)


def _plural(chance: Chance) -> SkillTask:
    one, many = chance.one(_PLURAL_PAIRS)
    return SkillTask(one, {"word": one}, f"{capital(many)}.", one)


def _list(chance: Chance, low: int, high: int) -> list[str]:
    kind = chance.one(_GROUP_KINDS)
    return chance.some(_words(kind), chance.between(low, high))


def _on_list(items: Sequence[object], answer: Sequence[object]) -> SkillTask:
    """Return a task on a list; the answer is a list too."""
    line, said = (", ".join(map(str, listed)) for listed in (items, answer))
    return SkillTask(line, {"list": line}, f"{capital(said)}.", line)


def _count(chance: Chance) -> SkillTask:
    words = _list(chance, 2, 7)
    return _on_list(words, [NUMBERS[len(words)]])


def _sort_numbers(chance: Chance) -> SkillTask:
    numbers = chance.some(range(1, 20), chance.between(3, 4))
    return _on_list(numbers, sorted(numbers))


def _sort_words(chance: Chance) -> SkillTask:
    words = chance.some(_ALL_WORDS, 3)
    while len({word[0] for word in words}) < 3:
        words = chance.some(_ALL_WORDS, 3)
    return _on_list(words, sorted(words))


def _odd(chance: Chance) -> SkillTask:
    kind, other = chance.some(_GROUP_KINDS, 2)
    words = chance.some(_words(kind), 3)
    odd = chance.one([word for word in _words(other) if word not in _words(kind)])
    return _on_list(chance.shuffled([*words, odd]), [odd])


def _lives(chance: Chance) -> SkillTask:
    home, names = chance.one(HOMES)
    return SkillTask(home, {"home": home}, f"{names}.")


_SERIES = (("day", _words("day")), ("month", _words("month")), ("number", [*NUMBERS]), ("season", [*SEASONS]))


def _after(chance: Chance) -> SkillTask:
    what, series = chance.one(_SERIES)
    index = chance.below(len(series) - (what == "number"))  # numbers do not start again after the last one
    word, after = series[index], series[(index + 1) % len(series)]
    return SkillTask(f"{what} {word}", {"what": what, "word": word}, f"{capital(after)}.")


def _before(chance: Chance) -> SkillTask:
    task = _after(chance)
    what, word = task.fields["what"], _plain(task)
    return SkillTask(f"{what} {word}", {"what": what, "word": word}, f"{capital(task.fields['word'])}.")


def _sum(chance: Chance) -> SkillTask:
    first, second = chance.between(0, 10), chance.between(0, 10)
    term = f"{first} + {second}"
    return SkillTask(term, {"sum": term}, f"{first + second}.")


def _difference(chance: Chance) -> SkillTask:
    first, second = sorted((chance.between(0, 12), chance.between(0, 12)), reverse=True)
    term = f"{first} - {second}"
    return SkillTask(term, {"sum": term}, f"{first - second}.")


def _sum_in_words(chance: Chance) -> SkillTask:
    first, second = chance.between(1, 10), chance.between(1, 10)
    fields = {"first": NUMBERS[first], "second": NUMBERS[second]}
    answer = f"{capital(NUMBERS[first + second])}."
    return SkillTask(f"{first} and {second}", fields, answer)


def _of_word(chance: Chance, answer: Callable[[str], str]) -> SkillTask:
    word = chance.one(_ALL_WORDS)
    return SkillTask(word, {"word": word}, f"{answer(word)}.", word)


def _which_group(chance: Chance) -> SkillTask:
    kind, other = chance.some(_GROUP_KINDS, 2)
    word = chance.one([name for name in _words(kind) if name not in _words(other)])
    groups = [article(GROUPS[name][0]) for name in chance.shuffled((kind, other))]
    thing = next(thing.a for thing in ENTITIES[kind] if thing.name == word)
    fields = {"thing": thing, "groups": " or ".join(groups)}
    return SkillTask(word, fields, f"{capital(article(GROUPS[kind][0]))}.")


def _compare(chance: Chance, best: Callable[[list[int]], int]) -> SkillTask:
    first, second = chance.some(range(1, 20), 2)
    line = f"{first} or {second}"
    return SkillTask(line, {"list": line}, f"{best([first, second])}.")


def _at(chance: Chance, index: int) -> SkillTask:
    words = _list(chance, 3, 5)
    return _on_list(words, [words[index]])


def _repeat(chance: Chance) -> SkillTask:
    word, times = chance.one(_ALL_WORDS), chance.between(2, 4)
    fields = {"word": word, "times": NUMBERS[times]}
    return SkillTask(f"{word} {times}", fields, capital(", ".join([word] * times)) + ".")


def _copy(chance: Chance) -> SkillTask:
    words = _list(chance, 2, 5)
    return _on_list(words, words)


def _member(chance: Chance) -> SkillTask:
    kind, *others = chance.some(_GROUP_KINDS, 3)
    word = chance.one(_words(kind))
    wrong = [chance.one([name for name in _words(other) if name not in _words(kind)]) for other in others]
    task = _on_list(chance.shuffled([word, *wrong]), [word])
    task.fields["group"] = article(GROUPS[kind][0])
    return task


_NAMED_KINDS = (
    *((kind, "", many) for kind, (_, many) in GROUPS.items() if " " not in many),
    ("animal", "a bird", "birds"),
    ("animal", "a mammal", "mammals"),
    ("animal", "an insect", "insects"),
    ("food", "a fruit", "fruits"),
    ("food", "a vegetable", "vegetables"),
    ("food", "a drink", "drinks"),
)


def _name(chance: Chance) -> SkillTask:
    kind, narrower, many = chance.one(_NAMED_KINDS)
    words = [thing.name for thing in ENTITIES[kind] if narrower in ("", thing.values.get("kind"))]
    count = chance.between(2, 3)
    answer = capital(", ".join(chance.some(words, count)))
    return SkillTask(many, {"count": NUMBERS[count], "many": many}, f"{answer}.")


_MAKERS: dict[str, Callable[[Chance], SkillTask]] = {
    "opposite": _opposite,
    "plural": _plural,
    "count": _count,
    "sort numbers": _sort_numbers,
    "sort words": _sort_words,
    "odd": _odd,
    "lives": _lives,
    "after": _after,
    "before": _before,
    "sum": _sum,
    "difference": _difference,
    "sum in words": _sum_in_words,
    "spell": partial(_of_word, answer="-".join),
    "letter": partial(_of_word, answer=lambda word: word[0]),
    "letters": partial(_of_word, answer=lambda word: capital(NUMBERS[len(word)])),
    "group": _which_group,
    "bigger": partial(_compare, best=max),
    "smaller": partial(_compare, best=min),
    "last": partial(_at, index=-1),
    "first": partial(_at, index=0),
    "repeat": _repeat,
    "copy": _copy,
    "name": _name,
    "member": _member,
}

SKILLS = {
    name: Skill(_MAKERS[name], lines(wordings["asks"]), lines(wordings.get("held", "")))
    for name, wordings in word_table("skills").items()
}

# The skills in the instruction set; pretraining on the others helps the model to learn these.
ASKED_SKILLS = ("opposite", "plural", "count", "sort numbers", "sort words", "odd", "lives", "after")


def statement(chance: Chance) -> str:
    """Return a statement with the solution of a task, such as an opposite, a plural, a spelling or a sum."""
    return chance.one(_STATEMENTS)(chance)


def _state_opposite(chance: Chance) -> str:
    task = _opposite(chance)
    return f"The opposite of {task.key} is {task.answer.lower()}"


def _state_plural(chance: Chance) -> str:
    one, many = chance.one(_PLURAL_PAIRS)
    return chance.one((f"One {one}, two {many}.", f"The plural of {one} is {many}."))


def _state(chance: Chance, name: str, wording: str) -> str:
    task = _MAKERS[name](chance)
    return wording.format(key=task.key, answer=task.answer)


def _state_order(chance: Chance) -> str:
    task = _after(chance)
    return f"After {task.fields['word']} comes {_plain(task)}."


def _plain(task: SkillTask) -> str:
    word = task.answer[:-1]
    return word.lower() if task.fields["what"] in ("number", "season") else word


def _state_pair(chance: Chance) -> str:
    home, names = chance.one(HOMES)
    return f"{names} live {home}."


def _state_group(chance: Chance) -> str:
    kind = chance.one(_GROUP_KINDS)
    things: list[Entity] = chance.some(ENTITIES[kind], 3)
    return capital(f"{listing([thing.a for thing in things])} are {GROUPS[kind][1]}.")


def _state_count(chance: Chance) -> str:
    return f"Count with me: {', '.join(NUMBERS[1 : chance.between(3, 12) + 1])}."


_STATEMENTS: tuple[Callable[[Chance], str], ...] = (
    _state_opposite,
    _state_plural,
    partial(_state, name="spell", wording="The word {key} is spelled {answer}"),
    partial(_state, name="letter", wording="The word {key} begins with {answer}"),
    _state_order,
    partial(_state, name="sum", wording="{key} = {answer}"),
    _state_pair,
    _state_group,
    _state_count,
)
