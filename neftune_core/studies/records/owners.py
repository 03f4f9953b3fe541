"""Record folders, and a cache of their owners, so that listing records does not read every `record.json` again."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from neftune_core.studies.records.schema import about_of

SAFE_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{6}")
Result = TypeVar("Result")


class FileCache(Generic[Result]):
    """Results computed from files; a result is computed again only after its file has changed.

    Args:
        most: Maximum number of results in memory.
    """

    def __init__(self, most: int) -> None:
        self._most, self._guard = most, threading.Lock()
        self._known: OrderedDict[Path, tuple[tuple[int, int, int], Result]] = OrderedDict()

    def get(self, path: Path, compute: Callable[[], Result]) -> Result | None:
        """Return the result for a file.

        Args:
            path: The file.
            compute: Computes the result.

        Returns:
            The result; None if the file is missing.
        """
        try:
            about = path.stat()
        except OSError:
            with self._guard:
                self._known.pop(path, None)
            return None
        stamp = about.st_ino, about.st_mtime_ns, about.st_size
        with self._guard:
            known = self._known.get(path)
        found = known[1] if known and known[0] == stamp else compute()
        with self._guard:
            self._known[path] = stamp, found
            self._known.move_to_end(path)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return found


_owners: FileCache[str | None] = FileCache(100_000)


def owner_of(folder: Path) -> str | None:
    """Return the `owner_hash` of the record in `folder`; None if unknown."""
    path = folder / "record.json"

    def read() -> str | None:
        try:
            return about_of(path)[0].get("owner")
        except (OSError, ValueError):
            return None

    return _owners.get(path, read)


def record_folders(root: Path) -> list[Path]:
    """Return the folders of all records below `root`, newest first."""
    if not root.is_dir():
        return []
    names = sorted((path.name for path in root.iterdir()), reverse=True)
    return [root / name for name in names if SAFE_ID.fullmatch(name)]


def owner_hash(owner: str) -> str:
    """Return the hash of an owner's key, which identifies the owner without granting access; "" without a key."""
    return hashlib.sha256(owner.encode()).hexdigest() if owner else ""
