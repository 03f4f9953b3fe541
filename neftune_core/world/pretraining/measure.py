"""Measurements of the bundled model with greedy decoding, for its card."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from neftune_core.home import assets
from neftune_core.world.generator import outside, skills, stories, text
from neftune_core.world.generator.chance import Chance
from neftune_core.world.generator.facts import ASKED, STATED, Fact
from neftune_core.world.generator.sets import SETS, Row, instruction_set
from neftune_core.world.judge import sensible
from neftune_core.world.scoring import does_not_know, exact_match, score

BATCH = 32
NEW_TOKENS = 128


class ScoredPrompt(NamedTuple):
    """A prompt with a score for its answers.

    Attributes:
        prompt: Text of the prompt.
        worth: Returns the score of an answer, from 0 to 1.
    """

    prompt: str
    worth: Callable[[str], float]


class WorldMeasure(NamedTuple):
    """One measurement of the bundled model.

    Attributes:
        words: Description for the table.
        questions: Returns the prompts, each with a function that scores its answer.
        target: Target for the mean score; None if the result is only reported.
        at_most: Whether the target is an upper bound.
    """

    words: str
    questions: Callable[[], list[ScoredPrompt]]
    target: float | None = None
    at_most: bool = False


class MeasureResult(NamedTuple):
    """The result of one measurement.

    Attributes:
        name: Name of the measurement.
        share: Mean score, from 0 to 1.
        answers: The (prompt, answer, score) of each prompt.
    """

    name: str
    share: float
    answers: tuple[tuple[str, str, float], ...]


def prompt_of(row: Row) -> str:
    """Return the prompt of a row: its instruction, followed by an empty line and its input, if any."""
    return f"{row['instruction']}\n\n{row['input']}" if row["input"] else row["instruction"]


def _fact_questions(facts: Sequence[Fact], part: str, count: int = 300) -> list[ScoredPrompt]:
    chance = Chance("measure", part)
    found = []
    for _ in range(count):
        fact = chance.one(facts)
        wording = chance.one(fact.relation.held if part == "held-out wordings" else fact.relation.asks)
        found.append(ScoredPrompt(fact.ask(wording), partial(exact_match, wanted=fact.answer())))
    return found


def _outside_questions(part: str, *, held: bool) -> list[ScoredPrompt]:
    chance = Chance("measure", part)
    found: dict[str, ScoredPrompt] = {}
    while len(found) < 200:
        question = outside.question(chance, held=held)
        found[question] = ScoredPrompt(question, does_not_know)
    return list(found.values())


def _set_questions(name: str) -> list[ScoredPrompt]:
    return [ScoredPrompt(prompt_of(row), partial(score, row)) for row in instruction_set(name)[1]]


def _world_prompt(chance: Chance) -> str:
    """Draw a prompt about the world: a fact in any wording, a story, a small task, a greeting or a general question."""
    kind = chance.share()
    if kind < 0.5:
        fact = chance.one(ASKED)
        question = fact.ask(chance.one((*fact.relation.asks, *fact.relation.held)))
        return f"{question} {chance.one(text.FULL_SENTENCE)}" if kind < 0.2 else question
    if kind < 0.7:
        return chance.one(text.STORY_ASKS).format(things=text.name_cast(stories.tell(chance), chance))
    if kind < 0.85:
        return text.skill_turn(chance, chance.one(skills.ASKED_SKILLS))[0]
    if kind < 0.92:
        return text.dialogue_turn(chance)[0]
    turn = text.about_turn(chance.one(ASKED).thing, chance)
    return turn[0] if turn else "Tell me a story."


def _english_questions() -> list[ScoredPrompt]:
    chance = Chance("measure", "english")
    return [ScoredPrompt(_world_prompt(chance), sensible) for _ in range(200)]


_QUESTIONS: dict[str, Callable[[], list[ScoredPrompt]]] = {
    "english": _english_questions,
    "trained wordings": partial(_fact_questions, ASKED, "trained wordings"),
    "held-out wordings": partial(_fact_questions, ASKED, "held-out wordings"),
    "stated only": partial(_fact_questions, STATED, "stated only"),
    "outside": partial(_outside_questions, "outside", held=True),
    "outside, familiar": partial(_outside_questions, "outside, familiar", held=False),
    **{name: partial(_set_questions, name) for name in SETS},
}

_TABLES = tomllib.loads((assets() / "world" / "measures.toml").read_text(encoding="utf-8"))
WORLD_MEASURES = {name: WorldMeasure(**table, questions=_QUESTIONS[name]) for name, table in _TABLES.items()}


def answers(model: Any, tokenizer: Any, prompts: Sequence[str], new_tokens: int = NEW_TOKENS) -> list[str]:
    """Generate a greedy answer to each prompt, each in its own conversation.

    Args:
        model: Model that answers.
        tokenizer: Tokenizer of the model, with its chat template.
        prompts: Text of each prompt.
        new_tokens: Maximum number of new tokens.

    Returns:
        The answers.
    """
    import torch

    found = []
    for start in range(0, len(prompts), BATCH):
        encoded = tokenizer.apply_chat_template(
            [[{"role": "user", "content": prompt}] for prompt in prompts[start : start + BATCH]],
            add_generation_prompt=True,
            return_dict=True,
            padding=True,
            return_tensors="pt",
            tokenizer_kwargs={"padding_side": "left", "return_token_type_ids": False},
        )
        with torch.inference_mode():
            made = model.generate(
                **encoded,
                do_sample=False,
                max_new_tokens=new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        longest = encoded["input_ids"].shape[1]
        found += tokenizer.batch_decode(made[:, longest:], skip_special_tokens=True)
    return [answer.strip() for answer in found]


def measure(
    model: Any, tokenizer: Any, names: Sequence[str] = tuple(WORLD_MEASURES), new_tokens: int = NEW_TOKENS
) -> Iterator[MeasureResult]:
    """Run measurements one after another.

    Args:
        model: Model to measure.
        tokenizer: Tokenizer of the model, with its chat template.
        names: Names of the measurements, keys of `WORLD_MEASURES`.
        new_tokens: Maximum number of new tokens per answer.

    Yields:
        The results.
    """
    for name in names:
        questions = WORLD_MEASURES[name].questions()
        replies = answers(model, tokenizer, [question.prompt for question in questions], new_tokens)
        rows = tuple(
            (question.prompt, answer, question.worth(answer))
            for question, answer in zip(questions, replies, strict=True)
        )
        yield MeasureResult(name, sum(worth for _, _, worth in rows) / len(rows), rows)
