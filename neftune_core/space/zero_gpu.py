"""ZeroGPU: a GPU allocated for a single call, in a forked process, for a limited number of seconds.

The platform forks a worker, pickles its input and output, checks at every `yield` whether the caller has disconnected,
and ends the worker when its time is up. A study is therefore passed as a folder and returned as events, which are
plain JSON. The worker writes the record to the disk that both processes share.

The platform emulates CUDA in the serving process. Models that are moved to CUDA before the page is launched are on the
GPU when a worker starts.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_core.errors import LabError, NotAvailable, RecordError
from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.language import later, say, translate_finished
from neftune_core.models.device import allow_gpu, forbid_gpu
from neftune_core.models.threads import limit_threads
from neftune_core.sentences import sentence
from neftune_core.settings import Limits, parse
from neftune_core.space.gpu_seconds import answer_seconds, record_seconds, require_call
from neftune_core.studies.records.record import ENDINGS, Record

if TYPE_CHECKING:
    from neftune_core.models.settings import ModelSettings
    from neftune_core.studies.comparison import SelectedArm
    from neftune_core.studies.prompts import Prompt

logger = logging.getLogger(__name__)

# A study stops this long before its time is up, so that its arms can be saved.
SAVING_SECONDS = 4.0

STOP = "stop"
POLL_SECONDS = 0.2

QUOTA = later(
    "Your GPU time on Hugging Face is used up for now: sign in there for more, come back tomorrow, or request less."
)
QUOTA_UNTIL = later(
    "Your GPU time on Hugging Face is used up for now: sign in there for more, come back in {when}, or request less."
)
QUOTA_LEFT = later(
    "You do not have enough GPU time left on Hugging Face ({asked} seconds requested, {left} seconds left): "
    "sign in there for more, request less, or come back in {when}."
)
BUSY = later("Your other GPU job on Hugging Face is still running: try again once it has finished.")
TOO_LONG = later("Hugging Face does not allocate a GPU for that long: choose fewer steps, seeds, arms or answers.")
ABORTED = later(
    "The GPU was withdrawn before the study ended. Its last checkpoint is saved: press Resume to continue from there."
)
UNANSWERED = later("The GPU was withdrawn before all answers were complete: request fewer or shorter answers.")
UNMEASURED = later("The GPU was withdrawn before the measurement was complete: try again.")

REFUSALS = {
    "illegal duration": TOO_LONG,
    "pending credits": BUSY,
    "quota": QUOTA,
    "gpu limit": QUOTA,
    "aborted": ABORTED,
    "worker error": ABORTED,
}
"""Sentences for visitors, by a text in the title or message of the platform's errors."""

Decorate = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]


