"""Record folders, and a cache of their owners, so that listing records does not read every `record.json` again."""

from __future__ import annotations

import hashlib
import re
import threading
from pathlib import Path

from neftune_core.studies.records.schema import about_of

SAFE_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{6}")
MOST = 100_000
"""Maximum number of cached owners."""

_Stamp = tuple[int, int, int]

_known: dict[Path, tuple[_Stamp, str | None]] = {}
_guard = threading.Lock()


def owner_of(folder: Path) -> str | None:
    """Return the `owner_hash` of the record in `folder`; None if unknown.

    `record.json` is read again only after it has changed.
    """
    path = folder / "record.json"
    try:
        about = path.stat()
    except OSError:
        with _guard:
            _known.pop(folder, None)
        return None
    stamp = about.st_ino, about.st_mtime_ns, about.st_size
    with _guard:
        known = _known.get(folder)
    if known is not None and known[0] == stamp:
        return known[1]
    try:
        owner = about_of(path)[0].get("owner")
    except (OSError, ValueError):
        owner = None
    with _guard:
        if len(_known) >= MOST:
            _known.clear()
        _known[folder] = stamp, owner
    return owner


def record_folders(root: Path) -> list[Path]:
    """Return the folders of all records below `root`, newest first."""
    if not root.is_dir():
        return []
    names = sorted((path.name for path in root.iterdir()), reverse=True)
    return [root / name for name in names if SAFE_ID.fullmatch(name)]


def owner_hash(owner: str) -> str:
    """Return the hash of an owner's key, which identifies the owner without granting access; "" without a key."""
    return hashlib.sha256(owner.encode()).hexdigest() if owner else ""
