"""Store why records failed before their first step and were removed, only in the memory of this process."""

from __future__ import annotations

from pathlib import Path

from neftune_core.language import later, say, translate_finished
from neftune_core.studies.records.owners import owner_hash, owner_of

_failed: dict[str, tuple[str, str]] = {}  # owner hash and message by record id
MOST_FAILED = 1_000


def remember_failure(folder: Path, message: str) -> None:
    """Store why a record failed, before it is removed.

    Args:
        folder: Folder of the record.
        message: The reason, in one sentence.
    """
    while len(_failed) >= MOST_FAILED:
        _failed.pop(next(iter(_failed)))
    _failed[folder.name] = owner_of(folder) or "", message


def failure_text(record_id: str, owner: str | None) -> str:
    """Return why a removed study failed.

    Args:
        record_id: Id of the study.
        owner: Key of the visitor; None for the command line.

    Returns:
        A sentence; "" if unknown, or if the record belonged to another visitor.
    """
    owned_by, message = _failed.get(record_id, ("", ""))
    if not message or (owner is not None and owned_by != owner_hash(owner)):
        return ""
    words = later("The study failed before its first step, so nothing was saved. The reason: {message}")
    return say(words, message=translate_finished(message))
