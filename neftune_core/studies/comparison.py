"""Answers of the base and the arms of a record, side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_core.data.examples import Message
from neftune_core.data.fitting import FittedPrompt
from neftune_core.engine.accelerator import holding
from neftune_core.engine.armset import BASE_SLOT
from neftune_core.engine.methods import make_arms
from neftune_core.engine.saving import is_saved
from neftune_core.errors import DataError, DoesNotFit, RecordError
from neftune_core.evaluation.answers import Column, stream_conversations
from neftune_core.evaluation.settings import AnswerSettings, DecodingSettings, check_count
from neftune_core.language import say
from neftune_core.models.loading import LoadedModel
from neftune_core.sentences import cause
from neftune_core.settings import Limits
from neftune_core.studies.prompts import Prompt, answer_lines, as_messages, fitted_own
from neftune_core.studies.records.record import Record
from neftune_core.studies.study import base_of, on_day_of

BASE = "base"
ROLES = ("system", "user", "assistant")


def saved_arms(record: Record, seed: int | None = None) -> list[str]:
    """The arms whose weights of `seed` (by default the study's first) the record holds, control first."""
    study = record.study
    chosen = study.seed if seed is None else seed
    return [name for name in study.arms if is_saved(record.arm_folder(name, chosen))]


def saved_seeds(record: Record) -> list[int]:
    """The seeds of which the record holds any arm, the first one first."""
    study = record.study
    return [seed for seed in range(study.seed, study.seed + study.seeds) if saved_arms(record, seed)]


@dataclass(frozen=True)
class Chosen:
    """One arm of one record and seed, to be asked."""

    record: Record
    arm: str
    seed: int


def chosen_arms(
    records: Sequence[Record], *, arms: Sequence[str] | None = None, seeds: Sequence[int] | None = None
) -> list[Chosen]:
    """The saved arms of the records: those called `arms`, of `seeds`, or all of each record's first seed with any.

    Raises `RecordError` where a record has no trained arm, or none of them has an arm or seed that is asked for.
    """
    found: list[Chosen] = []
    every: list[Chosen] = []
    for record in records:
        wanted = saved_seeds(record)[:1] if seeds is None else [seed for seed in seeds if saved_arms(record, seed)]
        own = [Chosen(record, arm, seed) for seed in wanted for arm in saved_arms(record, seed)]
        if not own and seeds is None:
            raise RecordError(
                say(
                    "The record {record} holds no trained arm: it has not been trained, or its adapters were not kept.",
                    record=record.name,
                )
            )
        every += own
        found += [one for one in own if arms is None or one.arm in arms]
    for missing in [arm for arm in arms or [] if all(one.arm != arm for one in found)]:
        raise RecordError(
            say(
                "There is no trained arm {arm!r} here: name one of {arms}.",
                arm=missing[:60],
                arms=", ".join(dict.fromkeys(one.arm for one in every)) or say("none yet"),
            )
        )
    for seed in [seed for seed in seeds or [] if all(one.seed != seed for one in found)]:
        raise RecordError(
            say(
                "There is no trained arm of seed {seed}: name one of {seeds}.",
                seed=seed,
                seeds=", ".join(map(str, sorted({seed for record in records for seed in saved_seeds(record)})))
                or say("none yet"),
            )
        )
    return found


def names_of(chosen: Sequence[Chosen]) -> list[str]:
    """A name for each: the arm's, with its seed and record where the arm alone would not be unique."""
    records = {one.record.name for one in chosen}
    seeds = {one.seed for one in chosen}
    names = []
    for one in chosen:
        if sum(other.arm == one.arm for other in chosen) == 1 and one.arm != BASE:
            names.append(one.arm)
            continue
        seed = f"/seed-{one.seed}" if len(seeds) > 1 else ""
        names.append((f"{one.record.name}/" if len(records) > 1 else "") + one.arm + seed)
    return names


def compare(
    record: Record,
    settings: AnswerSettings,
    limits: Limits,
    *,
    arms: Sequence[str] | None = None,
    seed: int | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """The growing answers of one record's arms to the prompts of `settings`; as `compare_arms`."""
    chosen, prompts = asked_of(record, settings, arms=arms, seed=seed)
    yield from compare_arms(chosen, prompts, settings, limits, should_stop)


def asked_of(
    record: Record, settings: AnswerSettings, *, arms: Sequence[str] | None = None, seed: int | None = None
) -> tuple[list[Chosen], list[Prompt]]:
    """Whom the prompts of `settings` ask, and what: `arms` None is every saved arm, `seed` None the first with any."""
    settings.require_prompts()
    chosen = chosen_arms([record], arms=arms, seeds=None if seed is None else [seed])
    return chosen, [Prompt(as_messages(text, settings.system)) for text in settings.prompts]


def compare_arms(
    chosen: Sequence[Chosen],
    prompts: Sequence[Prompt],
    settings: DecodingSettings,
    limits: Limits,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """The growing answers of the base and of arms of any records on it, yielded after each token of one batched decode.

    Lines are those of `answer_lines`, the base first. Raises `DataError` where there is nothing to ask, `DoesNotFit`
    where it is more than `limits` allow, `RecordError` where the records have different bases or one has changed, and
    `Cancelled` once `should_stop()` is true.
    """
    if not prompts or not chosen:
        raise DataError(say("There is nothing to ask: choose an arm, and write a prompt."))
    check_asked(prompts, len(chosen), settings, limits)
    loaded = _one_base(chosen)
    names = [BASE, *names_of(chosen)]
    readers = list(zip(names, [chosen[0], *chosen], strict=True))
    fitted = [[_given(prompt, name, one, loaded, settings) for prompt in prompts] for name, one in readers]
    ids = [[found.ids for found in by_name] for by_name in fitted]
    cut = [any(found.cut for found in by_prompt) for by_prompt in zip(*fitted, strict=True)]
    columns = _columns(loaded, chosen)
    for answers in holding(stream_conversations(columns, ids, settings, should_stop)):
        yield answer_lines(prompts, names, answers, loaded.tokenizer, cut=cut)


def _given(prompt: Prompt, name: str, one: Chosen, loaded: LoadedModel, settings: DecodingSettings) -> FittedPrompt:
    """What an arm is given of a prompt, as in the record that it is of."""
    thinking = bool(one.record.said_of("data").get("reasoning"))
    return fitted_own(prompt, name, on_day_of(one.record, loaded), settings.new_tokens, thinking=thinking)


def check_asked(prompts: Sequence[Prompt], arms: int, settings: DecodingSettings, limits: Limits) -> None:
    """Raise `DoesNotFit` where so many arms would have to answer more, or longer, than this server allows at once."""
    if arms > limits.arms:
        raise DoesNotFit(say("This server lets at most {most} arms answer at once.", most=limits.arms))
    said = [sum(len(message.content) for message in own) for one in prompts for own in _all_of(one)]
    AnswerSettings(**settings.model_dump(exclude={"prompts"})).check(limits)
    check_count(len(prompts) * settings.answers_each, limits)
    if max(said) > limits.prompt_characters + limits.new_tokens * 20:
        raise DoesNotFit(
            say("A conversation here is too long ({characters:,} characters): begin a new one.", characters=max(said))
        )
    longest = max(len(one.text) for one in prompts)
    if longest > limits.prompt_characters:
        raise DoesNotFit(
            say(
                "A prompt may have at most {most:,} characters (here: {longest:,}).",
                most=limits.prompt_characters,
                longest=longest,
            )
        )


def _all_of(prompt: Prompt) -> list[tuple[Message, ...]]:
    return [prompt.messages, *prompt.own.values()]


def _one_base(chosen: Sequence[Chosen]) -> LoadedModel:
    """The model that all were trained on; raises `RecordError` where there are several, or it has changed since."""
    records = {one.record.name: one.record for one in chosen}
    bases = {json.dumps(_base_words(record), default=str): record for record in records.values()}
    if len(bases) > 1:
        first, second = list(bases.values())[:2]
        raise RecordError(
            say(
                "The records {first} and {second} were trained on different bases ({first_base} and "
                "{second_base}): compare records of one base.",
                first=first.name,
                second=second.name,
                first_base=_base_name(first),
                second_base=_base_name(second),
            )
        )
    return base_of(chosen[0].record)


def _base_words(record: Record) -> list[Any]:
    about = record.said_of("model")
    kept = about.get("fingerprint")
    return [kept, about.get("precision")] if kept else [record.study.model.source]


def _base_name(record: Record) -> str:
    about = record.said_of("model")
    return f"{about.get('name') or record.study.model.source}, {about.get('precision') or say('precision unknown')}"


def _columns(loaded: LoadedModel, chosen: Sequence[Chosen]) -> list[Column]:
    """The base and the arms as columns; arms that were trained in the same way share a set, and so their passes."""
    by_way: dict[str, list[Chosen]] = {}
    for one in chosen:
        by_way.setdefault(_way(one), []).append(one)
    place_of: dict[Chosen, Column] = {}
    for alike in by_way.values():
        arms = make_arms(loaded, len(alike), alike[0].record.study.training)
        for slot, one in enumerate(alike, start=1):
            arms.load(slot, one.record.arm_folder(one.arm, one.seed))
            place_of[one] = (arms, slot)
    return [(place_of[chosen[0]][0], BASE_SLOT), *(place_of[one] for one in chosen)]


def passes(chosen: Sequence[Chosen]) -> int:
    """How many decodes follow each other until all have answered: arms of one way share theirs, or each has its own.

    The base is among the first way's.
    """
    counts, first = Counter(_way(one) for one in chosen), _way(chosen[0])
    shared = {_way(one) for one in chosen if one.record.study.training.together}
    return sum(1 if way in shared else count + (way == first) for way, count in counts.items())


def _way(one: Chosen) -> str:
    """How its weights are kept: those of one way fit into one set of arms."""
    training = one.record.study.training
    return str((training.method, training.lora_rank, training.lora_alpha, training.lora_targets, training.together))


def read_prompts(path: Path, limits: Limits) -> tuple[Prompt, ...]:
    """Prompts from a file: of text, one a line; of JSONL, each line a text, a list of messages, or an object.

    An object has `prompt` (a text) or `messages`, and may have a `reference`. Messages have `role` and `content`; the
    last is the user's. Raises `DataError` with the line, or `DoesNotFit`.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The prompts {path.absolute()} cannot be read: {cause(error)}.") from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    objects = path.suffix.lower() in (".jsonl", ".json")
    prompts = tuple(_prompt_of(line, number) if objects else Prompt(as_messages(line)) for number, line in numbered)
    AnswerSettings(prompts=tuple(prompt.text for prompt in prompts)).check(limits)
    return prompts


def _prompt_of(line: str, number: int) -> Prompt:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"Line {number} of the prompts is not valid JSON.") from None
    said = found if isinstance(found, dict) else {"messages" if isinstance(found, list) else "prompt": found}
    messages, prompt, reference = said.get("messages"), said.get("prompt"), said.get("reference", "")
    if messages is None and not isinstance(prompt, str):
        raise DataError(f"Line {number} of the prompts is no text, no list of messages, and no object with `prompt`.")
    if not isinstance(reference, str):
        raise DataError(f"The reference in line {number} is not text.")
    return Prompt(as_messages(str(prompt)) if messages is None else _messages(messages, number), reference)


def _messages(given: Any, number: int) -> tuple[Message, ...]:
    """The messages of a line; raises `DataError` unless they are texts of known roles, the last one the user's."""
    known = isinstance(given, list) and all(
        isinstance(one, dict) and one.get("role") in ROLES and isinstance(one.get("content"), str) for one in given
    )
    if not known or not given or given[-1]["role"] != "user":
        raise DataError(
            f"The messages in line {number} need a `role` ({', '.join(ROLES)}) and a `content` each, and the last one "
            "is the user's."
        )
    return tuple(Message(one["role"], one["content"]) for one in given)
