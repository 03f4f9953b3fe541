"""Measurements of the bundled model with greedy decoding, for its card."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from neftune_core.world.generator import outside, skills, stories, text
from neftune_core.world.generator.chance import Chance
from neftune_core.world.generator.facts import ASKED, STATED, Fact
from neftune_core.world.generator.sets import SETS, Row, instruction_set
from neftune_core.world.judge import sensible
from neftune_core.world.scoring import does_not_know, exact_match, score

BATCH = 32
NEW_TOKENS = 128


class ScoredPrompt(NamedTuple):
    """A prompt, and the function that scores its answers from 0 to 1."""

    prompt: str
    worth: Callable[[str], float]


class WorldMeasure(NamedTuple):
    """One measurement; `target` is None if the result is only reported, and an upper bound with `at_most`."""

    words: str
    target: float | None
    questions: Callable[[], list[ScoredPrompt]]
    at_most: bool = False


class MeasureResult(NamedTuple):
    """The mean score of one measurement from 0 to 1, and the (prompt, answer, score) of each prompt."""

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


def _of_set(name: str) -> WorldMeasure:
    is_new = name == "format"  # pretraining never uses this form
    return WorldMeasure(f"Set {name}, held-out part", 0.10 if is_new else None, partial(_set_questions, name), is_new)


WORLD_MEASURES: dict[str, WorldMeasure] = {
    "english": WorldMeasure("Grammatical, sensible answers to 200 prompts about its world", 0.95, _english_questions),
    "trained wordings": WorldMeasure(
        "Questions about facts in pretraining wordings", 0.95, partial(_fact_questions, ASKED, "trained wordings")
    ),
    "held-out wordings": WorldMeasure(
        "Questions about facts in held-out wordings", 0.85, partial(_fact_questions, ASKED, "held-out wordings")
    ),
    "stated only": WorldMeasure(
        "Facts that pretraining stated but never asked about", None, partial(_fact_questions, STATED, "stated only")
    ),
    "outside": WorldMeasure(
        'Unanswerable questions with held-out wordings or topics, answered with "I do not know"',
        0.80,
        partial(_outside_questions, "outside", held=True),
    ),
    "outside, familiar": WorldMeasure(
        'Unanswerable questions in familiar wordings, answered with "I do not know"',
        None,
        partial(_outside_questions, "outside, familiar", held=False),
    ),
} | {name: _of_set(name) for name in SETS}


def answers(model: Any, tokenizer: Any, prompts: Sequence[str], new_tokens: int = NEW_TOKENS) -> list[str]:
    """Generate a greedy answer to each prompt, each in its own conversation.

    Args:
        model: Model that answers.
        tokenizer: Its tokenizer.
        prompts: Text of each prompt.
        new_tokens: Maximum number of new tokens.

    Returns:
        The answers.
    """
    import torch

    found = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        encoded = [_prompt_ids(tokenizer, prompt) for prompt in batch]
        longest = max(map(len, encoded))
        padded = [[tokenizer.pad_token_id] * (longest - len(ids)) + ids for ids in encoded]
        mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in encoded]
        with torch.inference_mode():
            made = model.generate(
                input_ids=torch.tensor(padded),
                attention_mask=torch.tensor(mask),
                do_sample=False,
                max_new_tokens=new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        found += tokenizer.batch_decode(made[:, longest:], skip_special_tokens=True)
    return [answer.strip() for answer in found]


def _prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer.encode(rendered, add_special_tokens=False))


def measure(
    model: Any, tokenizer: Any, names: Sequence[str] = tuple(WORLD_MEASURES), new_tokens: int = NEW_TOKENS
) -> Iterator[MeasureResult]:
    """Run measurements in turn.

    Args:
        model: Model to measure.
        tokenizer: Its tokenizer.
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
