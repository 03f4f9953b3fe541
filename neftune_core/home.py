"""Where files live: what the lab keeps (`NEFTUNE_HOME`) and what it ships (`assets/`)."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path

from neftune_core.errors import NotAvailable

SPACE_STORAGE = Path("/data")
"""Where a Space has its persistent storage, if it has any."""

LOST_ON_SPACE = (
    "This Space has no persistent storage: what is trained here is lost when it restarts or sleeps, so download what "
    "you want to keep."
)
LOST_HERE = (
    "No folder of this machine could be written, so what is trained here lies in a temporary one: name a lasting one "
    "in NEFTUNE_HOME."
)


def home() -> Path:
    """The folder that holds records, converted models and logs; made if missing.

    `NEFTUNE_HOME`; else the platform's own data folder, which on a Space is its persistent storage; else a temporary
    one, of which `home_note` tells. Raises `NotAvailable` where a folder that was named cannot be made.
    """
    return _kept(os.environ.get("NEFTUNE_HOME", ""))[0]


def home_note() -> str:
    """What a person should know of the folder: that it will not last. Empty where it will."""
    return _kept(os.environ.get("NEFTUNE_HOME", ""))[1]


def _kept(chosen: str) -> tuple[Path, str]:
    if chosen:
        folder = Path(chosen).expanduser()
        if not _made(folder):
            raise NotAvailable(f"The folder {folder} cannot be made: name another in NEFTUNE_HOME.")
        return folder, ""
    if "SPACE_ID" in os.environ:
        folder = SPACE_STORAGE / "neftune-lab"
        if SPACE_STORAGE.is_dir() and _made(folder):
            return folder, ""
        return _temporary(), LOST_ON_SPACE
    folder = _data_folder() / "neftune-lab"
    return (folder, "") if _made(folder) else (_temporary(), LOST_HERE)


def _made(folder: Path) -> bool:
    """Whether the folder is there and can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


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
    """Bytes of all files in `folder` and below; what goes away meanwhile counts nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total


def storage() -> dict[str, int]:
    """Bytes of what the lab keeps under `home()`: `records`, `models` (fetched, converted or made), and `other`."""
    root = home()
    sizes = {"records": folder_bytes(root / "runs"), "models": folder_bytes(root / "models")}
    return {**sizes, "other": max(0, folder_bytes(root) - sum(sizes.values()))}


def remove_models() -> int:
    """Remove the models under `home()`, and give the bytes freed; what is named again is fetched or converted again.

    A model in memory stays usable; what is being written at this moment is kept, and so are local folders and the
    cache of the hub, which belong to others.
    """
    folder = home() / "models"
    before = folder_bytes(folder)
    for path in [*folder.glob("*"), *folder.glob("converted/*")]:
        if not path.name.startswith(".") and (path / "config.json").is_file():
            shutil.rmtree(path, ignore_errors=True)
    return before - folder_bytes(folder)


def assets() -> Path:
    """The folder of what the lab ships: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "assets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "assets"
