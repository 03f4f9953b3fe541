"""Answers of the base and the arms of a record, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from neftune_core.arms.saving import load_arm
from neftune_core.arms.stack import AdapterStack
from neftune_core.data.chat import prompt_ids
from neftune_core.errors import DataError, RecordError
from neftune_core.evaluation.answers import stream_answers
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.loading import LoadedModel, load
from neftune_core.models.trees import fingerprint
from neftune_core.settings import Limits
from neftune_core.training.record import Record
from neftune_core.training.study import Prompt, answer_lines, as_messages, holding


def saved_arms(record: Record) -> list[str]:
    """The arms whose adapters the record holds, control first, as the study names them."""
    study = record.study
    return [name for name in study.arms if record.arm_folder(name, study.seed).is_dir()]


def compare(
    record: Record,
    settings: AnswerSettings,
    limits: Limits,
    arms: Sequence[str] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """The growing answers, as `answer_lines` gives them, yielded after each token of the one batched decode.

    `arms` None takes every saved arm; the base always comes first. Raises `RecordError` where the record holds
    no adapters or its base has changed, and `Cancelled` once `should_stop()` is true.
    """
    settings.check(limits)
    settings.require_prompts()
    study = record.study
    names = list(arms) if arms is not None else saved_arms(record)
    missing = [name for name in names if name not in saved_arms(record)]
    if missing or not names:
        raise RecordError(f"The record holds no trained arm {', '.join(missing) or 'at all'}: train the study first.")
    loaded = _base_of(record)
    training = study.training
    stack = AdapterStack(
        loaded, len(names), rank=training.lora_rank, alpha=training.lora_alpha, targets=training.lora_targets
    )
    for slot, name in enumerate(names, start=1):
        load_arm(stack, slot, record.arm_folder(name, study.seed))
    prompts = [Prompt(as_messages(text, settings.system)) for text in settings.prompts]
    ids = [prompt_ids(prompt.messages, loaded.tokenizer) for prompt in prompts]
    for answers in holding(stream_answers(stack, range(len(names) + 1), ids, settings, should_stop)):
        yield answer_lines(prompts, ["base", *names], answers, loaded.tokenizer)


def _base_of(record: Record) -> LoadedModel:
    """The model that the arms were trained on, in the same precision; raises `RecordError` where it has changed."""
    about = record.about.get("model", {})
    model = record.study.model
    loaded = load(model.model_copy(update={"precision": about.get("precision", model.precision)}))
    if about.get("fingerprint") not in (None, fingerprint(loaded.model)):
        raise RecordError(
            f"The model {loaded.name} is not the one that this study was trained on: its weights have changed since."
        )
    return loaded


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
