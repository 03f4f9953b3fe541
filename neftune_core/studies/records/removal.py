"""Remove records that visitors discard, or that exceed a server's age and size limits."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from neftune_core.durable import move
from neftune_core.errors import RecordError
from neftune_core.home import folder_bytes
from neftune_core.language import say
from neftune_core.settings import Limits
from neftune_core.studies.records.claims import claiming, is_claimed
from neftune_core.studies.records.failures import remember_failure
from neftune_core.studies.records.owners import owner_of
from neftune_core.studies.records.record import CELLS, CLAIM, SAFE_ID, STUDY_FILE, Record, all_records, runs_folder

REMOVED, DISCARDED, IMPORTING = ".removed-", ".discarded-", ".import-"
UNDO_SECONDS = 600
"""Time during which a discarded record can be restored."""
DAY_SECONDS = 24 * 3600


def remove(record: Record) -> None:
    """Remove a record completely; raise `RecordError` if it is running."""
    aside = record.folder.with_name(f"{REMOVED}{record.id}")
    _move_aside(record, aside)
    shutil.rmtree(aside if aside.exists() else record.folder, ignore_errors=True)


def discard(record: Record) -> None:
    """Remove a record; `restore` can undo this for `UNDO_SECONDS`. Raise `RecordError` if the record is running."""
    aside = record.folder.with_name(f"{DISCARDED}{record.id}")
    _move_aside(record, aside)
    if not aside.exists():
        shutil.rmtree(record.folder, ignore_errors=True)
        return
    os.utime(aside)
    late = threading.Timer(UNDO_SECONDS + 1, _delete_discarded, [aside.parent])
    late.daemon = True
    late.start()


def restore(record_id: str, owner: str) -> Record:
    """Restore a discarded record.

    Args:
        record_id: Id of the record.
        owner: Key of the visitor who discarded it.

    Returns:
        The record.

    Raises:
        RecordError: If the record was discarded too long ago, or belongs to another visitor.
    """
    root = runs_folder()
    aside, record = Record(root / f"{DISCARDED}{record_id}"), Record(root / record_id)
    if not SAFE_ID.fullmatch(record_id) or not aside.folder.is_dir() or not aside.belongs_to(owner):
        raise RecordError(say("This study can no longer be restored: it was discarded more than 10 minutes ago."))
    move(aside.folder, record.folder)
    return record


def _delete_discarded(root: Path) -> None:
    """Delete records that were discarded too long ago to be restored."""
    for left in root.glob(f"{DISCARDED}*"):
        with suppress(OSError):  # the record may just have been restored
            if time.time() - left.stat().st_mtime > UNDO_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _move_aside(record: Record, aside: Path) -> None:
    # Claim the record, so that no process starts to write it. The claim may fail on a full disk, and some systems
    # cannot rename a folder with an open file. In both cases, the caller removes the folder directly.
    with suppress(OSError), claiming(record.folder / CLAIM) as is_mine:
        if not is_mine:
            raise RecordError(say("This study is running: stop it first."))
        move(record.folder, aside)


def remove_unstarted(record: Record) -> bool:
    """Remove a record that failed before its first step, and return whether it was; `failure_text` keeps the reason."""
    ending = record.ending() or {}
    if ending.get("event") != "failed" or _has_steps(record):
        return False
    remember_failure(record.folder, str(ending.get("message") or ""))
    remove(record)
    return True


def _has_steps(record: Record) -> bool:
    studies = [Record(path.parent) for path in record.folder.glob(f"{CELLS}/*/{STUDY_FILE}")]
    return any(event["event"] == "step" for one in (record, *studies) for event in one.events())


def sweep(limits: Limits, busy: Collection[str] = ()) -> list[str]:
    """Remove visitors' records older than `record_days`, and the oldest records of visitors over `visitor_gigabytes`.

    Running records and those of the command line are never removed. The size limit never removes a visitor's newest
    record.

    Args:
        limits: Limits of this server.
        busy: Ids of records in use.

    Returns:
        Ids of the removed records.
    """
    root = runs_folder()
    for left in [*root.glob(f"{REMOVED}*"), *root.glob(f"{IMPORTING}*")]:
        if not is_claimed(left / CLAIM):  # a running import holds the claim
            shutil.rmtree(left, ignore_errors=True)
    _delete_discarded(root)
    if not limits.record_days and not limits.visitor_gigabytes:
        return []
    idle = [record for record in all_records() if record.is_owned and record.id not in busy]
    chosen = [record for record in [*_old(idle, limits), *_heavy(idle, limits)] if not record.is_running()]
    for record in chosen:
        remove(record)
    return [record.id for record in chosen]


def remove_old(days: float) -> dict[str, int]:
    """Remove records that do not run and were not written to for some days; return the removed bytes by id."""
    idle = (record for record in all_records() if not record.is_running())
    old = {record: folder_bytes(record.folder) for record in idle if _age_days(record) > days}
    for record in old:
        remove(record)
    return {record.id: size for record, size in old.items()}


def _last_written(record: Record) -> float:
    """Return the time of the last event, or of creation if there is none, in seconds since 1970."""
    try:
        return (record.folder / "events.jsonl").stat().st_mtime
    except OSError:
        created = record.about.get("created")
        return float(created) if isinstance(created, int | float) else 0.0


def _old(records: list[Record], limits: Limits) -> list[Record]:
    if not limits.record_days:
        return []
    return [record for record in records if _age_days(record) > limits.record_days]


def _age_days(record: Record) -> float:
    return (time.time() - _last_written(record)) / DAY_SECONDS


def _heavy(records: list[Record], limits: Limits) -> list[Record]:
    """Return the records, sorted newest first, that exceed their visitor's size limit; the newest use up the limit
    first.
    """
    if not limits.visitor_gigabytes:
        return []
    old = {record.id for record in _old(records, limits)}
    by_owner: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.id not in old:
            by_owner[str(owner_of(record.folder))].append(record)
    over = []
    for mine in by_owner.values():
        used = folder_bytes(mine[0].folder)
        for record in mine[1:]:
            used += folder_bytes(record.folder)
            if used > limits.visitor_gigabytes * 1e9:
                over.append(record)
    return over
