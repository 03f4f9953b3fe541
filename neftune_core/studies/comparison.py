"""Generate answers of a base model and its trained arms, side by side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.data.fitting import FittedPrompt
from neftune_core.engine.arm_factory import make_arms
from neftune_core.engine.armset import BASE_SLOT
from neftune_core.engine.saving import is_saved
from neftune_core.errors import DataError, DoesNotFit, RecordError
from neftune_core.evaluation.answers import Column, stream_conversations
from neftune_core.evaluation.settings import AnswerSettings, DecodingSettings
from neftune_core.language import later, plural, say
from neftune_core.models.accelerator import holding
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.names import BEST
from neftune_core.settings import Limits
from neftune_core.studies.prompts import Prompt, answer_lines, as_messages, fit_prompt
from neftune_core.studies.records.record import Record
from neftune_core.studies.steering.best_arms import best_step, plain_name, stored_steps
from neftune_core.studies.study import base_of, on_day_of

BASE = "base"


def saved_arms(record: Record, seed: int | None = None) -> list[str]:
    """Return the arms with weights stored in the record, control first.

    Args:
        record: Record of the study.
        seed: Seed of the weights; None for the study's first seed.

    Returns:
        Names of arms.
    """
    study = record.study
    return [name for name in study.arms if is_saved(record.arm_folder(name, study.seed if seed is None else seed))]


def saved_best(record: Record, seed: int) -> dict[str, int]:
    """Find the arms whose weights at their best evaluation are stored separately.

    Args:
        record: Record of the study.
        seed: Seed of the weights.

    Returns:
        Step of the best evaluation by `NAME@best`.
    """
    steps = {name: stored_steps(record.arm_folder(name, seed)) for name in saved_arms(record, seed)}
    return {f"{name}{BEST}": found[-1] for name, found in steps.items() if found}


def has_arm(record: Record, arm: str, seed: int) -> bool:
    """Return whether the weights of an arm are stored.

    The final weights also count as `NAME@best` if the last evaluation was the best.

    Args:
        record: Record of the study.
        arm: Name of an arm, or `NAME@best`.
        seed: Seed of the weights.

    Returns:
        Whether they are stored.
    """
    name = plain_name(arm)
    if name not in saved_arms(record, seed):
        return False
    if name == arm or stored_steps(record.arm_folder(name, seed)):
        return True
    events = record.events()
    evaluated = [event["step"] for event in events if event["event"] == "evaluated" and event.get("seed") == seed]
    return best_step(events, arm, seed) == max(evaluated, default=0) > 0


def saved_seeds(record: Record) -> list[int]:
    """Return the seeds with at least one stored arm, in increasing order."""
    study = record.study
    return [seed for seed in range(study.seed, study.seed + study.seeds) if saved_arms(record, seed)]


@dataclass(frozen=True)
class SelectedArm:
    """One arm of one record and seed.

    Attributes:
        record: Record of the study that trained the arm.
        arm: Name of the arm; `NAME@best` for the weights of its best evaluation.
        seed: Seed with which the arm was trained.
    """

    record: Record
    arm: str
    seed: int


def selected_arms(
    records: Sequence[Record], *, arms: Sequence[str] | None = None, seeds: Sequence[int] | None = None
) -> list[SelectedArm]:
    """Select stored arms of records.

    Args:
        records: Records of studies.
        arms: Names of arms, or `NAME@best` for the best evaluation of an arm; None for the final weights of all arms.
        seeds: Seeds; None for each record's first seed with a stored arm.

    Returns:
        The arms.

    Raises:
        RecordError: If no record has a requested arm or seed, or, without `seeds`, if a record has no trained arm.
    """
    found, every = list[SelectedArm](), list[SelectedArm]()
    for record in records:
        wanted = saved_seeds(record)[:1] if seeds is None else [seed for seed in seeds if saved_arms(record, seed)]
        own = [SelectedArm(record, arm, seed) for seed in wanted for arm in saved_arms(record, seed)]
        best = [
            SelectedArm(record, arm, seed)
            for arm in arms or ()
            for seed in wanted
            if arm != plain_name(arm) and has_arm(record, arm, seed)
        ]
        if not own and seeds is None:
            words = later("The record {record} has no trained arms, or they were not stored: train the study first.")
            raise RecordError(say(words, record=record.name))
        every += own
        found += [one for one in own if arms is None or one.arm in arms] + best
    for arm in arms or ():
        if all(one.arm != arm for one in found):
            known = ", ".join(dict.fromkeys(one.arm for one in every)) or say("none yet")
            words = later("There is no trained arm {arm!r} here. Trained arms: {arms}.")
            raise RecordError(say(words, arm=arm[:60], arms=known))
    for seed in seeds or ():
        if all(one.seed != seed for one in found):
            known = ", ".join(map(str, sorted({seed for record in records for seed in saved_seeds(record)})))
            if not known:
                raise RecordError(say("Seed {seed} has no trained arm: train the study first.", seed=seed))
            raise RecordError(say("Seed {seed} has no trained arm: choose one of {seeds}.", seed=seed, seeds=known))
    return found


def names_of(chosen: Sequence[SelectedArm]) -> list[str]:
    """Return a unique name for each arm, with the seed and the record if needed."""
    counts, names = Counter(one.arm for one in chosen), []
    records, seeds = {one.record.name for one in chosen}, {one.seed for one in chosen}
    for one in chosen:
        name = one.arm
        if counts[name] > 1 or name == BASE:
            name = f"{one.record.name}/{name}" if len(records) > 1 else name
            name = f"{name}/seed-{one.seed}" if len(seeds) > 1 else name
        names.append(name)
    return names


def comparison_request(
    record: Record, settings: AnswerSettings, *, arms: Sequence[str] | None = None, seed: int | None = None
) -> tuple[list[SelectedArm], list[Prompt]]:
    """Select the arms and prompts of a comparison.

    Args:
        record: Record of the study.
        settings: Prompts and decoding.
        arms: Names of arms; None for all.
        seed: Seed; None for the first with a stored arm.

    Returns:
        The arms and the prompts.

    Raises:
        LabError: If there is no such arm, or no prompt.
    """
    settings.require_prompts()
    chosen = selected_arms([record], arms=arms, seeds=None if seed is None else [seed])
    return chosen, [Prompt(as_messages(text, settings.system)) for text in settings.prompts]


def compare_arms(
    chosen: Sequence[SelectedArm],
    prompts: Sequence[Prompt],
    settings: DecodingSettings,
    limits: Limits,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Answer prompts with a base model and with arms trained on it.

    Args:
        chosen: The arms, from one or more records with the same base.
        prompts: Prompts to answer, each with one conversation for all arms or one per arm.
        settings: Decoding settings.
        limits: Limits of this server.
        should_stop: Polled during each pass; return true to cancel.

    Yields:
        The lines of `answer_lines` after each token, with the base first.

    Raises:
        DataError: If there is no arm or no prompt.
        DoesNotFit: If a limit is exceeded.
        RecordError: If the records have different bases, or the base has changed.
        Cancelled: If `should_stop()` returned true.
    """
    if not prompts or not chosen:
        raise DataError(say("There is nothing to answer: choose an arm, and write a prompt."))
    _check(prompts, len(chosen), settings, limits)
    loaded = _one_base(chosen)
    names = [BASE, *names_of(chosen)]
    columns = list(zip(names, [chosen[0], *chosen], strict=True))
    fitted = [[_prompt_for(prompt, name, one, loaded, settings) for prompt in prompts] for name, one in columns]
    ids = [[found.ids for found in by_name] for by_name in fitted]
    cut = [any(found.cut for found in by_prompt) for by_prompt in zip(*fitted, strict=True)]
    for answers in holding(stream_conversations(_columns(loaded, chosen), ids, settings, should_stop)):
        yield answer_lines(prompts, names, answers, loaded.tokenizer, cut=cut)


