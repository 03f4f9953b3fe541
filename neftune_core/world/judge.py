"""Judge whether a text is good English about this world, with the grammar that generates the pretraining text.

A sentence is well formed if one of the world's wordings can produce it with slots that agree: a tool has its own use, a
pronoun fits its person, and nobody meets themselves. Truth is not checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from neftune_core.world import plots
from neftune_core.world.entities import capital
from neftune_core.world.lexicon import (
    ENTITIES,
    GROUPS,
    NUMBERS,
    OPPOSITE_PAIRS,
    RELATIONS,
    SEASONS,
    TALK,
    UNKNOWN,
    Relation,
)

_SENTENCE = re.compile(r'[^.!?]+[.!?]"?')


@dataclass(frozen=True)
class _Pattern:
    """A wording as a regular expression.

    Attributes:
        expression: Matches the sentences of the wording, with one group per slot.
        start: Text before the first slot, with a capital first letter; the whole text if there is no slot.
        slots: Role and form of each group.
        roles: The entities or values that can fill each role.
    """

    expression: re.Pattern[str]
    start: str
    slots: tuple[tuple[str, str], ...]
    roles: Mapping[str, Sequence[Any]]


def sentences(text: str) -> list[str]:
    """Split a text into sentences with their final punctuation; an unpunctuated remainder is treated as a sentence."""
    found = [sentence.strip() for sentence in _SENTENCE.findall(text)]
    rest = _SENTENCE.sub("", text).strip()
    return [*found, rest] if rest else found


@lru_cache(maxsize=20_000)
def well_formed(sentence: str) -> bool:
    """Return whether the grammar can produce this sentence with slots that agree."""
    sentence = sentence.strip()
    if sentence in _fixed_sentences() or _is_list(sentence):
        return True
    return any(_fits(pattern, sentence) for pattern in _patterns() if sentence.startswith(pattern.start))


def share_well_formed(text: str) -> float:
    """Return the share of well-formed sentences in a text; 0 for an empty text."""
    found = sentences(text)
    return sum(map(well_formed, found)) / len(found) if found else 0.0


def sensible(text: str) -> bool:
    """Return whether the text has at least one sentence, and all of them are well formed."""
    return share_well_formed(text) == 1.0


def _fits(pattern: _Pattern, sentence: str) -> bool:
    match = pattern.expression.fullmatch(sentence)
    if match is None:
        return False
    choices = []
    for role, things in pattern.roles.items():
        seen = [(form, text) for (name, form), text in zip(pattern.slots, match.groups(), strict=True) if name == role]
        choices.append([thing for thing in things if _agrees(thing, seen)])
    return _all_different(choices, ())


def _agrees(thing: Any, seen: list[tuple[str, str]]) -> bool:
    return all(text in (_form_of(thing, form), capital(_form_of(thing, form))) for form, text in seen)


def _all_different(choices: list[list[Any]], taken: tuple[str, ...]) -> bool:
    if not choices:
        return True
    for thing in choices[0]:
        name = getattr(thing, "name", str(thing))
        if name not in taken and _all_different(choices[1:], (*taken, name)):
            return True
    return False


def _form_of(thing: Any, form: str) -> str:
    """Return the form of an entity that a slot requests; "" requests the text of a value."""
    return str(getattr(thing, form)) if form else str(thing)


def _pattern(template: str, roles: Mapping[str, Sequence[Any]]) -> _Pattern:
    slots = tuple(plots.slots(template))
    parts, rest = [], template
    for place, (role, form) in enumerate(slots):
        slot = f"{{{role}.{form}}}" if form else f"{{{role}}}"
        literal, _, rest = rest.partition(slot)
        parts.append(re.escape(literal if place or not literal else capital(literal)))
        forms = [_form_of(thing, form) for thing in roles[role]]
        if not place and not literal:
            forms = [capital(text) for text in forms]
        longest_first = sorted(set(forms), key=lambda text: (-len(text), text))
        parts.append(f"({'|'.join(map(re.escape, longest_first))})")
    parts.append(re.escape(rest if slots else capital(rest)))
    start = capital(template[: template.index("{")]) if slots else capital(template)
    used = {role: roles[role] for role, _ in slots}
    return _Pattern(re.compile("".join(parts)), start, slots, used)


def _fact_templates(relation: Relation) -> Iterable[str]:
    yield from relation.states
    yield relation.answer
    first = relation.states[0]
    yield f"yes, {first}"
    yield f"no, {first}"
    for wording in relation.states:
        if wording.startswith("{s.the} ") and "{s." not in wording[1:]:
            yield "{s.it} " + wording.removeprefix("{s.the} ")


@cache
def _patterns() -> tuple[_Pattern, ...]:
    found = []
    for relation in RELATIONS:
        things = [thing for thing in ENTITIES[relation.kind] if relation.name in thing.values]
        roles = {"s": things, "v": relation.values}
        found += [_pattern(template, roles) for template in _fact_templates(relation)]
    for plot in plots.PLOTS:
        for template in dict.fromkeys(template for moment in plot for template in moment):
            for variant in dict.fromkeys((template, plots.with_hero_name(template))):
                found.append(_pattern(variant, plots.ROLES))
    return tuple(found)


@cache
def _fixed_sentences() -> frozenset[str]:
    """Return the sentences without slots: answers in dialogues, the answer to unanswerable questions, bare values."""
    fixed = [sentence for _, answer in TALK for sentence in sentences(answer)]
    bare = [found.bare for relation in RELATIONS for found in relation.values]
    return frozenset((*fixed, *sentences(UNKNOWN), *bare))


@cache
def _list_words() -> frozenset[str]:
    words = [word for pair in OPPOSITE_PAIRS for word in pair]
    words += [form for kind in ENTITIES for thing in ENTITIES[kind] for form in (thing.name, thing.many, thing.a)]
    words += [*NUMBERS, *SEASONS]
    words += [form for one, many in GROUPS.values() for form in (f"a {one}", f"an {one}", many)]
    return frozenset(word.lower() for word in words)


def _is_list(sentence: str) -> bool:
    """Return whether the sentence is a bare answer: known words or numbers in a list, or a spelled word."""
    body = sentence.removesuffix(".")
    if re.fullmatch(r"[a-z](-[a-z])*|\d{1,2}(, \d{1,2})*", body):
        return True
    words = re.split(r", | and ", body)
    return bool(body) and all(word.lower() in _list_words() for word in words)
