"""Estimate the duration of a sweep on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from neftune_core.data.preparing import PreparedData, prepare
from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import check_length
from neftune_core.language import later, say
from neftune_core.models.estimates import duration, stored_calibration, training_key
from neftune_core.models.loading import load
from neftune_core.settings import Limits
from neftune_core.studies.planning import memory_and_time, workload_of
from neftune_core.sweeps.settings import SweepSettings, cells


@dataclass(frozen=True)
class TimeEstimate:
    """The estimated duration of a sweep.

    Attributes:
        seconds: Duration in seconds.
        sentence: The duration and the source of the estimate, for users.
    """

    seconds: float
    sentence: str


def plan(settings: SweepSettings, limits: Limits) -> TimeEstimate:
    """Estimate the duration of a whole sweep.

    Args:
        settings: The sweep.
        limits: Limits of this server.

    Returns:
        The estimate.

    Raises:
        DoesNotFit: If a limit is exceeded.
        LabError: If the model cannot be loaded, or the data cannot be read.
    """
    loaded = load(settings.study.model)

    @cache
    def prepared(data: DataSettings) -> PreparedData:
        return prepare(data.within(loaded.context), loaded.tokenizer, limits)

    work = [(cell.study, prepared(cell.study.data)) for cell in cells(settings)]
    for study, rows in work:
        check_length(len(rows.train), study.training, limits, seeds=len(study.runs))
    seconds = sum(memory_and_time(study, loaded, rows).seconds for study, rows in work)
    first, rows = work[0]
    words = later("About {duration}, at the speed of the last study of this model on this machine.")
    if not stored_calibration(training_key(first.model, workload_of(first, rows, loaded))):
        words = later(
            "About {duration}, estimated from the speed of this machine (to within a factor of two if nothing else is "
            "running)."
        )
    return TimeEstimate(seconds, say(words, duration=duration(seconds)))
