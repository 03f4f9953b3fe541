"""Job queue of the lab, in which a study or a whole sweep is one job."""

from __future__ import annotations

from collections.abc import Callable

from neftune_core.settings import Limits
from neftune_core.studies.jobs import Jobs, Run
from neftune_core.studies.records.record import Record
from neftune_core.sweeps.more_seeds import extend, next_seeds, require_allowed
from neftune_core.sweeps.record import create_sweep
from neftune_core.sweeps.settings import SweepSettings
from neftune_core.sweeps.sweep import run_record


class LabJobs(Jobs):
    """A queue that accepts sweeps as well as studies.

    Args:
        limits: Limits of the server.
        run: Function that runs the record of a study or a sweep.
        admit: Function called with the visitor's address before a job is queued; see `Jobs`.
    """

    def __init__(
        self, limits: Limits, run: Run = run_record, admit: Callable[[str], None] = lambda address: None
    ) -> None:
        super().__init__(limits, run, admit)

    def submit_sweep(self, sweep: SweepSettings, owner: str) -> Record:
        """Create the record of a sweep and queue it.

        Args:
            sweep: The sweep.
            owner: Key of the visitor.

        Returns:
            The record.
        """
        sweep.check(self.limits)
        return self.submit_made(owner, lambda: create_sweep(sweep, owner, self.limits))

    def add_seeds(self, record_id: str, owner: str) -> Record:
        """Queue a finished study or sweep again with `next_seeds` seeds.

        Args:
            record_id: Id of the record.
            owner: Key of the visitor.

        Returns:
            The record.
        """

        def grow(record: Record) -> None:
            seeds = next_seeds(record.study.seeds)
            require_allowed(record, seeds, self.limits)
            extend(record, seeds)

        return self.extend(record_id, owner, grow)
