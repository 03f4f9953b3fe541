"""Estimate the duration of a sweep on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from neftune_core.data.preparing import PreparedData, prepare
from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import check_length
from neftune_core.language import later, say
from neftune_core.models.estimates import duration, stored_calibration, training_key
from neftune_core.models.loading import LoadedModel, load
from neftune_core.settings import Limits, parse
from neftune_core.studies.planning import memory_and_time, workload_of
from neftune_core.sweeps.settings import Cell, SweepSettings, cells


@dataclass(frozen=True)
class TimeEstimate:
    """Estimated duration of cells in seconds, and a sentence with the duration and the source of the estimate."""

    seconds: float
    sentence: str


def _sweep_time(cells: Sequence[Cell], prepared: Sequence[PreparedData], loaded: LoadedModel) -> TimeEstimate:
    """Estimate the duration of cells, given the prepared data of each."""
    seconds = sum(memory_and_time(cell.study, loaded, rows).seconds for cell, rows in zip(cells, prepared, strict=True))
    first = cells[0].study
    known = stored_calibration(training_key(first.model, workload_of(first, prepared[0], loaded)))
    words = (
        later("About {duration}, at the speed of the last study of this model on this machine.")
        if known
        else later(
            "About {duration}, estimated from the speed of this machine (to within a factor of two if nothing else is "
            "running)."
        )
    )
    return TimeEstimate(seconds, say(words, duration=duration(seconds)))


def plan(settings: SweepSettings, limits: Limits) -> TimeEstimate:
    """Estimate the duration of a whole sweep.

    Args:
        settings: The sweep.
        limits: Limits of this server.

    Returns:
        The estimate.
    """
    loaded = load(settings.study.model)

    @cache
    def prepared(data: str) -> PreparedData:
        found = parse(DataSettings, json.loads(data))
        return prepare(found.within(loaded.context), loaded.tokenizer, limits)

    every = cells(settings)
    rows = [prepared(cell.study.data.model_dump_json()) for cell in every]
    for cell, found in zip(every, rows, strict=True):
        check_length(len(found.train), cell.study.training, limits, seeds=len(cell.study.runs))
    return _sweep_time(every, rows, loaded)
