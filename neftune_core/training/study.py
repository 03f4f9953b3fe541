"""One study from its record's settings to its end, as a generator of the events it writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from neftune_core.arms.saving import save_arm
from neftune_core.arms.stack import AdapterStack
from neftune_core.data.chat import prompt_ids
from neftune_core.data.examples import Message
from neftune_core.data.preparing import Prepared, prepare
from neftune_core.errors import Cancelled, DoesNotFit, sentence
from neftune_core.evaluation.answers import Answers, stream_answers
from neftune_core.models.catalogue import Estimate, Work, estimate
from neftune_core.models.device import describe_machine
from neftune_core.models.loading import LoadedModel, load
from neftune_core.models.trees import fingerprint
from neftune_core.settings import Limits
from neftune_core.training import checkpoint
from neftune_core.training.accelerator import accelerator
from neftune_core.training.lockstep import (
    Event,
    Lockstep,
    Stop,
    check_length,
    count_parameters,
    count_steps,
)
from neftune_core.training.record import Record
from neftune_core.training.settings import StudySettings

HELD_OUT_PROMPTS = 3
Item = TypeVar("Item")


def run_study(record: Record, limits: Limits, should_stop: Stop) -> Iterator[Event]:
    """Run the study of `record`, from its checkpoint where it has one; every event is on disk before it is yielded.

    The last event is `finished`, `stopped` (as asked, or at the time limit) or `failed` (with its sentence); the arms
    of the last whole step are kept in each case. Nothing is raised for what a person can cause. The accelerator is held
    step by step.
    """
    try:
        for event in _events(record, limits, _Deadline(limits, should_stop)):
            record.append(event)
            yield event
    except Exception as error:
        ending: Event = {"event": "failed", "message": sentence(error)}
        record.append(ending)
        yield ending


class _Deadline:
    """A stop that also comes when the study has run as long as the server allows."""

    def __init__(self, limits: Limits, should_stop: Stop) -> None:
        self.minutes, self.should_stop = limits.study_minutes, should_stop
        self.end = time.monotonic() + 60 * limits.study_minutes

    def __call__(self) -> bool:
        return self.should_stop() or time.monotonic() > self.end

    def check(self, *_: object) -> None:
        """Raise `Cancelled` where it is time."""
        if self():
            raise Cancelled(self.words())

    def words(self) -> str:
        """Why it stopped."""
        if self.should_stop():
            return "Stopped as asked."
        return f"Stopped after {self.minutes:,} minutes, the longest that this server allows."


def _events(record: Record, limits: Limits, stop: _Deadline) -> Iterator[Event]:
    study = record.study
    study.check(limits)
    run: Lockstep | None = None
    try:
        loaded = load(study.model, cancelled=stop)
        prepared = prepare(study.data.within(loaded.context), loaded.tokenizer, limits, progress=stop.check)
        check_length(len(prepared.train), study.training, limits)
        _require_memory(study, loaded, prepared)
        run = _lockstep(study, loaded, prepared)
        yield from _begin(run, record)
        measured = {event["step"] for event in record.events()[0] if event["event"] == "evaluated"}
        yield from holding(run.run(stop, _keeper(run, record), measured))
        yield _save(run, record)
        yield _answer(run, record, stop)
        yield _ending(run)
        checkpoint.drop(record.folder)
    except Cancelled:
        yield from _kept(run, record)
        yield {"event": "stopped", "message": stop.words()}
    except Exception:
        yield from _kept(run, record)
        raise


def _kept(run: Lockstep | None, record: Record) -> Iterator[Event]:
    """What a run had when it was broken off: a checkpoint, and its arms."""
    if run is not None and run.done:
        checkpoint.keep(run, record.folder)
        yield _save(run, record)


def _begin(run: Lockstep, record: Record) -> Iterator[Event]:
    """`started` for a new run; for one that goes on, its checkpoint is put back and its log cut to there."""
    step = checkpoint.kept_step(record.folder)
    checkpoint.restore(run, record.folder)
    record.rewind(step)
    if step == 0:
        about = _about(run)
        record.update_about(**about)
        yield {"event": "started", "steps": run.total, **about}


def _keeper(run: Lockstep, record: Record) -> Callable[[], None]:
    def keep() -> None:
        if run.done % run.study.training.checkpoint_steps == 0 or run.done == run.total:
            checkpoint.keep(run, record.folder)

    return keep


def _ending(run: Lockstep) -> Event:
    """`finished`, or `failed` where no arm was left; either says which arms diverged."""
    lost = [name for slot, name in enumerate(run.names, start=1) if slot not in run.alive]
    ending: Event = {"event": "finished" if run.alive else "failed", "diverged": lost}
    if lost:
        ending["message"] = (
            f"The loss of {', '.join(lost)} stopped being a number: choose a smaller learning rate or less noise."
        )
    return ending


def holding(stream: Iterator[Item]) -> Iterator[Item]:
    """The same items, the accelerator held while each is made and free between them."""
    while True:
        with accelerator.held():
            item = next(stream, None)
        if item is None:
            return
        yield item


def _lockstep(study: StudySettings, loaded: LoadedModel, prepared: Prepared) -> Lockstep:
    training = study.training
    stack = AdapterStack(
        loaded, len(study.arms), rank=training.lora_rank, alpha=training.lora_alpha, targets=training.lora_targets
    )
    return Lockstep(study, stack, prepared)


def memory_and_time(study: StudySettings, loaded: LoadedModel, prepared: Prepared) -> Estimate:
    """What the study would take here on top of the loaded model; the page and the job ask the same."""
    training = study.training
    longest = max(len(row.ids) for row in [*prepared.train, *prepared.held_out])
    steps = count_steps(len(prepared.train), training)
    work = Work(len(study.arms), training.batch_size, longest, steps, training.lora_rank)
    return estimate(loaded, work, study.model, weights_are_loaded=True)


def _require_memory(study: StudySettings, loaded: LoadedModel, prepared: Prepared) -> None:
    """Raise `DoesNotFit`, saying what would help, where the study needs more memory than is free."""
    found = memory_and_time(study, loaded, prepared)
    if not found.fits:
        raise DoesNotFit(f"This study does not fit: {found.sentence[:1].lower()}{found.sentence[1:]}")


def _about(run: Lockstep) -> dict[str, Any]:
    loaded, prepared, rows = run.stack.loaded, run.prepared, run.study.training.evaluation_rows
    return {
        "arms": {name: noise.model_dump() for name, noise in run.study.arms.items()},
        "model": {
            "source": loaded.source,
            "name": loaded.name,
            "licence": loaded.licence,
            "parameters": loaded.parameters,
            "width": loaded.width,
            "precision": loaded.precision,
            "trained_parameters": count_parameters(run.stack),
            "fingerprint": fingerprint(loaded.model),
        },
        "data": {
            "title": prepared.title,
            "licence": prepared.licence,
            "sha256": prepared.sha256,
            "train": len(prepared.train),
            "held_out": len(prepared.held_out),
            "cut": prepared.cut,
            "refused": len(prepared.refusals),
        },
        "samples": {
            "train_loss": f"the first {min(rows, len(prepared.train))} training rows",
            "held_out_loss": f"the first {min(rows, len(prepared.held_out))} held-out rows",
        },
        "machine": {name: value for name, value in describe_machine().items() if name != "available_bytes"},
    }


def _save(run: Lockstep, record: Record) -> Event:
    for slot in run.alive:
        save_arm(run.stack, slot, record.arm_folder(run.name(slot), run.study.seed))
    return {"event": "saved", "arms": {run.name(slot): {} for slot in run.alive}}


@dataclass(frozen=True)
class Prompt:
    """A prompt to answer, and the reference where it is a held-out row."""

    messages: tuple[Message, ...]
    reference: str = ""

    @property
    def text(self) -> str:
        """The last thing the person says."""
        return self.messages[-1].content


def study_prompts(study: StudySettings, prepared: Prepared) -> list[Prompt]:
    """The study's own prompts, or the first held-out ones where it names none."""
    if study.answers.prompts:
        return [Prompt(as_messages(text, study.answers.system)) for text in study.answers.prompts]
    rows = prepared.held_out[:HELD_OUT_PROMPTS]
    return [Prompt(row.example.prompt, row.example.response) for row in rows]


