"""ZeroGPU: a GPU that is lent to one call of a visitor's request, in a process of its own, for a number of seconds.

The platform forks a worker, pickles what goes in and what comes out, looks whether the caller has left at every yield,
and takes the worker away when its time is over. So a study goes in as a folder and comes out as events, which are plain
JSON; the record is written by the worker, on the disk that both see.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_core.errors import DoesNotFit, LabError, NotAvailable
from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.language import later, say
from neftune_core.sentences import sentence
from neftune_core.settings import Limits, parse
from neftune_core.training.record import Record
from neftune_core.training.settings import StudySettings

if TYPE_CHECKING:
    from neftune_core.models.loading import LoadedModel
    from neftune_core.training.comparison import Chosen
    from neftune_core.training.prompts import Prompt

MOST_SECONDS = 120
"""The longest call that is asked for: what the platform lends somebody who has no account for a day."""

# What one call takes besides its steps: the worker is made, torch wakes up on the GPU, the model is read.
START_SECONDS = 20.0
# Seconds a layer takes in one step, and in writing one token of an answer. Small models wait for the processor to tell
# the GPU what to do, whatever the batch. Assumed, not measured; the margin is for that.
STEP_SECONDS, TOKEN_SECONDS = 0.005, 0.001
FLOPS_A_SECOND = 20e12
MARGIN = 1.5
# Before its time is over a study stops by itself, so that its arms are saved.
SAVING_SECONDS = 4.0
USUAL_LAYERS = 30  # of a model whose record does not tell

STOP = "stop"
POLL_SECONDS = 0.2

QUOTA = (
    "Hugging Face lends you no more GPU time for now{left}: sign in there for more, come back{when}, or ask for a "
    "shorter study."
)
BUSY = "Hugging Face has lent you GPU time for other work that is not over yet: try again once it is."
TOO_LONG = "Hugging Face lends no GPU for as long as this study takes: choose fewer steps, seeds or arms."
ABORTED = (
    "The GPU was taken back before the study ended. What it had at its last checkpoint is kept: Resume goes on from "
    "there."
)

REFUSALS = {
    "illegal duration": TOO_LONG,
    "pending credits": BUSY,
    "quota": QUOTA,
    "gpu limit": QUOTA,
    "aborted": ABORTED,
    "worker error": ABORTED,
}
"""What is in the title or the words of the platform's errors, and what a visitor is told instead."""

Decorate = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]


