"""Atomic creation of model folders."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from neftune_core.durable import publish
from neftune_core.errors import DoesNotFit
from neftune_core.home import home
from neftune_core.language import later, say

STALE_SECONDS = 24 * 3600
UNFINISHED = ".unfinished-"


def models_home() -> Path:
    """Return the folder for downloaded and converted models, creating it if necessary.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    folder = home() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def create_once(target: Path, make: Callable[[Path], None]) -> Path:
    """Create a folder unless it exists.

    Other processes see either the complete folder or none. If two processes create the folder at the same time, the
    first result is kept and the other is discarded.

    Args:
        target: The folder.
        make: Fills a temporary folder, which then becomes `target`.

    Returns:
        `target`.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=target.parent))
    try:
        make(unfinished)
        publish(unfinished, target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def require_disk(needed: float, name: str, folder: Path, *, spare: int = 0, variable: str = "NEFTUNE_HOME") -> None:
    """Check that there is disk space for a model.

    Args:
        needed: Size in bytes.
        name: Name of the model, for the error message.
        folder: A folder on the disk; it need not exist.
        spare: Bytes that must remain free.
        variable: Environment variable that moves the folder to another disk, for the error message.

    Raises:
        DoesNotFit: If there is not enough space.
    """
    free = shutil.disk_usage(next(one for one in (folder, *folder.parents) if one.exists())).free
    if needed + spare > free:
        words = later(
            "{name} needs {needed:.1f} GB on disk, but only {free:.1f} GB are free: free some space, or set {variable} "
            "to a folder on a larger disk."
        )
        raise DoesNotFit(say(words, name=name, needed=needed / 1e9, free=free / 1e9, variable=variable))


def _remove_stale(parent: Path) -> None:
    """Remove unfinished folders in `parent` that are older than a day."""
    for folder in parent.glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