def enter() -> AllocatedGpu:
    """Return the GPU that the Space allocates per call. Call this before torch is imported.

    Raises:
        NotAvailable: If this process does not run on ZeroGPU.
        RuntimeError: If torch has been imported.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported before spaces, which must patch it first")
    try:
        spaces = importlib.import_module("spaces")
    except ImportError:
        raise NotAvailable(
            "The package spaces, which only ZeroGPU Spaces have, is missing: choose another NEFTUNE_PROFILE."
        ) from None
    return AllocatedGpu(spaces.GPU)


class AllocatedGpu:
    """A GPU that is allocated per call, and the functions that run on it.

    Args:
        decorate: The platform's decorator, used as `decorate(duration=function)(task)`.
    """

    def __init__(self, decorate: Decorate) -> None:
        forbid_gpu()
        self._study = decorate(duration=_requested_seconds)(_study_in_call)
        self._task = decorate(duration=_requested_seconds)(_task_in_call)

    def place(self, models: Sequence[ModelSettings]) -> None:
        """Move models to CUDA before the page is launched; a model that fails to load here is loaded by each call."""
        from neftune_core.models.loading import place_on_gpu

        for settings in models:
            try:
                place_on_gpu(settings)
            except Exception as error:
                logger.warning("%s was not moved to the GPU at start-up: %s", settings.source, sentence(error))

    seconds = staticmethod(require_call)

    def words(self, seconds: int) -> str:
        """Return the sentence that a visitor sees before the study starts."""
        return say(
            "The study uses about {seconds} seconds of GPU time, allocated to this page. Keep the page open until the "
            "study ends; closing it stops the study at its last complete step, which is saved.",
            seconds=seconds,
        )

    def study(self, record: Record, limits: Limits, should_stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Run a record's study, as `run_study` does, inside one call that allocates the GPU.

        Args:
            record: The record of the study.
            limits: Limits of the server.
            should_stop: Polled while the study runs.

        Yields:
            The events of the study; the last one always ends the study.
        """
        flag = record.folder / STOP
        flag.unlink(missing_ok=True)
        ended: dict[str, Any] = {}
        try:
            with _stop_file(flag, should_stop):
                seconds = record_seconds(record, limits)
                with closing(self._study(str(record.folder), limits.model_dump(), seconds)) as events:
                    for ended in events:
                        yield ended
        except Exception as error:
            if ended.get("event") not in ENDINGS:
                yield _end_as_failed(record, error, refusal(error))
        finally:
            flag.unlink(missing_ok=True)

    def answers(
        self, chosen: Sequence[SelectedArm], prompts: Sequence[Prompt], settings: DecodingSettings, limits: Limits
    ) -> Iterator[list[dict[str, Any]]]:
        """Run `comparison.compare_arms` inside one GPU call.

        Args:
            chosen: The arms.
            prompts: Prompts to answer, each with one conversation for all arms or one per arm.
            settings: Decoding settings.
            limits: Limits of the server.

        Returns:
            Iterator that yields the answers generated so far, after each token.

        Raises:
            NotAvailable: While iterating, if the answers cannot be computed.
        """
        asked = [(str(one.record.folder), one.arm, one.seed) for one in chosen]
        plain_prompts = [(one.messages, one.reference, dict(one.own)) for one in prompts]
        decoding = {name: getattr(settings, name) for name in DecodingSettings.model_fields}
        given = (asked, plain_prompts, decoding, limits.model_dump())
        return self.run(answer, given, answer_seconds(chosen, settings), UNANSWERED)

    def run(
        self, task: Callable[..., Iterator[Any]], given: Sequence[Any], seconds: int, aborted: str = UNMEASURED
    ) -> Iterator[Any]:
        """Run a task inside one call that allocates the GPU.

        Args:
            task: A module-level generator function that yields JSON-serialisable values.
            given: Arguments of the task, as plain values.
            seconds: GPU time to request.
            aborted: Sentence for a call that was aborted by the platform.

        Yields:
            The values of the task.

        Raises:
            NotAvailable: If the task fails, or no GPU is available.
        """
        try:
            with closing(self._task(task.__module__, task.__qualname__, tuple(given), seconds)) as lines:
                for line in lines:
                    if "error" in line:
                        raise NotAvailable(translate_finished(line["error"]))
                    yield line["value"]
        except LabError:
            raise
        except Exception as error:
            raise NotAvailable(refusal(error, aborted=aborted)) from None


def _study_in_call(folder: str, limits: dict[str, Any], seconds: int) -> Iterator[dict[str, Any]]:
    """Run a study in the worker; yield its events as JSON values, and stop it before the allocated time is up.

    Errors are caught here, because the platform reports every error in a worker under the same name.
    """
    from neftune_core.studies.study import run_study

    record = Record(Path(folder))
    stop = _AllocationStop(record.folder / STOP, time.monotonic() + seconds - SAVING_SECONDS)
    try:
        _begin_in_worker()
        with closing(run_study(record, parse(Limits, limits), stop)) as events:  # type: ignore[type-var]
            for event in events:
                yield json.loads(json.dumps(event))
    except Exception as error:
        yield _end_as_failed(record, error, sentence(error))


def _end_as_failed(record: Record, error: Exception, words: str) -> dict[str, Any]:
    """Return a `failed` event; store it unless the record is unusable or another process is writing to it."""
    ended = {"event": "failed", "message": words}
    if not isinstance(error, RecordError):
        with suppress(OSError):
            record.append(ended)
    return ended