def enter() -> LentGpu:
    """The GPU of the Space that this process runs on; to be called before anything imports torch.

    Raises `NotAvailable` off ZeroGPU.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported before spaces, which has to change it first")
    try:
        spaces = importlib.import_module("spaces")
    except ImportError:
        raise NotAvailable(
            "The package spaces is missing, which only a ZeroGPU Space has: choose another NEFTUNE_PROFILE."
        ) from None
    return LentGpu(spaces.GPU)


class LentGpu:
    """What runs on the lent GPU. `decorate` is the platform's decorator: `decorate(duration=function)(task)`."""

    def __init__(self, decorate: Decorate) -> None:
        from neftune_core.models.device import keep_off_gpu

        keep_off_gpu()
        self._study = decorate(duration=_asked_seconds)(study_in_call)
        self._answers = decorate(duration=_asked_seconds)(answers_in_call)

    def seconds(self, study: StudySettings, rows: int, loaded: LoadedModel) -> int:
        """The seconds that `study` is likely to take; raises `DoesNotFit` where no call is that long."""
        return require_call(study, rows, loaded.layers, loaded.parameters)

    def words(self, seconds: int) -> str:
        """What a visitor is told before the start."""
        return say(
            "About {seconds} seconds of the GPU, lent to this page: keep it open until the end. Closing it ends the "
            "study at its last whole step, which is kept.",
            seconds=seconds,
        )

    def study(self, record: Record, limits: Limits, should_stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Run a record's study as `run_study` does, inside one call; its last event is always an ending."""
        (record.folder / STOP).unlink(missing_ok=True)
        ended: dict[str, Any] = {}
        with _flagged(record.folder / STOP, should_stop):
            try:
                seconds = _call_seconds_of(record, limits)
                with closing(self._study(str(record.folder), limits.model_dump(), seconds)) as events:
                    for ended in events:
                        yield ended
            except Exception as error:
                ended = {"event": "failed", "message": refusal(error)}
                record.append(ended)
                yield ended
        (record.folder / STOP).unlink(missing_ok=True)

    def answers(
        self, chosen: Sequence[Chosen], prompts: Sequence[Prompt], settings: DecodingSettings, limits: Limits
    ) -> Iterator[list[dict[str, Any]]]:
        """The growing answers, as `comparison.compare_arms` gives them, from one call; raises `LabError`."""
        asked = [(str(one.record.folder), one.arm, one.seed) for one in chosen]
        said = [(one.messages, one.reference, dict(one.own)) for one in prompts]
        decoding = {name: getattr(settings, name) for name in DecodingSettings.model_fields}
        seconds = answer_seconds(chosen, settings)
        try:
            with closing(self._answers(asked, said, decoding, limits.model_dump(), seconds)) as answers:
                for lines in answers:
                    if isinstance(lines, str):
                        raise NotAvailable(lines)
                    yield lines
        except LabError:
            raise
        except Exception as error:
            raise NotAvailable(refusal(error)) from None


def study_in_call(folder: str, limits: dict[str, Any], seconds: int) -> Iterator[dict[str, Any]]:
    """In the worker: the events of a study, as plain values; the time that it has is its own limit."""
    from neftune_core.training.study import run_study

    _begin_in_worker()
    stop = _Lent(Path(folder) / STOP, time.monotonic() + seconds - SAVING_SECONDS)
    with closing(run_study(Record(Path(folder)), parse(Limits, limits), stop)) as events:  # type: ignore[type-var]
        for event in events:
            yield json.loads(json.dumps(event))


def answers_in_call(
    asked: list[tuple[str, str, int]],
    said: list[tuple[Any, str, dict[str, Any]]],
    decoding: dict[str, Any],
    limits: dict[str, Any],
    seconds: int,
) -> Iterator[list[dict[str, Any]] | str]:
    """In the worker: the growing answers, as plain values; where they cannot be given, the sentence."""
    from neftune_core.training.comparison import Chosen, compare_arms
    from neftune_core.training.prompts import Prompt

    _begin_in_worker()
    chosen = [Chosen(Record(Path(folder)), arm, seed) for folder, arm, seed in asked]
    prompts = [Prompt(*one) for one in said]
    try:
        for lines in compare_arms(chosen, prompts, parse(DecodingSettings, decoding), parse(Limits, limits)):
            yield json.loads(json.dumps(lines))
    except Exception as error:  # no class of the lab's goes through the platform's pickle whole
        yield sentence(error)


def _begin_in_worker() -> None:
    """The worker has the GPU, and the memory of a process whose threads did not come with it."""
    import torch

    from neftune_core.models.device import take_gpu

    take_gpu()
    torch.set_num_threads(1)  # the pool that the parent made is not here: to use it would be to wait for ever


@dataclass(frozen=True)
class _Lent:
    """Whether a study should stop: somebody asked for it, or the time that was lent is nearly over."""

    flag: Path
    end: float

    def __call__(self) -> bool:
        return self.flag.exists() or time.monotonic() > self.end

    @property
    def words(self) -> str:
        """Why it stopped."""
        if self.flag.exists():
            return "Stopped as asked."
        return later("Stopped as the GPU's lent time was nearly over; Resume goes on from here, with time lent anew.")


class _flagged:  # noqa: N801 - used as a word after `with`
    """Makes the file `flag` once `should_stop()` is true, for the worker to see: it hears nothing else."""

    def __init__(self, flag: Path, should_stop: Callable[[], bool]) -> None:
        self.flag, self.should_stop = flag, should_stop
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="lent-gpu-stop", daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def _watch(self) -> None:
        while not self.over.wait(POLL_SECONDS):
            if self.should_stop():
                self.flag.touch()
                return

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def refusal(error: BaseException) -> str:
    """One sentence for what the platform's decorator raised: no time left, taken back, or the lab's own fault."""
    title, words = str(getattr(error, "title", "")), str(getattr(error, "message", error))
    said = f"{title} {words}".lower()
    for part, told in REFUSALS.items():
        if part in said:
            seconds = re.search(r"(\d+)\s*s requested vs\.? (-?\d+)\s*s left", words)
            when = re.search(r"in ((?:\d+ days?, )?\d+:\d+:\d+)", words)
            left = f" ({seconds[1]} seconds asked for, {seconds[2]} left)" if seconds else ""
            return told.format(left=left, when=f" in {when[1]}" if when else " tomorrow")
    return sentence(error)


# ---------------------------------------------------------------- how long a call is


def _asked_seconds(*given: Any) -> int:
    """The duration that the platform is told: the last argument of every task here."""
    return int(given[-1])


def study_seconds(study: StudySettings, rows: int, layers: int, parameters: int) -> int:
    """Seconds of GPU that a study of `rows` training rows is likely to take, with a margin; whole seconds."""
    from neftune_core.training.lockstep import count_steps

    training, measuring = study.training, study.measuring
    seeds = study.seeds * (2 if measuring.another_seed else 1)
    steps = count_steps(rows, training) * seeds
    passes = max([1, *(noise.ascent_steps + 1 for noise in study.noise if noise.kind == "adversarial")])
    arms = len(study.arms)
    tokens = training.batch_size * arms * min(study.data.maximum_length, 256)
    step = layers * STEP_SECONDS * training.accumulation * passes + 6 * parameters * tokens * passes / FLOPS_A_SECOND
    trained = training.time_budget_seconds * seeds or steps * step
    measured = (training.evaluations + 1) * 2 * -(-training.evaluation_rows // 8) * layers * STEP_SECONDS / 2
    written = study.answers.new_tokens + (2 * measuring.new_tokens if measuring.prompts else 0)
    answered = written * layers * TOKEN_SECONDS
    return round(START_SECONDS + MARGIN * (trained + seeds * (measured + answered)))


def answer_seconds(chosen: Sequence[Chosen], settings: DecodingSettings) -> int:
    """Seconds of GPU that answering takes, at most; the records have one model."""
    from neftune_core.training.comparison import passes

    layers = max(int(one.record.said_of("model").get("layers", USUAL_LAYERS)) for one in chosen)
    decoding = passes(chosen) * settings.new_tokens * layers * TOKEN_SECONDS
    return min(MOST_SECONDS, round(START_SECONDS + MARGIN * decoding))


def require_call(study: StudySettings, rows: int, layers: int, parameters: int) -> int:
    """The seconds of GPU for a study; raises `DoesNotFit` where no call is that long."""
    seconds = study_seconds(study, rows, layers, parameters)
    if seconds > MOST_SECONDS:
        raise DoesNotFit(
            say(
                "This study would take about {seconds} seconds of the GPU, which is lent for at most "
                "{most}: choose fewer epochs, a time budget, fewer seeds or a smaller model.",
                seconds=seconds,
                most=MOST_SECONDS,
            )
        )
    return seconds


def _call_seconds_of(record: Record, limits: Limits) -> int:
    from neftune_core.data.preparing import prepare
    from neftune_core.models.loading import load

    if record.is_sweep:
        raise NotAvailable(
            say(
                "A sweep is many studies, and the GPU is lent here for one call: run one study at a "
                "time, or the sweep on a machine of your own."
            )
        )
    study = record.study
    loaded = load(study.model)
    prepared = prepare(study.data.within(loaded.context), loaded.tokenizer, limits)
    return require_call(study, len(prepared.train), loaded.layers, loaded.parameters)
