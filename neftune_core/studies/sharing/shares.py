"""Read-only links to records of studies that have ended, created by the owner and valid until the owner withdraws them.

The token in a link is derived from the owner's key and a random number in the record's `share.json`, so that the owner
always gets the same link. The server stores only a hash of the token, so no file on disk gives access to a record.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import Any

from neftune_core.bounded_io import read_file, read_json
from neftune_core.durable import write_whole
from neftune_core.errors import RecordError
from neftune_core.language import later, say
from neftune_core.studies.records.owners import SAFE_ID, owner_hash, owner_of
from neftune_core.studies.records.record import Record, find, runs_folder

FILE = "share.json"
MOST_BYTES = 1_000
LONGEST_LINK = 100
GONE = later(
    "This link does not lead to a study: it is incomplete, its owner has withdrawn it, or the study was removed. "
    "Ask whoever sent it for a new one."
)
NOT_OWN = later("Only the owner of a study can share it.")
NOT_OVER = later("This study has not ended yet: share it once it has.")


def share(record_id: str, owner: str) -> str:
    """Share a visitor's record of a study that has ended.

    Args:
        record_id: Id of the record.
        owner: Key of the visitor.

    Returns:
        Text that identifies the record in a link; it stays the same until the link is withdrawn.

    Raises:
        RecordError: If the record is missing, belongs to someone else, or has not ended.
    """
    record = _own_ended(record_id, owner)
    known = _stored(record)
    salt = known.get("salt") or secrets.token_hex(16)
    token = _token(owner, record, salt)
    if known.get("hash") != _hashed(token):
        write_whole(record.folder / FILE, json.dumps({"salt": salt, "hash": _hashed(token)}))
    return f"{record.id}.{token}"


def withdraw(record_id: str, owner: str) -> None:
    """Stop sharing a record, so that its link no longer works.

    Args:
        record_id: Id of the record.
        owner: Key of the visitor.

    Raises:
        RecordError: If the record is missing or belongs to someone else.
    """
    (_own(record_id, owner).folder / FILE).unlink(missing_ok=True)


def shared_link(record_id: str, owner: str) -> str | None:
    """Return the link text of a visitor's record without sharing the record.

    Args:
        record_id: Id of the record.
        owner: Key of the visitor.

    Returns:
        The text that `share` returned; "" if the record is not shared; None if it cannot be shared.
    """
    try:
        record = _own_ended(record_id, owner)
    except RecordError:
        return None
    salt = _stored(record).get("salt")
    return f"{record.id}.{_token(owner, record, salt)}" if salt else ""


def find_shared(link: str) -> Record:
    """Return the record of a link from `share`.

    Raises:
        RecordError: If the link is invalid or was withdrawn.
    """
    record_id, _, token = link[:LONGEST_LINK].partition(".")
    record = Record(runs_folder() / record_id)
    if SAFE_ID.fullmatch(record_id) and record.folder.is_dir():
        stored = str(_stored(record).get("hash") or "")
        if stored and hmac.compare_digest(stored, _hashed(token)) and record.ending() is not None:
            return record
    raise RecordError(say(GONE))


def _own(record_id: str, owner: str) -> Record:
    """Return a record of this visitor; raise `RecordError` for other records, including those of the command line."""
    record = find(record_id, owner)
    if not owner or owner_of(record.folder) != owner_hash(owner):
        raise RecordError(say(NOT_OWN))
    return record


def _own_ended(record_id: str, owner: str) -> Record:
    """Return a record of this visitor; raise `RecordError` for other records, and for those that have not ended."""
    record = _own(record_id, owner)
    if record.is_running() or record.ending() is None:
        raise RecordError(say(NOT_OVER))
    return record


def _stored(record: Record) -> dict[str, Any]:
    """Return the salt and the hash of a shared record; empty if it is not shared."""
    try:
        found = read_json(read_file(record.folder / FILE, MOST_BYTES), MOST_BYTES)
    except (OSError, ValueError):
        return {}
    is_valid = isinstance(found, dict) and all(isinstance(found.get(name), str) for name in ("salt", "hash"))
    return found if is_valid else {}


def _token(owner: str, record: Record, salt: str) -> str:
    return hmac.new(owner.encode(), f"share {record.id} {salt}".encode(), hashlib.sha256).hexdigest()[:48]


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