def _task_in_call(module: str, name: str, given: tuple[Any, ...], seconds: int) -> Iterator[dict[str, Any]]:
    """Call a function in the worker; yield its values, each as `value`, and the message of an exception as `error`."""
    try:
        _begin_in_worker()
        for value in getattr(importlib.import_module(module), name)(*given):
            yield {"value": json.loads(json.dumps(value))}
    except Exception as error:  # the platform's pickle cannot carry the lab's classes
        yield {"error": sentence(error)}


def answer(
    asked: list[tuple[str, str, int]],
    said: list[tuple[Any, str, dict[str, Any]]],
    decoding: dict[str, Any],
    limits: dict[str, Any],
) -> Iterator[list[dict[str, Any]]]:
    """Answer prompts in the worker, as `comparison.compare_arms` does.

    Args:
        asked: Folder, arm and seed of each column.
        said: Messages, reference and per-column messages of each prompt.
        decoding: Decoding settings as plain values.
        limits: Limits as plain values.

    Yields:
        The answers so far.

    Raises:
        LabError: If the records, the prompts or the settings cannot be used.
    """
    from neftune_core.studies.comparison import SelectedArm, compare_arms
    from neftune_core.studies.prompts import Prompt

    chosen = [SelectedArm(Record(Path(folder)), arm, seed) for folder, arm, seed in asked]
    prompts = [Prompt(*one) for one in said]
    return compare_arms(chosen, prompts, parse(DecodingSettings, decoding), parse(Limits, limits))


def _begin_in_worker() -> None:
    """Prepare a forked worker, which has the GPU but none of the parent's threads."""
    allow_gpu()
    limit_threads(1)  # the parent's thread pool does not exist here: using it would deadlock


@dataclass(frozen=True)
class _AllocationStop:
    """Stop condition of a study: a callable that returns true on request, or when little allocated time is left.

    Attributes:
        flag: File that exists once a stop has been requested.
        end: Time at which the study must stop, in seconds of `time.monotonic`.
    """

    flag: Path
    end: float

    def __call__(self) -> bool:
        return self.flag.exists() or time.monotonic() > self.end

    @property
    def words(self) -> str:
        """Reason for the stop."""
        if self.flag.exists():
            return "Stopped on request."
        return later(
            "Stopped because the allocated GPU time had nearly run out; press Resume to continue with new GPU time."
        )


@contextmanager
def _stop_file(flag: Path, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Create the `flag` file once `should_stop()` is true; only a file can signal a stop to the worker."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            if should_stop():
                flag.touch()
                return

    thread = threading.Thread(target=watch, name="gpu-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def refusal(error: BaseException, aborted: str = ABORTED) -> str:
    """Translate an error of the platform's decorator into one sentence.

    Args:
        error: Exception raised by a call on the GPU.
        aborted: Sentence for a call that was aborted by the platform.

    Returns:
        A sentence about the quota, the aborted call, or an error of the lab.
    """
    if isinstance(error, LabError | OSError):
        return sentence(error)
    title, words = str(getattr(error, "title", "")), str(getattr(error, "message", error))
    said = f"{title} {words}".lower()
    for part, reason in REFUSALS.items():
        if part in said:
            return _quota(words) if reason == QUOTA else say(aborted if reason == ABORTED else reason)
    return sentence(error)


def _quota(words: str) -> str:
    """Return the sentence for an exhausted quota, with amounts and waiting time if the platform's message has them."""
    seconds = re.search(r"(\d+)\s*s requested vs\.? (-?\d+)\s*s left", words)
    when = re.search(r"in ((?:\d+ days?, )?\d+:\d+:\d+)", words)
    if when is None:
        return say(QUOTA)
    if seconds is None:
        return say(QUOTA_UNTIL, when=when[1])
    return say(QUOTA_LEFT, asked=seconds[1], left=seconds[2], when=when[1])


def _requested_seconds(*given: Any) -> int:
    """Return the duration to request from the platform: the last argument of every task."""
    return int(given[-1])
