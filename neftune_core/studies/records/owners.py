"""Record folders, their owners, and limits on disk space.

Owners are cached, so that listing records does not read every `record.json` again.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from neftune_core.errors import DoesNotFit
from neftune_core.home import folder_bytes
from neftune_core.language import later, say
from neftune_core.models.estimates import gigabytes
from neftune_core.settings import Limits
from neftune_core.studies.records.schema import about_of

SAFE_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{6}")


def file_stamp(path: Path) -> tuple[int, int, int]:
    """Return values that differ after a file was changed, as a cache key.

    Raises:
        OSError: If the file is missing.
    """
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size


def owner_of(folder: Path) -> str | None:
    """Return the `owner_hash` of the record in `folder`; None if unknown."""
    path = folder / "record.json"
    try:
        return _read_owner(path, file_stamp(path))
    except OSError:
        return None


@lru_cache(maxsize=100_000)
def _read_owner(path: Path, stamp: tuple[int, int, int]) -> str | None:
    try:
        return about_of(path)[0].get("owner")
    except ValueError:  # not read again until the file changes
        return None


def record_folders(root: Path) -> list[Path]:
    """Return the folders of all records below `root`, newest first."""
    if not root.is_dir():
        return []
    names = sorted((path.name for path in root.iterdir()), reverse=True)
    return [root / name for name in names if SAFE_ID.fullmatch(name)]


def owner_hash(owner: str) -> str:
    """Return the hash of an owner's key, which identifies the owner without granting access; "" without a key."""
    return hashlib.sha256(owner.encode()).hexdigest() if owner else ""


def require_space(root: Path, owner: str, limits: Limits, more: int = 0) -> None:
    """Check the disk limits.

    Args:
        root: Folder of all records, including files of a record that is being created.
        owner: Key of the visitor; empty to check only the limit on all records.
        limits: Limits of this server.
        more: Bytes about to be added to the visitor's records.

    Raises:
        DoesNotFit: If a limit is exceeded.
    """
    used, allowed = folder_bytes(root), limits.disk_gigabytes
    if used > allowed * 1e9:
        words = later("The records take up {used}, more than the {allowed:g} GB allowed: discard some first.")
        raise DoesNotFit(say(words, used=gigabytes(used), allowed=allowed))
    allowed = limits.visitor_gigabytes
    mine = _bytes_of(owner, root) + more if owner and allowed else 0
    if mine > allowed * 1e9:
        words = later(
            "Your records take up {mine}, more than the {allowed:g} GB allowed per visitor: discard some first."
        )
        raise DoesNotFit(say(words, mine=gigabytes(mine), allowed=allowed))


def bytes_left(root: Path, owner: str, limits: Limits) -> int:
    """Return how many bytes a visitor may still add.

    Args:
        root: Folder of all records.
        owner: Key of the visitor.
        limits: Limits of this server.

    Returns:
        The number of bytes.
    """
    left = limits.disk_gigabytes * 1e9 - folder_bytes(root)
    if owner and limits.visitor_gigabytes:
        left = min(left, limits.visitor_gigabytes * 1e9 - _bytes_of(owner, root))
    return max(0, round(left))


def _bytes_of(owner: str, root: Path) -> int:
    """Return the total size of a visitor's records in bytes."""
    mine = owner_hash(owner)
    return sum(folder_bytes(folder) for folder in record_folders(root) if owner_of(folder) == mine)
