"""Run studies and sweeps from a queue in one worker thread, independently of the pages that submitted them."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from neftune_core.errors import DoesNotFit, RecordError
from neftune_core.language import ENGLISH, in_language, later, plural, say
from neftune_core.models.loading import release_memory
from neftune_core.sentences import sentence
from neftune_core.settings import Limits
from neftune_core.studies.records import removal
from neftune_core.studies.records.log import Event
from neftune_core.studies.records.progress import Status, StudyProgress, before_run, of_record
from neftune_core.studies.records.record import ENDINGS, Record, asked_from, create, find
from neftune_core.studies.settings import StudySettings
from neftune_core.sweeps.more_seeds import extend, next_seeds, require_allowed, seeds_offered
from neftune_core.sweeps.record import create_sweep
from neftune_core.sweeps.settings import SweepSettings
from neftune_core.sweeps.sweep import run_record

logger = logging.getLogger(__name__)

RESERVED_SHARE = 4
"""One in `RESERVED_SHARE` queue places is reserved for addresses without a waiting job."""

NOT_OWNED = later("This study was started from the command line, so visitors cannot change it: start one of your own.")
ADDRESS_LIMIT = later(
    "Studies in the queue from your IP address: {here}. The remaining places are reserved for others: wait until "
    "one of these studies is done."
)

Run = Callable[[Record, Limits, Callable[[], bool]], Iterator[Event]]


@dataclass
class _Job:
    """A waiting or running job, submitted from `address`; with `discard`, its record is removed when it ends."""

    record: Record
    owner: str
    progress: StudyProgress
    address: str
    stop: threading.Event = field(default_factory=threading.Event)
    discard: bool = False
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def status(self, place: int) -> Status:
        stopping = self.stop.is_set() and self.progress.state not in ENDINGS
        return replace(self.progress.status(stopping=stopping), place=place)


class LabJobs:
    """The queue and its worker thread, which starts with the first job and runs until the process ends.

    Args:
        limits: Limits of this server.
        run: Runs a record in the context of its submitter, as required by platforms that allocate GPUs per request.
        admit: Called with the visitor's address before a job is queued; raises a `LabError` to reject the job.
    """

    def __init__(
        self, limits: Limits, run: Run = run_record, admit: Callable[[str], None] = lambda address: None
    ) -> None:
        self.limits = limits
        self.run = run
        self.admit = admit
        self._change = threading.Condition()
        self._submitting = threading.Lock()
        self._waiting: list[_Job] = []
        self._running: _Job | None = None
        self._last_owner: str | None = None
        self._worker: threading.Thread | None = None
        self._unwritten: dict[str, Status] = {}
        self._closed = False
        self._discarded: set[str] = set()
        removal.sweep(limits)

    def submit(self, settings: StudySettings | SweepSettings, owner: str) -> Record:
        """Create the record of a study or a sweep and queue it.

        Args:
            settings: The study or sweep.
            owner: Key of the visitor.

        Returns:
            The record.

        Raises:
            LabError: If a limit is exceeded, the queue is full, or a file cannot be used.
        """
        settings.check(self.limits)
        if isinstance(settings, SweepSettings):
            return self.submit_made(owner, lambda: create_sweep(settings, owner, self.limits))
        return self.submit_made(owner, lambda: create(settings, owner, self.limits))

    def submit_made(self, owner: str, make: Callable[[], Record]) -> Record:
        """Queue the record that `make` creates, after checking that the queue has room.

        Args:
            owner: Key of the visitor.
            make: Creates the record.

        Returns:
            The record.

        Raises:
            DoesNotFit: If the queue has no room for another job of this visitor or IP address.
        """
        with self._submitting:
            self._check_room(owner)
            self._remove_old()
            record = make()
            self._queue(record, owner)
        return record

    def resume(self, record_id: str, owner: str) -> Record:
        """Queue an unfinished study again; it continues from its last checkpoint.

        Args:
            record_id: Id of the record.
            owner: Key of the visitor.

        Returns:
            The record.

        Raises:
            RecordError: If the study is running or finished, or its record is unusable.
            LabError: If a limit is exceeded.
        """

        def check(record: Record) -> None:
            if self.status(record).state == "finished":
                raise RecordError(say("This study is finished: there is nothing to resume."))
            record.require_usable()

        return self._queue_again(record_id, owner, check)

    def add_seeds(self, record_id: str, owner: str) -> Record:
        """Queue an ended study or sweep again, with the number of seeds that the page offers.

        Args:
            record_id: Id of the record.
            owner: Key of the visitor.

        Returns:
            The record.

        Raises:
            LabError: If the study is running, or a limit is exceeded.
        """
        offered = seeds_offered(self.find_owned(record_id, owner))  # slow, so not while the queue is locked

        def grow(record: Record) -> None:
            seeds = offered or next_seeds(record.study.seeds)
            require_allowed(record, seeds, self.limits)
            extend(record, seeds)

        return self._queue_again(record_id, owner, grow)

    def _queue_again(self, record_id: str, owner: str, prepare: Callable[[Record], None]) -> Record:
        """Queue a study that has ended, after `prepare`, which raises a `LabError` to reject it."""
        record = self.find_owned(record_id, owner)
        with self._submitting:
            if not self.status(record).is_over:
                raise RecordError(say("This study is already running."))
            self._check_room(owner)
            prepare(record)
            self._queue(record, owner)
        return record

    def stop(self, record_id: str, owner: str) -> None:
        """Stop a waiting or running study, which can be resumed; a running one saves its last complete step first.

        Args:
            record_id: Id of the record.
            owner: Key of the visitor.

        Raises:
            RecordError: If the study is neither waiting nor running, or belongs to another visitor.
        """
        self._end(record_id, owner, discard=False)

    def discard(self, record_id: str, owner: str) -> None:
        """Stop a study and remove its files; a study that has already ended can be restored for 10 minutes.

        Args:
            record_id: Id of the record.
            owner: Key of the visitor.

        Raises:
            RecordError: If the study belongs to another visitor or was created on the command line.
        """
        record = find(record_id, owner)
        if not record.is_owned:
            words = say("This study was started from the command line: remove it there, with `neftune runs remove`.")
            raise RecordError(words)
        with self._change:  # atomic, because the job may end at any moment
            self._discarded.add(record_id)
            if self._find(record_id) is not None:
                self._end(record_id, owner, discard=True)
            else:
                removal.discard(record)

    def was_discarded(self, record_id: str) -> bool:
        """Return whether this study was discarded in this process."""
        return record_id in self._discarded

    def status(self, record: Record) -> Status:
        """Return the status of a record's study from its job, or from its events if it has no job."""
        with self._change:
            job = self._find(record.id)
            if job is not None:
                place = self._order().index(job) + 1 if job in self._waiting else 0
                return job.status(place)
            unwritten = self._unwritten.get(record.id)
        return unwritten or of_record(record)

    def current_of(self, owner: str) -> Record | None:
        """Return the visitor's running study, or else the first waiting one; None if there is none."""
        with self._change:
            return next((job.record for job in self._all() if job.owner == owner), None)

    @property
    def is_idle(self) -> bool:
        """Whether no job is running or waiting."""
        with self._change:
            return not self._all()

    def wait(self, record: Record, timeout_seconds: float) -> Status:
        """Block until the study is over or the timeout expires.

        Args:
            record: Record of a study or a sweep.
            timeout_seconds: Maximum time to wait.

        Returns:
            The status.
        """
        with self._change:
            self._change.wait_for(lambda: self._find(record.id) is None, timeout_seconds)
        return self.status(record)

    def close(self, timeout_seconds: float) -> None:
        """Stop the running study with a checkpoint, and wait for at most this long; queued studies can be resumed."""
        with self._change:
            self._closed = True
            running = self._running
            if running is not None:
                running.stop.set()
            self._change.notify_all()
        if running is not None:
            self.wait(running.record, timeout_seconds)

    def find_owned(self, record_id: str, owner: str) -> Record:
        """Find a record that `owner` may change.

        Args:
            record_id: Id of the record.
            owner: Key of the visitor.

        Returns:
            The record.

        Raises:
            RecordError: If there is no such record, or another visitor or a public server's command line created it.
        """
        record = find(record_id, owner)
        if not record.is_owned and not self.limits.local_paths:
            raise RecordError(say(NOT_OWNED))
        return record

    def _check_room(self, owner: str) -> None:
        """Raise a `LabError` if the queue has no room for another job from `owner` or from the current address."""
        address = asked_from.get()
        with self._change:
            mine, waiting = sum(job.owner == owner for job in self._waiting), len(self._waiting)
            here = sum(job.address == address for job in self._waiting) if address else 0
        if mine >= self.limits.waiting_jobs:
            words = plural(
                mine,
                "You have {mine} study in the queue, the maximum on this server: wait until it is done.",
                "You have {mine} studies in the queue, the maximum on this server: wait until one is done.",
            )
            raise DoesNotFit(say(words, mine=mine))
        if waiting >= self.limits.queue_places:
            raise DoesNotFit(say("The queue is full ({waiting} waiting): try again later.", waiting=waiting))
        reserved = self.limits.queue_places // RESERVED_SHARE if here else 0
        if here >= self.limits.address_jobs or waiting >= self.limits.queue_places - reserved:
            raise DoesNotFit(say(ADDRESS_LIMIT, here=here))
        self.admit(address)

    def _queue(self, record: Record, owner: str) -> None:
        with self._change:
            self._unwritten.pop(record.id, None)
            self._waiting.append(_Job(record, owner, before_run(record), asked_from.get()))
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, name="neftune-worker", daemon=True)
                self._worker.start()
            self._change.notify_all()

    def _end(self, record_id: str, owner: str, *, discard: bool) -> None:
        with self._change:
            job = self._find(record_id)
            if job is None or job.owner != owner:
                raise RecordError(say("This study is not running, or it belongs to another visitor."))
            job.discard = job.discard or discard
            job.stop.set()
            if job in self._waiting:
                self._waiting.remove(job)
                self._change.notify_all()
                if discard:
                    removal.remove(job.record)
                else:
                    seed = job.record.study.seed
                    job.record.append({"seed": seed, "event": "stopped", "message": later("Stopped while waiting.")})

    def _all(self) -> list[_Job]:
        return [*([self._running] if self._running else []), *self._waiting]

    def _find(self, record_id: str) -> _Job | None:
        """Return the job of a record; a waiting job takes precedence over one that is just ending."""
        return next((job for job in reversed(self._all()) if job.record.id == record_id), None)

    def _order(self) -> list[_Job]:
        """Return the waiting jobs in running order; visitors take turns, and each visitor's jobs keep their order."""
        rounds: dict[str | None, int] = {self._last_owner: 1}
        ranked = []
        for job in self._waiting:
            ranked.append((rounds.get(job.owner, 0), job))
            rounds[job.owner] = rounds.get(job.owner, 0) + 1
        return [job for _, job in sorted(ranked, key=lambda entry: entry[0])]

    def _work(self) -> None:
        _yield_to_page()
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._waiting) or self._closed)
                if self._closed:
                    return
                job = self._order()[0]
                self._waiting.remove(job)
                self._running, self._last_owner = job, job.owner
                job.progress.state = "preparing"
            try:
                job.context.run(self._run, job)
            except Exception:  # a failed job must not block the next one
                logger.exception("the job of record %s could not be completed", job.record.id)
            with self._change:
                self._running = None
                if job.discard:  # removed under the lock, so that `discard` never misses the job
                    try:
                        removal.remove(job.record)
                    except Exception:
                        logger.exception("record %s could not be removed", job.record.id)
                self._change.notify_all()

    def _run(self, job: _Job) -> None:
        is_new = not job.record.events()
        try:
            with in_language(ENGLISH):  # records are in English
                for event in self.run(job.record, self.limits, job.stop.is_set):
                    job.progress.follow(event)
        except Exception as error:  # the record itself could not be read or written
            job.progress.follow({"event": "failed", "message": sentence(error)})
        release_memory()
        if is_new and not job.discard:
            with contextlib.suppress(OSError, RecordError):
                removal.remove_unstarted(job.record)
        if not job.discard and job.record.ending() is None:
            self._unwritten[job.record.id] = job.status(0)
        self._remove_old()

    def _remove_old(self) -> None:
        with self._change:
            busy = {job.record.id for job in self._all()}
        removal.sweep(self.limits, busy)


def _yield_to_page() -> None:
    """Make this and its compute threads batch threads on Linux, so that threads that serve the page come first.

    They keep their share of CPU time; a niceness of 10 would reduce it (next to two busy processes, to a sixth).
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_BATCH, os.sched_param(0))
