"""Record folders, and a cache of their owners, so that listing records does not read every `record.json` again."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

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
