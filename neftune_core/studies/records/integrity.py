"""Describe missing or damaged parts of a record; its other parts remain readable."""

from __future__ import annotations

from collections.abc import Iterator

from neftune_core.engine.saving import is_saved
from neftune_core.errors import RecordError
from neftune_core.language import later, plural, say
from neftune_core.noise.names import arm_words
from neftune_core.studies.records.log import Log
from neftune_core.studies.records.record import Record

MOST_NAMED = 4
"""Maximum number of missing weights whose arms are named; beyond it, their number is given."""


def damages(record: Record, log: Log) -> list[str]:
    """Describe each missing or damaged part of a record.

    Args:
        record: Record of a study or a sweep.
        log: Its log, after `read`.

    Returns:
        One sentence per fault.
    """
    found = [*_check_settings(record), *_check_log(log)]
    saved = {(one.get("seed"), arm) for one in log.events if one["event"] == "saved" for arm in one.get("arms", {})}
    label = later("{arm} (seed {seeds})")
    lost = [
        say(label, arm=arm_words(arm), seeds=seed)
        for seed, arm in sorted(saved, key=str)
        if not isinstance(seed, int) or not is_saved(record.arm_folder(arm, seed))
    ]
    if len(lost) > MOST_NAMED:
        words = later("{count} sets of trained weights are missing, so answers cannot be generated with them.")
        found.append(say(words, count=len(lost)))
    elif lost:
        words = later("The weights of {arms} are missing, so answers cannot be generated with them.")
        found.append(say(words, arms=say(", ").join(lost)))
    answered = any(event["event"] == "answered" and event.get("prompts") for event in log.events)
    if answered and not record.answers():
        found.append(say("The answers generated at the end of the study are missing."))
    return found


def _check_settings(record: Record) -> Iterator[str]:
    about, unusable = record.read_about()
    for part in unusable:
        if part != "format":
            yield say("The section {part!r} of record.json is invalid and was ignored.", part=part[:40])
    if not about:
        yield say("The file record.json is missing, too large or damaged.")
    if record.is_newer:
        yield say(
            "This record was made by a newer version of the lab: only the parts that this version understands are "
            "shown."
        )
    try:
        _ = record.study
    except RecordError as error:
        yield str(error)


def _check_log(log: Log) -> Iterator[str]:
    if log.skipped:
        words = plural(
            log.skipped,
            "One line of the log cannot be read and was skipped.",
            "{count:,} lines of the log cannot be read and were skipped.",
        )
        yield say(words, count=log.skipped)
    if log.cut:
        yield say("The log is too large: only the beginning was read.")
    if log.doubled:
        words = plural(
            log.doubled,
            "One line of the log is duplicated and was counted once.",
            "{count:,} lines of the log are duplicated and were counted once.",
        )
        yield say(words, count=log.doubled)
    started = {event.get("seed") for event in log.events if event["event"] == "started"}
    if any(event.get("seed") not in started for event in log.events if event["event"] == "step"):
        yield say("The beginning of the log is missing.")
