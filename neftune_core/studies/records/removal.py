"""Remove records that visitors discard or that exceed the server's limits on age and size."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from neftune_core.durable import claiming, is_claimed, move
from neftune_core.errors import RecordError
from neftune_core.home import folder_bytes
from neftune_core.language import say
from neftune_core.settings import Limits
from neftune_core.studies.records.failures import remember_failure
from neftune_core.studies.records.owners import owner_of
from neftune_core.studies.records.record import CELLS, CLAIM, LOG, SAFE_ID, STUDY_FILE, Record, all_records, runs_folder

REMOVED, DISCARDED, IMPORTING = ".removed-", ".discarded-", ".import-"
UNDO_SECONDS = 600
"""Time during which a discarded record can be restored."""
DAY_SECONDS = 24 * 3600


def remove(record: Record) -> None:
    """Remove a record completely.

    Raises:
        RecordError: If the record is running.
    """
    shutil.rmtree(_move_aside(record, REMOVED), ignore_errors=True)


def discard(record: Record) -> None:
    """Remove a record.

    `restore` can undo this for `UNDO_SECONDS`, unless the system could not rename the record's folder.

    Raises:
        RecordError: If the record is running.
    """
    aside = _move_aside(record, DISCARDED)
    if aside == record.folder:
        shutil.rmtree(aside, ignore_errors=True)
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
    for discarded in root.glob(f"{DISCARDED}*"):
        with suppress(OSError):  # the record may just have been restored
            if time.time() - discarded.stat().st_mtime > UNDO_SECONDS:
                shutil.rmtree(discarded, ignore_errors=True)


def _move_aside(record: Record, prefix: str) -> Path:
    """Rename the folder of a record if possible, and return its path; raise `RecordError` if the record is running."""
    aside = record.folder.with_name(f"{prefix}{record.id}")
    # Claim the record, so that no process starts to write it. The claim may fail on a full disk, and some systems
    # cannot rename a folder with an open file.
    with suppress(OSError), claiming(record.folder / CLAIM) as is_mine:
        if not is_mine:
            raise RecordError(say("This study is running: stop it first."))
        move(record.folder, aside)
    return aside if aside.exists() else record.folder


def remove_unstarted(record: Record) -> bool:
    """Remove a record if it failed before its first step, and return whether it did; `failure_text` returns why.

    Raises:
        RecordError: If the record is running.
    """
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

    The age is counted from the last event. Running records and those of the command line are never removed, and the
    size limit never removes a visitor's newest record. Remains of earlier removals and aborted imports are deleted too.

    Args:
        limits: Limits of this server.
        busy: Ids of records in use.

    Returns:
        Ids of the removed records.
    """
    root = runs_folder()
    for leftover in [*root.glob(f"{REMOVED}*"), *root.glob(f"{IMPORTING}*")]:
        if not is_claimed(leftover / CLAIM):  # a running import holds the claim
            shutil.rmtree(leftover, ignore_errors=True)
    _delete_discarded(root)
    if not limits.record_days and not limits.visitor_gigabytes:
        return []
    idle = [record for record in all_records() if record.is_owned and record.id not in busy]
    is_old = {record: 0 < limits.record_days < _age_days(record) for record in idle}
    old, recent = ([record for record in idle if is_old[record] == wanted] for wanted in (True, False))
    chosen = [record for record in [*old, *_over_limit(recent, limits)] if not record.is_running()]
    for record in chosen:
        remove(record)
    return [record.id for record in chosen]


def remove_old(days: float) -> dict[str, int]:
    """Remove records that are not running and had no event for more than `days` days; return removed bytes by id."""
    idle = (record for record in all_records() if not record.is_running())
    old = {record: folder_bytes(record.folder) for record in idle if _age_days(record) > days}
    for record in old:
        remove(record)
    return {record.id: size for record, size in old.items()}


def _age_days(record: Record) -> float:
    """Return the days since the last event, or since creation if there is none."""
    try:
        written = (record.folder / LOG).stat().st_mtime
    except OSError:
        created = record.about.get("created")
        written = float(created) if isinstance(created, int | float) else 0.0
    return (time.time() - written) / DAY_SECONDS


def _over_limit(records: list[Record], limits: Limits) -> list[Record]:
    """Return the records, sorted newest first, that exceed the size limit of their visitor, who keeps the newest."""
    used = dict[str, int]()
    over = []
    for record in records if limits.visitor_gigabytes else ():
        owner, size = str(owner_of(record.folder)), folder_bytes(record.folder)
        if owner in used and used[owner] + size > limits.visitor_gigabytes * 1e9:
            over.append(record)
        used[owner] = used.get(owner, 0) + size
    return over