def _prompt_for(
    prompt: Prompt, name: str, one: SelectedArm, loaded: LoadedModel, settings: DecodingSettings
) -> FittedPrompt:
    """Return the prompt for one arm, with the date and reasoning mode of the arm's record."""
    thinking = bool(one.record.about_table("data").get("reasoning"))
    return fit_prompt(prompt, name, on_day_of(one.record, loaded), settings.new_tokens, thinking=thinking)


def _check(prompts: Sequence[Prompt], arms: int, settings: DecodingSettings, limits: Limits) -> None:
    """Raise `DoesNotFit` if a comparison exceeds a limit of the server."""
    if arms > limits.arms:
        words = plural(
            limits.arms,
            "This server compares at most {most} arm at once: choose fewer arms.",
            "This server compares at most {most} arms at once: choose fewer arms.",
        )
        raise DoesNotFit(say(words, most=limits.arms))
    conversations = [own for one in prompts for own in (one.messages, *one.own.values())]
    longest = max(sum(len(message.content) for message in own) for own in conversations)
    if longest > limits.prompt_characters + limits.new_tokens * 20:
        words = later("A conversation is too long ({characters:,} characters): start a new one.")
        raise DoesNotFit(say(words, characters=longest))
    asked = settings.model_dump() | {"prompts": tuple(one.text for one in prompts)}
    AnswerSettings(**asked).check(limits)


