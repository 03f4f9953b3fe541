"""State shared by all visitors of one server: limits, the job queue, and cached data."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from neftune_core import language
from neftune_core.data.preparing import PreparedData, prepare
from neftune_core.errors import DataError, LabError, RecordError
from neftune_core.home import assets
from neftune_core.language import say
from neftune_core.models.loading import load
from neftune_core.settings import Limits
from neftune_core.space.profiles import HostProfile, host_profile
from neftune_core.studies.records.owners import file_stamp
from neftune_core.studies.records.record import LOG, Record
from neftune_core.sweeps.record import Sweep
from neftune_core.ui.server.rate_limits import Rates
from neftune_core.ui.server.recent import Recent

if TYPE_CHECKING:
    from neftune_core.data.settings import DataSettings
    from neftune_core.evaluation.settings import DecodingSettings
    from neftune_core.evaluation.verdict_words import Line
    from neftune_core.models.settings import ModelSettings
    from neftune_core.space.zero_gpu import AllocatedGpu
    from neftune_core.studies.comparison import SelectedArm
    from neftune_core.studies.prompts import Prompt
    from neftune_core.sweeps.queue import LabJobs
    from neftune_core.sweeps.table import SweepTable

KEPT_DATA = 4
KEPT_TABLES = 8
KEPT_BRIEFS = 1000
LONGEST_KEY = 200
WAIT_SECONDS = 1.0
LONGEST_END_SECONDS = 8.0  # many systems kill a process ten seconds after SIGTERM


class Lab:
    """State of one server.

    The job queue is created on first use, since creating it imports torch, which must not delay the page.

    Args:
        limits: Limits of the server; the profile's limits if None.
        studies: Folder of recorded studies; those that ship with the lab if None.
        host: Profile of the server; the default profile if None.
        gpu: GPU that the platform allocates per call; None on other platforms.
        shared: Whether the page has a public link that needs no password.

    Raises:
        InvalidSetting: If a variable of the environment is not valid.
        NotAvailable: If the tracker is not installed.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        studies: Path | None = None,
        *,
        host: HostProfile | None = None,
        gpu: AllocatedGpu | None = None,
        shared: bool = False,
    ) -> None:
        self.host = host or host_profile({})
        self.limits = limits or self.host.limits
        self.gpu = gpu
        self.has_strangers = shared or not self.limits.local_paths
        self.offers_judge = not self.has_strangers if self.host.judge is None else self.host.judge
        self.studies = studies or assets() / "studies"
        self.sweeps = assets() / "recorded"
        self._data: Recent[PreparedData] = Recent(KEPT_DATA)
        self._tables: Recent[SweepTable] = Recent(KEPT_TABLES)
        self._briefs: Recent[tuple[Line | None]] = Recent(KEPT_BRIEFS)

    @functools.cached_property
    def jobs(self) -> LabJobs:
        """Return the job queue with its worker."""
        from neftune_core.studies.tracking import logged
        from neftune_core.sweeps.queue import LabJobs
        from neftune_core.sweeps.sweep import run_record

        run = self.gpu.study if self.gpu else run_record
        return LabJobs(self.limits, logged(run, self.host.track), admit=Rates(self.limits).count_study)

    def attended(self, record: Record, key: str) -> Iterator[Any]:
        """Keep a request open until its study ends if the GPU is allocated per request.

        The study is stopped if the page disconnects. On other platforms nothing is yielded, since studies do not need
        an open page.

        Args:
            record: Record of the study.
            key: The visitor's key.

        Yields:
            Updates that change nothing.
        """
        if self.gpu is None:
            return
        try:
            while not self.jobs.wait(record, WAIT_SECONDS).is_over:
                yield gr.skip()
        except GeneratorExit:
            with contextlib.suppress(RecordError):  # the study has just ended
                self.jobs.stop(record.id, key)
            raise

    @property
    def attending(self) -> dict[str, Any]:
        """Return options of Gradio events, so that requests kept open by `attended` do not block other requests."""
        return {"concurrency_limit": None} if self.gpu else {}

    def answers(
        self, chosen: Sequence[SelectedArm], prompts: Sequence[Prompt], settings: DecodingSettings
    ) -> Iterator[list[dict[str, Any]]]:
        """Answer prompts with `comparison.compare_arms`, on the GPU allocated per call if there is one.

        Args:
            chosen: The arms.
            prompts: Prompts to answer, each with one conversation for all arms or one per arm.
            settings: Decoding settings.

        Yields:
            The answers so far.
        """
        from neftune_core.studies.comparison import compare_arms

        answer = self.gpu.answers if self.gpu else compare_arms
        return answer(chosen, prompts, settings, self.limits)

    def close(self) -> None:
        """Stop the running study with a checkpoint before the server ends."""
        if "jobs" in self.__dict__:
            self.jobs.close(LONGEST_END_SECONDS)

    @functools.cached_property
    def recorded(self) -> Record | None:
        """Return the recorded study that the page shows until the visitor has trained one; None if there is none."""
        found = sorted(path.parent for path in self.studies.glob("*/study.toml"))
        return Record(found[0]) if found else None

    def prepared(self, data: DataSettings, model: ModelSettings) -> tuple[PreparedData, Any]:
        """Read and tokenise the rows of a data source, and check that there are enough for a study.

        Args:
            data: The data settings.
            model: The model settings.

        Returns:
            The prepared rows and the tokenizer.

        Raises:
            LabError: If the model or the data cannot be read.
            DataError: If there are too few rows.
        """
        found, tokenizer = self.examined(data, model)
        if found.shortage:
            raise DataError(found.shortage)
        return found, tokenizer

    def examined(self, data: DataSettings, model: ModelSettings) -> tuple[PreparedData, Any]:
        """Read and tokenise the rows of a data source, even if there are too few for a study.

        The most recent results are cached, separately for each language, because they contain translated messages.

        Args:
            data: The data settings.
            model: The model settings.

        Returns:
            The prepared rows and the tokenizer.

        Raises:
            LabError: If the model or the data cannot be read.
        """
        loaded = load(model)
        name = language.current() + data.model_dump_json() + model.model_dump_json()
        tokenizer = loaded.tokenizer
        within = data.within(loaded.context)
        found = self._data.cached(name, lambda: prepare(within, tokenizer, self.limits, require_rows=False))
        return found, tokenizer

    @functools.cached_property
    def recorded_sweeps(self) -> list[Sweep]:
        """Return the recorded sweeps that ship with the lab, in the order of their numbers."""
        folders = (path.parent for path in self.sweeps.glob("*/sweep.toml"))
        return [Sweep(folder) for folder in sorted(folders, key=lambda folder: int(folder.name.partition("-")[0]))]

    def sweep_table(self, sweep: Sweep) -> SweepTable:
        """Return the table of a sweep; recent tables are cached until the logs of their sweeps grow."""
        from neftune_core.sweeps.table import sweep_table

        name = sweep.folder, len(sweep.events()), language.current()
        return self._tables.cached(name, lambda: sweep_table(sweep))

    def brief(self, record: Record) -> Line | None:
        """Return the result of a finished record in a few words; None if it has none.

        The record is judged once, and again if its log has changed.
        """
        stamp = _log_stamp(record)
        return self._briefs.cached((record.id, stamp), lambda: (_brief(record),))[0]

    def has_brief(self, record: Record) -> bool:
        """Return whether `brief` has a stored result, so that it takes no time."""
        return (record.id, _log_stamp(record)) in self._briefs


def _log_stamp(record: Record) -> tuple[int, int, int]:
    """Return a value that changes whenever the log of a record does."""
    try:
        return file_stamp(record.folder / LOG)
    except OSError:
        return (0, 0, 0)


def _brief(record: Record) -> Line | None:
    from neftune_core.sweeps.table import judge

    try:
        found = judge(record)
    except (LabError, ArithmeticError, LookupError, TypeError, ValueError):  # shown when the record is opened
        return None
    return None if found.is_empty else found.brief


def require_key(key: str) -> str:
    """Return the visitor's key.

    Raises:
        RecordError: If the key is missing or too long.
    """
    if not key or len(key) > LONGEST_KEY:
        raise RecordError(say("This browser sent no key to identify your studies: reload the page."))
    return key
