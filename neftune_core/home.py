"""File locations: the user's data (`NEFTUNE_HOME`) and the packaged files (`assets/`)."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path

from neftune_core.durable import is_unsupported, move, remove, write_whole
from neftune_core.errors import NotAvailable

SPACE_STORAGE = Path("/data")
"""Mount point of the storage bucket of a Space, if it has one."""

LOST_ON_SPACE = (
    "This Space has no storage bucket, so results are lost when it restarts or sleeps: download those that you want to "
    "keep."
)
UNUSABLE_ON_SPACE = (
    "The storage bucket of this Space is not used, because it does not support appending to files or renaming them. "
    "Results are lost when the Space restarts or sleeps: download those that you want to keep."
)
LOST_HERE = (
    "No writable data folder was found, so results are stored in a temporary folder: set NEFTUNE_HOME to a permanent "
    "one."
)


def home() -> Path:
    """Return the folder for records, models and logs, creating it if necessary.

    It is `NEFTUNE_HOME` if set, otherwise a folder in the platform's data folder (on a Space, in its storage bucket).
    If the latter cannot be used, a temporary folder replaces it, and `home_note` returns a warning.

    Raises:
        NotAvailable: If the folder in `NEFTUNE_HOME` cannot be created or cannot hold records.
    """
    return _locate(os.environ.get("NEFTUNE_HOME", ""))[0]


def home_note() -> str:
    """Return a warning if the home folder is temporary, otherwise an empty string.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    return _locate(os.environ.get("NEFTUNE_HOME", ""))[1]


def _locate(chosen: str) -> tuple[Path, str]:
    if chosen:
        folder = Path(chosen).expanduser()
        if not _is_writable(folder):
            raise NotAvailable(
                f"The folder {folder} cannot be created or written to: set NEFTUNE_HOME to another folder."
            )
        if not can_hold_records(folder):
            raise NotAvailable(
                f"The folder {folder} does not support appending to files or renaming them, which records need: mount "
                "it with support for both (hf-mount: --advanced-writes), or set NEFTUNE_HOME to another folder."
            )
        return folder, ""
    if "SPACE_ID" in os.environ:
        folder = SPACE_STORAGE / "neftune-lab"
        if not SPACE_STORAGE.is_dir() or not _is_writable(folder):
            return _temporary(), LOST_ON_SPACE
        return (folder, "") if can_hold_records(folder) else (_temporary(), UNUSABLE_ON_SPACE)
    folder = _data_folder() / "neftune-lab"
    return (folder, "") if _is_writable(folder) else (_temporary(), LOST_HERE)


def _is_writable(folder: Path) -> bool:
    """Create a folder if necessary; return whether it is writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


@functools.cache
def can_hold_records(folder: Path) -> bool:
    """Return whether files in `folder` can be appended to, replaced and renamed, unlike on some mounted buckets.

    Locks, permissions and flushing are optional; see `durable`.
    """
    try:
        tried = Path(tempfile.mkdtemp(prefix=".tried-", dir=folder))
    except OSError:
        return True  # other errors, such as a full disk, are reported when a record is written
    try:
        for _ in range(2):  # the second write replaces the file
            write_whole(tried / "file", "a")
        with (tried / "file").open("a", encoding="utf-8") as file:
            file.write("b")
        (tried / "folder").mkdir()
        move(tried / "folder", tried / "moved")
        return (tried / "file").read_text(encoding="utf-8") == "ab"
    except OSError as error:
        return not is_unsupported(error)
    finally:
        remove(tried)


@functools.cache
def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="neftune-lab-"))


def _data_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))


def folder_bytes(folder: Path) -> int:
    """Return the total size of all files below `folder` in bytes, ignoring files that disappear in the meantime."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total


def storage() -> dict[str, int]:
    """Return the disk usage under `home()` in bytes, by category: `records`, `models` and `other`.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    root = home()
    sizes = {"records": folder_bytes(root / "runs"), "models": folder_bytes(root / "models")}
    return {**sizes, "other": max(0, folder_bytes(root) - sum(sizes.values()))}


def remove_models() -> int:
    """Remove the models under `home()`, which are downloaded or converted again on demand.

    Models in memory remain usable. Incomplete downloads, local folders and the hub's cache are not removed.

    Returns:
        The number of bytes freed.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    folder = home() / "models"
    before = folder_bytes(folder)
    for path in stored_models():
        shutil.rmtree(path, ignore_errors=True)
    return before - folder_bytes(folder)


def stored_models() -> list[Path]:
    """Return the folders of downloaded and converted models under `home()`, except incomplete ones.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    folder = home() / "models"
    found = [*folder.glob("*"), *folder.glob("converted/*")]
    return [path for path in found if not path.name.startswith(".") and (path / "config.json").is_file()]


def assets() -> Path:
    """Return the folder of packaged files: inside the package if installed, next to it in a checkout."""
    inside = Path(__file__).parent / "assets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "assets"