def _one_base(chosen: Sequence[SelectedArm]) -> LoadedModel:
    """Load the common base; raise `RecordError` if the arms have different bases, or if the base has changed."""
    records = {one.record.name: one.record for one in chosen}
    bases = {_base_key(record): record for record in records.values()}
    if len(bases) > 1:
        words = later(
            "The records {first} and {second} have different base models ({first_base}; {second_base}): compare "
            "records with the same base model and precision."
        )
        one, other = list(bases.values())[:2]
        labels = {"first_base": _base_label(one), "second_base": _base_label(other)}
        raise RecordError(say(words, first=one.name, second=other.name, **labels))
    return base_of(chosen[0].record)


def _base_key(record: Record) -> tuple[str, ...]:
    """Return a key that is equal for equal bases."""
    about = record.about_table("model")
    hashed = about.get("fingerprint")
    return (hashed, str(about.get("precision"))) if hashed else (record.study.model.source,)


def _base_label(record: Record) -> str:
    about = record.about_table("model")
    return f"{about.get('name') or record.study.model.source}, {about.get('precision') or say('precision unknown')}"


def _columns(loaded: LoadedModel, chosen: Sequence[SelectedArm]) -> list[Column]:
    """Return the base and the arms as columns; arms with equal training methods share an `ArmSet` and its passes."""
    by_method = defaultdict[str, list[SelectedArm]](list)
    for one in chosen:
        by_method[_method_key(one)].append(one)
    columns: dict[SelectedArm, Column] = {}
    for group in by_method.values():
        arms = make_arms(loaded, len(group), group[0].record.study.training)
        for slot, one in enumerate(group, start=1):
            arms.load(slot, one.record.arm_folder(one.arm, one.seed))
            columns[one] = (arms, slot)
    return [(columns[chosen[0]][0], BASE_SLOT), *(columns[one] for one in chosen)]


def passes(chosen: Sequence[SelectedArm]) -> int:
    """Return the number of decodes that a comparison runs one after another.

    Arms with the same training method share a decode if they were trained together; otherwise each arm has its own. The
    base joins the decode of the first arm if that is shared; otherwise it has its own.
    """
    counts, first = Counter(_method_key(one) for one in chosen), _method_key(chosen[0])
    shared = {_method_key(one) for one in chosen if one.record.study.training.together}
    return sum(1 if method in shared else count + (method == first) for method, count in counts.items())


def _method_key(one: SelectedArm) -> str:
    """Return a key for the training method; arms with equal keys can be decoded as one set."""
    training = one.record.study.training
    return str((training.method, training.lora_rank, training.lora_alpha, training.lora_targets, training.together))
