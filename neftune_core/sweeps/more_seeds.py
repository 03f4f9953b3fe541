"""Add seeds to a trained study or sweep; the existing results stay bit-identical."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from statistics import median
from typing import TypeVar

from neftune_core.durable import write_whole
from neftune_core.engine.settings import check_length
from neftune_core.errors import LabError, RecordError
from neftune_core.evaluation.verdict import CLAIM_SEEDS
from neftune_core.language import later, say
from neftune_core.settings import Limits, from_toml, to_toml
from neftune_core.studies.records.log import as_jsonl
from neftune_core.studies.records.record import ENDINGS, LOG, Record, own_records
from neftune_core.studies.records.user_rows import study_key
from neftune_core.studies.settings import MOST_SEEDS, StudySettings
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.settings import SweepSettings
from neftune_core.sweeps.table import judge

LONGEST_GAP_SECONDS = 600.0
"""Maximum time between two events that is included in the duration; the rest of a longer gap is treated as a pause."""


def next_seeds(seeds: int) -> int:
    """Return the next number of seeds to offer: `CLAIM_SEEDS`, then twice the current number, up to `MOST_SEEDS`."""
    return min(MOST_SEEDS, CLAIM_SEEDS if seeds < CLAIM_SEEDS else 2 * seeds)


def seeds_offered(record: Record) -> int:
    """Return the total number of seeds that would make the verdict of `record` more precise; 0 if more would not help.

    It is the number that the verdict recommends, or else that of `next_seeds`, and at most `MOST_SEEDS`. More seeds do
    not help if the record has the maximum number, or if nothing can be judged, as when an arm diverged.
    """
    try:
        seeds, found = record.study.seeds, judge(record)
        recommended = (line.parameters["needed"] for line in found.summary if line.key == "next.power")
        more = min(MOST_SEEDS, next(recommended, next_seeds(seeds)))
        return more if more > seeds and not found.is_void else 0
    except (LabError, ArithmeticError, LookupError, TypeError, ValueError):  # damaged record
        return 0


def seconds_for(record: Record, seeds: int) -> float:
    """Estimate the time to train a record's missing seeds, from the time that the existing ones took.

    Args:
        record: A finished study or sweep.
        seeds: The total number of seeds.

    Returns:
        The time in seconds.
    """
    took = defaultdict[object, float](float)
    events = [event for event in record.events() if isinstance(event.get("time"), int | float)]
    for before, event in pairwise(events):
        seconds = event["time"] - before["time"]
        took[event.get("seed", before.get("seed"))] += min(LONGEST_GAP_SECONDS, max(0.0, seconds))
    done = record.study.seeds
    return (seeds - done) * (sum(took.values()) / done if record.is_sweep else median(took.values() or [0.0]))


def find_same(requested: StudySettings | SweepSettings, owner: str) -> Record | None:
    """Find the owner's newest record of the same study or sweep.

    Args:
        requested: The study or sweep.
        owner: Key of the visitor; empty for the command line.

    Returns:
        The record, or None.
    """
    return next((one for seeds, one in _same_but_seeds(requested, owner) if seeds == _seeds(requested)), None)


def find_smaller(requested: StudySettings | SweepSettings, owner: str) -> Record | None:
    """Find the largest record that differs from a study or sweep only in having fewer seeds.

    Args:
        requested: The study or sweep.
        owner: Key of the visitor; empty for the command line.

    Returns:
        The record, or None.
    """
    smaller = ((seeds, one) for seeds, one in _same_but_seeds(requested, owner) if seeds < _seeds(requested))
    return max(smaller, key=lambda found: found[0], default=(0, None))[1]


def _same_but_seeds(requested: StudySettings | SweepSettings, owner: str) -> Iterator[tuple[int, Record]]:
    """Yield the owner's records of the same study or sweep with any number of seeds, newest first, with that number."""
    key, is_sweep = _key_without_seeds(requested), isinstance(requested, SweepSettings)
    for record in own_records(owner):
        with suppress(RecordError):
            if record.is_sweep == is_sweep:
                settings = Sweep(record.folder).settings if is_sweep else record.study
                if _key_without_seeds(settings) == key:
                    yield _seeds(settings), record


def require_allowed(record: Record, seeds: int, limits: Limits) -> None:
    """Check a record with more seeds against the limits of this server.

    Args:
        record: A finished study or sweep.
        seeds: The total number of seeds requested.
        limits: The limits of this server.

    Raises:
        DoesNotFit: If a limit is exceeded.
    """
    if record.is_sweep:
        _with_seeds(Sweep(record.folder).settings, seeds).check(limits)
    else:
        study = _with_seeds(record.study, seeds)
        check_length(record.about_table("data").get("train", 1), study.training, limits, seeds=len(study.runs))


def extend(record: Record, seeds: int) -> None:
    """Raise the number of seeds of a record; its next run trains the missing ones.

    Seeds of the A/A floor, which trained only the control, are run again if they are now needed for every arm.

    Args:
        record: Record of a study or sweep that has ended.
        seeds: The new total number of seeds.

    Raises:
        RecordError: If the record is running, cannot be used, or already has this many seeds.
    """
    record.require_usable()
    if seeds <= record.study.seeds:
        words = later("The record {record} already has that many seeds ({count}): request more.")
        raise RecordError(say(words, record=record.id, count=record.study.seeds))
    with record.claimed():
        text = record.settings_file.read_text(encoding="utf-8")
        again = set[int]()
        if record.is_sweep:
            larger: StudySettings | SweepSettings = _with_seeds(from_toml(SweepSettings, text), seeds)
        else:
            before = from_toml(StudySettings, text)
            larger = study = _with_seeds(before, seeds)
            again = {seed for seed, arms in study.runs.items() if before.runs.get(seed, arms) != arms}
        kept = [one for one in record.events() if one["event"] not in ENDINGS and one.get("seed") not in again]
        write_whole(record.folder / LOG, as_jsonl(kept))
        write_whole(record.settings_file, to_toml(larger, comments=True))


S = TypeVar("S", StudySettings, SweepSettings)


def _with_seeds(settings: S, seeds: int) -> S:
    study = {"study": _with_seeds(settings.study, seeds)} if isinstance(settings, SweepSettings) else {"seeds": seeds}
    return settings.model_copy(update=study)


def _seeds(settings: StudySettings | SweepSettings) -> int:
    return settings.seeds if isinstance(settings, StudySettings) else settings.study.seeds


def _key_without_seeds(settings: StudySettings | SweepSettings) -> object:
    if isinstance(settings, StudySettings):
        return study_key(_with_seeds(settings, 1))
    return to_toml(settings.model_copy(update={"study": StudySettings()})), _key_without_seeds(settings.study)
