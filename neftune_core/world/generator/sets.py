"""The instruction sets, each with a training and a held-out part.

Rows of the fact sets combine a fact and a wording. Rows of the skill set combine a task and a wording. Rows of the
story set combine two or three entities. No combination in a held-out part occurs in the training part of its set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from neftune_core.world.entities import listing
from neftune_core.world.generator import skills, stories
from neftune_core.world.generator.chance import Chance
from neftune_core.world.generator.facts import ASKED, STATED, Fact

Row = dict[str, Any]

WRONG_SHARE = 0.2
HELD_OUT_ROWS = 240

STORY_INSTRUCTIONS = (
    "Write a story about these things.",
    "Tell a story in which these appear.",
    "Make a short story of this.",
)


def _fact_row(fact: Fact, wording: str, output: str) -> Row:
    return {
        "instruction": fact.ask(wording),
        "input": "",
        "output": output,
        "about": fact.thing.name,
        "relation": fact.relation.key,
        "wording": wording,
        "trained_wording": wording in fact.relation.asks,
    }


def _pairs(facts: tuple[Fact, ...], chance: Chance, *, held: bool = True) -> list[tuple[Fact, str]]:
    """Return (fact, wording) pairs in random order, one per distinct question; `held` includes held-out wordings."""
    pairs: dict[str, tuple[Fact, str]] = {}
    for fact in facts:
        for wording in (*fact.relation.asks, *(fact.relation.held if held else ())):
            pairs.setdefault(fact.ask(wording), (fact, wording))
    return chance.shuffled(tuple(pairs.values()))


def _facts(rows: int, name: str, output: Callable[[Fact], str], *, held: bool) -> tuple[list[Row], list[Row]]:
    pairs = _pairs(ASKED, Chance("set", name), held=held)
    return _first((_fact_row(fact, wording, output(fact)) for fact, wording in pairs), rows)


def _noisy(rows: int) -> tuple[list[Row], list[Row]]:
    chance = Chance("set", "noisy")
    pairs = _pairs(ASKED, chance)[: rows + HELD_OUT_ROWS]
    wrong = sorted(chance.some(range(rows), round(rows * WRONG_SHARE)))
    made = []
    for number, (fact, wording) in enumerate(pairs):
        row = _fact_row(fact, wording, fact.answer())
        if number in wrong:
            row |= {"output": fact.answer(fact.wrong(chance)), "truth": fact.answer()}
        made.append(row | {"wrong": number in wrong})
    return made[:rows], made[rows:]


def _stated_facts(rows: int) -> tuple[list[Row], list[Row]]:
    """Return training rows about half of the facts; held out are other questions about these, and the other half."""
    chance = Chance("set", "stated")
    facts = tuple(chance.shuffled(STATED))
    first, second = facts[: len(facts) // 2], facts[len(facts) // 2 :]
    pairs = _pairs(first, chance)
    train, same = pairs[:rows], pairs[rows : rows + HELD_OUT_ROWS // 2]
    other = _pairs(second, chance)[: HELD_OUT_ROWS // 2]
    trained = {(fact.relation.key, fact.thing.name) for fact, _ in train}
    held = [
        _fact_row(fact, wording, fact.answer()) | {"trained_fact": (fact.relation.key, fact.thing.name) in trained}
        for fact, wording in (*same, *other)
    ]
    return [_fact_row(fact, wording, fact.answer()) for fact, wording in train], held


def _skill_rows(chance: Chance) -> Iterator[Row]:
    """Yield tasks, cycling through the skills; no pair of task and wording is repeated."""
    seen: list[tuple[str, str, str]] = []
    while True:
        for name in skills.ASKED_SKILLS:
            skill = skills.SKILLS[name]
            task = skill.make(chance)
            wording = chance.one([ask for ask in (*skill.asks, *skill.held) if "{" in ask])
            if (name, task.key, wording) not in seen:
                seen.append((name, task.key, wording))
                yield _skill_row(name, task, wording)


def _skill_row(name: str, task: skills.SkillTask, wording: str) -> Row:
    instruction, material = wording.format(**task.fields), ""
    for slot in (": {list}", ": {word}"):
        if wording.endswith(slot):
            instruction, material = wording.removesuffix(slot) + ".", task.material
    return {
        "instruction": _as_question(instruction),
        "input": material,
        "output": task.answer,
        "skill": name,
        "about": task.key,
        "wording": wording,
    }


def _as_question(instruction: str) -> str:
    if instruction.endswith(".") and instruction.startswith(("Which", "What", "How", "Do ")):
        return f"{instruction.removesuffix('.')}?"
    return instruction


def _story_rows(chance: Chance) -> Iterator[Row]:
    """Yield stories about given entities; no group of entities is repeated."""
    seen: list[tuple[str, ...]] = []
    while True:
        story = stories.tell(chance)
        cast = [thing for _, thing in story.cast]
        if len(cast) < 3:
            continue
        chosen = chance.some(cast, chance.between(2, 3))
        group = tuple(sorted(thing.name for thing in chosen))
        if group not in seen:
            seen.append(group)
            yield {
                "instruction": chance.one(STORY_INSTRUCTIONS),
                "input": listing([thing.the for thing in chosen]),
                "output": story.text,
                "things": [thing.name for thing in chosen],
            }


def _first(made: Iterator[Row], rows: int) -> tuple[list[Row], list[Row]]:
    return list(islice(made, rows)), list(islice(made, HELD_OUT_ROWS))


SETS: dict[str, tuple[int, Callable[[int], tuple[list[Row], list[Row]]]]] = {
    "facts": (240, partial(_facts, name="facts", output=Fact.answer, held=True)),
    "format": (150, partial(_facts, name="format", output=Fact.equation, held=False)),
    "story": (160, lambda rows: _first(_story_rows(Chance("set", "story")), rows)),
    "skill": (320, lambda rows: _first(_skill_rows(Chance("set", "skill")), rows)),
    "noisy": (120, _noisy),
    "stated": (120, _stated_facts),
}
"""Number of training rows of each set, and the function that makes this many training rows and the held-out rows."""


def instruction_set(name: str) -> tuple[list[Row], list[Row]]:
    """Return the training rows and the held-out rows of a set, which are the same on every machine."""
    rows, make = SETS[name]
    return make(rows)


def as_lines(rows: list[Row]) -> str:
    """Return the rows as JSONL."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def write(folder: Path) -> list[Path]:
    """Write `NAME-train.jsonl` and `NAME-held-out.jsonl` of every set into `folder`, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in SETS:
        for part, rows in zip(("train", "held-out"), instruction_set(name), strict=True):
            file = folder / f"{name}-{part}.jsonl"
            file.write_text(as_lines(rows), encoding="utf-8")
            files.append(file)
    return files
