"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from neftune_core.durable import publish
from neftune_core.home import home

STALE_SECONDS = 24 * 3600
UNFINISHED = ".unfinished-"


def models_home() -> Path:
    """The folder under `home()` that keeps the models the lab made or converted; made if missing."""
    folder = home() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """`target`, filled by `make(folder)` where it is missing.

    Another process sees the folder whole or not at all; where two make it at once, the first wins and the
    other's work is dropped.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(target.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=target.parent))
    try:
        make(unfinished)
        _publish(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _publish(unfinished: Path, target: Path) -> None:
    try:
        publish(unfinished, target)
    except OSError:
        if not target.is_dir():
            raise


def remove_stale(parent: Path) -> None:
    """Remove what a process that died more than a day ago left unfinished in `parent`."""
    for left in parent.glob(f"{UNFINISHED}*"):
        try:
            old = time.time() - left.stat().st_mtime > STALE_SECONDS
        except FileNotFoundError:
            continue
        if old:
            shutil.rmtree(left, ignore_errors=True)
