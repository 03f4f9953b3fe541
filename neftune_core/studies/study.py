"""Run a study with the settings in its record, seed by seed, and yield the logged events."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from neftune_core.data.preparing import PreparedData, prepare
from neftune_core.engine.arm_factory import make_training_arms
from neftune_core.engine.armset import ArmSet
from neftune_core.engine.lockstep import Event, Lockstep, Stop
from neftune_core.engine.parallel import StudyEnded, process_group
from neftune_core.engine.settings import check_length, evaluation_batch
from neftune_core.errors import Cancelled, NotAvailable, RecordError
from neftune_core.evaluation.answers import stream_answers
from neftune_core.language import later, plural, say
from neftune_core.models.accelerator import holding
from neftune_core.models.architecture.module_trees import fingerprint
from neftune_core.models.loading import LoadedModel, load
from neftune_core.models.threads import YieldingWhenBusy, fixed_threads
from neftune_core.models.tokenizing import with_fixed_date
from neftune_core.sentences import sentence
from neftune_core.settings import Limits
from neftune_core.studies import checkpoint
from neftune_core.studies.judging import diverged_arms, question_for
from neftune_core.studies.measuring import measure_end, measure_rounding
from neftune_core.studies.metadata import about_run, require_same_rows
from neftune_core.studies.planning import StepTimer, require_disk, require_memory
from neftune_core.studies.prompts import answer_lines, fitting_rows, tokenised_study_prompts
from neftune_core.studies.records.log import append, finite
from neftune_core.studies.records.numbers import EXAMPLES, write_metrics
from neftune_core.studies.records.record import Record
from neftune_core.studies.records.tokens import write_tokens
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering.changes import BestKeeper, Changes
from neftune_core.studies.steering.log import stopped_arms
from neftune_core.studies.steering.requests import Requests, forget
from neftune_core.studies.trained.rows import TokenLosses

logger = logging.getLogger(__name__)

EVERY_STEP = range(sys.maxsize)
"""Steps treated as already evaluated in all processes but the first, because only the first one evaluates."""


def run_study(record: Record, limits: Limits, should_stop: Stop) -> Iterator[Event]:
    """Run the study of `record`, resuming from its checkpoint if there is one.

    Every event is logged before it is yielded. The last one is `finished`, `stopped` (on request, or at the time limit)
    or `failed` (with a message). In each case, the arms are saved as of the last completed step. The accelerator is
    acquired for one pass at a time.

    Args:
        record: Record of the study; this process claims it during the run.
        limits: Limits of this server.
        should_stop: Polled during each pass; return true to stop.

    Yields:
        The logged events.

    Raises:
        RecordError: If the record is unusable, or another process is writing to it.
    """
    record.require_usable()
    study = record.study
    with record.claimed(), fixed_threads(record.about_table("machine").get("threads")), YieldingWhenBusy():
        forget(record)
        try:
            with closing(_events(study, record, limits, Deadline(limits, should_stop))) as events:
                for event in events:
                    record.append(event)
                    yield event
        except Exception as error:
            ending: Event = {"seed": study.seed, "event": "failed", "message": sentence(error)}
            try:
                record.append(ending)
            except OSError:
                logger.warning("the last event of record %s could not be written", record.id)
            yield ending


class Deadline:
    """Stop condition of a study: a callable that returns true on request, or after the server's time limit has passed.

    Args:
        limits: Limits of this server.
        should_stop: Returns whether a stop was requested.
    """

    def __init__(self, limits: Limits, should_stop: Stop) -> None:
        self.minutes, self.should_stop = limits.study_minutes, should_stop
        self.end = time.monotonic() + 60 * limits.study_minutes

    def __call__(self) -> bool:
        return self.should_stop() or self.is_late

    @property
    def is_late(self) -> bool:
        """Whether the time limit has passed."""
        return time.monotonic() > self.end

    def check(self, *_: object) -> None:
        """Check whether the study must stop.

        Raises:
            Cancelled: If it must.
        """
        if self():
            raise Cancelled(self.words)

    @property
    def words(self) -> str:
        """Reason for the stop; for a request, `should_stop.words` if defined."""
        if self.should_stop():
            return str(getattr(self.should_stop, "words", later("Stopped on request.")))
        return plural(
            self.minutes,
            "Stopped after {minutes:,} minute, the longest that this server allows.",
            "Stopped after {minutes:,} minutes, the longest that this server allows.",
        ).format(minutes=self.minutes)


@dataclass(frozen=True)
class _StudyState:
    """State shared by all seeds of a study.

    Attributes:
        stack: The set of arms, which every seed resets.
        prepared: The tokenised rows.
        stop: Becomes true on request or at the time limit.
        requests: Reader of the user's changes to the running study.
    """

    study: StudySettings
    record: Record
    stack: ArmSet
    prepared: PreparedData
    limits: Limits
    stop: Deadline
    requests: Requests

    def run(self, seed: int) -> Lockstep:
        """Return a new run of one seed, without arms that were stopped in an earlier seed.

        The first seed to run converts a time budget to a number of steps, which all other seeds reuse.
        """
        study = self.study.model_copy(update={"seed": seed})
        stopped = stopped_arms(self.record.events())
        before = {arm for earlier in self.study.runs if earlier < seed for arm in stopped.get(earlier, ())}
        arms = {name: study.arms[name] for name in self.study.runs[seed] if name not in before}
        run = Lockstep(study, self.stack, self.prepared, arms, most_steps=self.limits.steps)
        planned = (event for event in self.record.events() if event["event"] == "planned" and event["seed"] != seed)
        first = next(planned, None)
        if first is not None:
            run.plan(first["steps"])
        return run


def _events(study: StudySettings, record: Record, limits: Limits, stop: Deadline) -> Generator[Event, None, None]:
    try:
        ready = _prepared_together(record, limits, stop)
        done = {event["seed"] for event in record.events() if event["event"] == "answered"}
        for seed in study.runs:
            if seed not in done:
                for event in _one_seed(ready, seed):
                    yield _store_row_measures(record, {"seed": seed, **event})
        yield _ending(study, record, ready.requests)
    except Cancelled:
        yield {"seed": study.seed, "event": "stopped", "message": stop.words}
    finally:
        process_group().release()


def follow_study(limits: Limits) -> None:
    """Join the study of the first process from another process, until the study ends.

    Raises:
        LabError: If a process cannot prepare the study, or its checkpoint is damaged.
    """
    group = process_group()
    folder = group.broadcast_text()
    if not folder:
        return
    record = Record(Path(folder))
    ready = _prepared_together(record, limits, Deadline(limits, lambda: False))
    threads = fixed_threads(record.about_table("machine").get("threads"))
    with contextlib.suppress(StudyEnded), threads, YieldingWhenBusy():
        while True:
            run = ready.run(int(group.broadcast(0)))
            checkpoint.restore(run, record.folder)
            group.barrier()
            changes = Changes(run, record, ready.requests)
            with contextlib.suppress(Cancelled):
                for _ in chain(changes.begin(), run.run(lambda: False, measured=EVERY_STEP, steer=changes)):
                    pass


def _store_row_measures(record: Record, event: Event) -> Event:
    """Write the row measures to disk, and return the event without them."""
    if rows := event.pop("rows", None):
        line = {"kind": "rows", "seed": event["seed"], "step": event["step"], "samples": rows}
        append(record.folder / EXAMPLES, line)
    return event


def _prepared_together(record: Record, limits: Limits, stop: Deadline) -> _StudyState:
    """Run `_prepare` in every process.

    If one process fails, that process raises the error, and the others raise `NotAvailable` with its message.
    """
    failure: Exception | None = None
    try:
        ready = _prepare(record.study, record, limits, stop)
    except Exception as error:
        if process_group().size == 1:
            raise
        failure = error
    words = sentence(failure) if failure else ""
    failure_words = process_group().gather_failure(words)
    if failure and failure_words == words:
        raise failure
    if failure_words:
        raise NotAvailable(failure_words) from failure
    return ready


def _prepare(study: StudySettings, record: Record, limits: Limits, stop: Deadline) -> _StudyState:
    study.check(limits)
    loaded = base_of(record, stop)
    prepared = prepare(study.data.within(loaded.context), loaded.tokenizer, limits, progress=stop.check)
    require_same_rows(record, prepared)
    check_length(len(prepared.train), study.training, limits, seeds=len(study.runs))
    tokenised_study_prompts(study, prepared, loaded)
    require_memory(study, loaded, prepared)
    require_disk(study, loaded, record.folder, limits)
    stack = make_training_arms(loaded, len(study.arms), study.training)
    return _StudyState(study, record, stack, prepared, limits, stop, Requests(record))


def base_of(record: Record, should_stop: Stop = lambda: False) -> LoadedModel:
    """Load the base model of a record, with its chat template set to the date of the record.

    Args:
        record: Record of the study.
        should_stop: Polled while loading; return true to cancel.

    Returns:
        The model.

    Raises:
        RecordError: If the weights of the model have changed since training.
        LabError: If the model cannot be loaded.
        Cancelled: If `should_stop()` returned true.
    """
    about, model = record.about_table("model"), record.study.model
    precision = about.get("precision", model.precision)
    loaded = load(model.model_copy(update={"precision": precision}), cancelled=should_stop)
    if about.get("fingerprint") not in (None, fingerprint(loaded.model)):
        words = later(
            "The weights of the model {model} have changed since this study was trained: restore the original "
            "model, or train the study again."
        )
        raise RecordError(say(words, model=loaded.name))
    return on_day_of(record, loaded)


def on_day_of(record: Record, loaded: LoadedModel) -> LoadedModel:
    """Return the model with its chat template set to the date of the record.

    Args:
        record: Record of the study.
        loaded: The model.

    Returns:
        The model.
    """
    tokenizer = with_fixed_date(loaded.tokenizer, record.day, hashed="date" in record.about)
    return loaded if tokenizer is loaded.tokenizer else replace(loaded, tokenizer=tokenizer)


def _one_seed(ready: _StudyState, seed: int) -> Iterator[Event]:
    """Yield all events of one seed; save its state if the seed is interrupted."""
    run, record = ready.run(seed), ready.record
    timer = StepTimer(run)
    try:
        measured = yield from _begin(ready, run)
        process_group().broadcast(seed)
        process_group().barrier()
        write_checkpoint = checkpoint.CheckpointWriter(run, record.folder)
        changes = Changes(run, record, ready.requests)
        yield from changes.begin()
        steps = run.run(ready.stop, write_checkpoint, measured, changes)
        yield from BestKeeper(run, record).followed(timer.timed(holding(steps)))
        changes.end()
        yield _save(run, record)
        yield _measure(run, record, ready.stop)
        yield _answer(run, record, ready.stop)
        timer.keep(finished=True)
    except Exception:
        timer.keep(finished=False)
        if run.done:
            checkpoint.save(run, record.folder)
            yield _save(run, record)
        raise
    checkpoint.keep(run, record.folder)
    checkpoint.remove(record.folder)


def _begin(ready: _StudyState, run: Lockstep) -> Generator[Event, None, set[int]]:
    """Restore the checkpoint of an interrupted seed and rewind the log, or yield `started` for a new seed.

    Return the steps that are already evaluated.
    """
    record, seed = ready.record, run.study.seed
    if not any(event["event"] == "started" and event.get("seed") == seed for event in record.events()):
        checkpoint.remove(record.folder)  # left by the previous seed, if the process ended right after it
    checkpoint.restore(run, record.folder)
    measured = record.rewind(seed, run.done)
    if run.done == 0:
        about = about_run(run) | {"question": vars(question_for(ready.study, ready.prepared))}
        record.update_about(**about)
        if seed != ready.study.seed:  # log the data report only once
            del about["data"]["report"]
        yield {"event": "started", "steps": run.total, "seeds": len(ready.study.runs), **about}
    return measured


def _ending(study: StudySettings, record: Record, requests: Requests) -> Event:
    """Return the event `finished`, or `failed` if every arm diverged for every seed.

    Its message reports diverged arms, a fallback from CUDA graphs, or a change that was requested too late.
    """
    events, lost = record.events(), diverged_arms(record)
    all_diverged = sum(map(len, lost.values())) == sum(map(len, study.runs.values()))
    fallback = next((event["fallback"] for event in events if "fallback" in event), "")
    ending: Event = {"seed": study.seed, "event": "failed" if all_diverged else "finished"}
    if lost:
        ending["diverged"] = [name for name in study.arms if any(name in arms for arms in lost.values())]
        words = later("The loss of {arms} became NaN or infinite: choose a smaller learning rate or less noise.")
        ending["message"] = words.format(arms=", ".join(ending["diverged"]))
    elif fallback:
        words = later("The layers ran without CUDA graphs, which could not be captured: {reason}")
        ending["message"] = words.format(reason=fallback)
    elif requests.unmet:
        ending["message"] = later("A change that was requested after the last step had no effect.")
    return ending


def _save(run: Lockstep, record: Record) -> Event:
    for slot, name in enumerate(run.names, start=1):
        folder = record.arm_folder(name, run.study.seed)
        if slot in run.alive:
            run.stack.save(slot, folder)
        elif slot not in run.stopped:
            shutil.rmtree(folder, ignore_errors=True)  # saved by an earlier interruption, before the arm diverged
    saved: Event = {"event": "saved", "arms": {run.name(slot): {} for slot in run.alive}}
    if fallback := run.stack.fallback():
        saved["fallback"] = fallback
    return saved


def _measure(run: Lockstep, record: Record, should_stop: Stop) -> Event:
    """Take and store the measures of a completed seed; the base is measured with the first seed only."""
    study = run.study
    first = study.seed == record.study.seed
    found = measure_end(run, [0, *run.alive] if first else run.alive, should_stop)
    append(record.folder / EXAMPLES, {"kind": "answers", "seed": study.seed, "samples": found.answers})
    write_tokens(record, study.seed, found.tokens)
    rounding = measure_rounding(run, should_stop) if first else {}
    write_metrics(record, study.seed, {"arms": found.arms, "floor": rounding, **found.about()})
    return {"event": "measured", "arms": finite(found.arms)}


def _answer(run: Lockstep, record: Record, should_stop: Stop) -> Event:
    loaded = run.stack.loaded
    every, fitted = tokenised_study_prompts(run.study, run.prepared, loaded)
    prompts, ids = fitting_rows(every, fitted)
    slots = [0, *run.alive]
    names = {slot: run.name(slot) for slot in slots}
    if prompts:
        stream = stream_answers(run.stack, slots, ids, run.study.answers, should_stop)
        answers = deque(holding(stream), maxlen=1).pop()
        cut = [found.cut for found in fitted if found is not None]
        lines = answer_lines(prompts, [*names.values()], answers, loaded.tokenizer, cut=cut)
        record.write_answers(lines, run.study.seed)
        losses = TokenLosses(run.stack, names, evaluation_batch(run.study.training), should_stop)
        write_tokens(record, run.study.seed, losses.of_answers(ids, lines))
    return {"event": "answered", "prompts": len(prompts), "arms": {name: {} for name in names.values()}}
