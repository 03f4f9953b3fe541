"""Answers of the base and the arms of a record, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from neftune_core.arms.saving import is_saved
from neftune_core.data.chat import prompt_ids
from neftune_core.errors import DataError, RecordError
from neftune_core.evaluation.answers import stream_answers
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.settings import Limits
from neftune_core.training.accelerator import holding
from neftune_core.training.methods import make_arms
from neftune_core.training.prompts import Prompt, answer_lines, as_messages
from neftune_core.training.record import Record
from neftune_core.training.study import base_of


def saved_arms(record: Record, seed: int | None = None) -> list[str]:
    """The arms whose weights of `seed` (by default the study's first) the record holds, control first."""
    study = record.study
    chosen = study.seed if seed is None else seed
    return [name for name in study.arms if is_saved(record.arm_folder(name, chosen))]


def saved_seeds(record: Record) -> list[int]:
    """The seeds of which the record holds any arm, the first one first."""
    study = record.study
    return [seed for seed in range(study.seed, study.seed + study.seeds) if saved_arms(record, seed)]


def compare(
    record: Record,
    settings: AnswerSettings,
    limits: Limits,
    *,
    arms: Sequence[str] | None = None,
    seed: int | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """The growing answers, as `answer_lines` gives them, yielded after each token of the one batched decode.

    `arms` None takes every saved arm, `seed` None the first seed with any; the base always comes first. Raises
    `RecordError` where the record holds no trained arm or its base has changed, and `Cancelled` once `should_stop()`
    is true.
    """
    settings.check(limits)
    settings.require_prompts()
    chosen = seed if seed is not None else next(iter(saved_seeds(record)), record.study.seed)
    saved = saved_arms(record, chosen)
    names = list(arms) if arms is not None else saved
    missing = [name for name in names if name not in saved]
    if missing or not names:
        raise RecordError(f"The record holds no trained arm {', '.join(missing) or 'at all'}: train the study first.")
    loaded = base_of(record)
    stack = make_arms(loaded, len(names), record.study.training)
    for slot, name in enumerate(names, start=1):
        stack.load(slot, record.arm_folder(name, chosen))
    prompts = [Prompt(as_messages(text, settings.system)) for text in settings.prompts]
    ids = [prompt_ids(prompt.messages, loaded.tokenizer) for prompt in prompts]
    for answers in holding(stream_answers(stack, range(len(names) + 1), ids, settings, should_stop)):
        yield answer_lines(prompts, ["base", *names], answers, loaded.tokenizer)


def read_prompts(path: Path, limits: Limits) -> tuple[str, ...]:
    """Prompts from a text file, one a line, or from JSONL with `prompt`; raises `DataError` or `DoesNotFit`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The prompts {path.name} cannot be read: {error}.") from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    objects = path.suffix.lower() in (".jsonl", ".json")
    prompts = tuple(_prompt_of(line, number) if objects else line for number, line in numbered)
    AnswerSettings(prompts=prompts).check(limits)
    return prompts


def _prompt_of(line: str, number: int) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"Line {number} of the prompts is not a JSON object with `prompt`.") from None
    if not isinstance(prompt, str):
        raise DataError(f"The prompt in line {number} is not text.")
    return prompt
