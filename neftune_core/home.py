"""Where files live: what the lab keeps (`NEFTUNE_HOME`) and what it ships (`assets/`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from neftune_core.errors import NotAvailable


def home() -> Path:
    """The folder that holds records, converted models and logs; made if missing.

    `NEFTUNE_HOME`, or the platform's own data folder.
    """
    chosen = os.environ.get("NEFTUNE_HOME")
    folder = Path(chosen).expanduser() if chosen else _data_folder() / "neftune-lab"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        raise NotAvailable(f"The folder {folder} cannot be made: name another in NEFTUNE_HOME.") from None
    return folder


def _data_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))


def assets() -> Path:
    """The folder of what the lab ships: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "assets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "assets"
