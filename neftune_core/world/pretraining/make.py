"""All steps of `neftune world build`: pretrain, measure the model, and write the results and the model card."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from neftune_core.home import assets
from neftune_core.world.generator import outside, skills, stories, text, vocabulary
from neftune_core.world.generator.chance import Chance
from neftune_core.world.generator.facts import ASKED, FACTS, STATED, Fact
from neftune_core.world.generator.sets import SETS, Row, instruction_set
from neftune_core.world.generator.text import text_hash
from neftune_core.world.judge import sensible
from neftune_core.world.lexicon import ENTITIES
from neftune_core.world.pretraining.build import BuildEvent, build, history_of, tokens_of
from neftune_core.world.pretraining.settings import WorldSettings
from neftune_core.world.scoring import does_not_know, exact_match, score

BATCH = 32
NEW_TOKENS = 128


class ScoredPrompt(NamedTuple):
    """A prompt and the function that scores its answers.

    Attributes:
        prompt: Text of the prompt.
        worth: Function that returns the score of an answer, from 0 to 1.
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


CARD_FILE, MEASURED_FILE = "README.md", "measured.json"
HASHED_CHUNKS = 10
LOSS_STEPS = (100, 500, 1_000, 2_000, 3_000, 4_000)


def make(folder: Path, settings: WorldSettings | None = None) -> Iterator[BuildEvent | MeasureResult]:
    """Build the model, measure it, and write the results and the card.

    Args:
        folder: Folder for the model.
        settings: The recipe; the defaults if None.

    Yields:
        Every training event and every measurement.
    """
    settings = settings or WorldSettings()
    yield from build(folder, settings)
    model, tokenizer = load(folder)
    shares = {}
    for found in measure(model, tokenizer):
        shares[found.name] = found.share
        yield found
    making = _statistics(model, settings)
    measured = {"shares": {name: round(share, 4) for name, share in shares.items()}, "making": making}
    (folder / MEASURED_FILE).write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(card(settings, shares, making), encoding="utf-8")


def load(folder: Path) -> tuple[Any, Any]:
    """Load the model in `folder`, in float32 and evaluation mode, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(str(folder))


def _statistics(model: Any, settings: WorldSettings) -> dict[str, Any]:
    """Return the statistics of a build: sizes, duration, losses in nats, and SHA-256 hashes."""
    history = history_of(settings)
    steps = len(history.losses)
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "tokens": tokens_of(settings),
        "steps": steps,
        "minutes": history.seconds / 60,
        "losses": {step: history.losses[step - 1] for step in LOSS_STEPS if step <= steps},
        "last_loss": history.last_loss(),
        "text_hash": text_hash(HASHED_CHUNKS),
        "tokenizer_hash": vocabulary.tokenizer_hash(vocabulary.train()),
    }


def table(shares: Mapping[str, float]) -> str:
    """Return the results as a Markdown table with targets; `shares` maps names in `WORLD_MEASURES` to mean scores."""
    lines = ["| measurement | target | result |", "|---|---|---|"]
    for name, measured in WORLD_MEASURES.items():
        if name in shares:
            bound = "<=" if measured.at_most else ">="
            target = "reported" if measured.target is None else f"{bound} {measured.target:.0%}"
            lines.append(f"| {measured.words} | {target} | {shares[name]:.1%} |")
    return "\n".join(lines) + "\n"


def card(settings: WorldSettings, shares: Mapping[str, float], making: Mapping[str, Any]) -> str:
    """Return the model card in Markdown, with front matter for model hubs.

    Args:
        settings: The recipe.
        shares: Measured shares by name.
        making: Statistics of the build.

    Returns:
        The text.
    """
    template = (assets() / "world" / "card.md").read_text(encoding="utf-8")
    return template.format(
        settings=settings,
        making=making,
        parameters=making["parameters"] / 1e6,
        tokens=making["tokens"] / 1e6,
        decay=100 * settings.decay_share,
        things=sum(map(len, ENTITIES.values())),
        facts=len(FACTS),
        stated=len(STATED),
        losses="\n".join(f"| {step:,} | {loss:.4f} |" for step, loss in sorted(making["losses"].items())),
        table=table(shares),
    )