def as_messages(prompt: str, system: str = "") -> tuple[Message, ...]:
    """One user prompt, after a system prompt where there is one."""
    head = (Message("system", system),) if system.strip() else ()
    return (*head, Message("user", prompt))


def _answer(run: Lockstep, record: Record, should_stop: Stop) -> Event:
    prompts = study_prompts(run.study, run.prepared)
    slots = [0, *run.alive]
    names = [run.name(slot) for slot in slots]
    if prompts:
        ids = [prompt_ids(prompt.messages, run.stack.loaded.tokenizer) for prompt in prompts]
        answers: Answers = []
        for answers in holding(stream_answers(run.stack, slots, ids, run.study.answers, should_stop)):  # noqa: B007
            pass  # the last state of the growing answers is what is kept
        record.write_answers(answer_lines(prompts, names, answers, run.stack.loaded.tokenizer))
    return {"event": "answered", "prompts": len(prompts), "arms": {name: {} for name in names}}


def answer_lines(
    prompts: Sequence[Prompt], names: Sequence[str], answers: Answers, tokenizer: Any
) -> list[dict[str, Any]]:
    """One object a prompt: `prompt`, `reference`, and by arm its `text`, `tokens` and how it `ended`."""
    return [
        {
            "prompt": prompt.text,
            "reference": prompt.reference,
            "arms": {
                name: {
                    "text": answers[slot][place].text(tokenizer),
                    "tokens": len(answers[slot][place].ids),
                    "ended": answers[slot][place].ended,
                }
                for slot, name in enumerate(names)
            },
        }
        for place, prompt in enumerate(prompts)
    ]
