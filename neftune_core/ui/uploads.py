"""Where uploads lie, and for how long."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from neftune_core.errors import DoesNotFit
from neftune_core.home import home
from neftune_core.language import say
from neftune_core.settings import Limits

KEPT_SECONDS = 24 * 3600
UPLOADS_KEPT = 40  # largest files that lie here together


def keep_uploads_at_home() -> Path:
    """Let the framework put uploads under `home()`, for this user alone; to be called before the page is built.

    Its own choice is a folder that all programs and users of the machine share.
    """
    folder = home() / "uploads"
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


def make_room(length: int, limits: Limits) -> None:
    """Remove the uploads of more than a day ago; raises `DoesNotFit` where `length` bytes more are too many.

    A study that is asked for keeps a copy of its rows with its record.
    """
    total = 0
    for path, size, age in _files(home() / "uploads"):
        if age > KEPT_SECONDS:
            with contextlib.suppress(OSError):
                path.unlink()
                path.parent.rmdir()
        else:
            total += size
    if total + length > UPLOADS_KEPT * limits.upload_megabytes * 1_000_000:
        raise DoesNotFit(say("The uploads of all visitors fill the room there is for them: try again tomorrow."))


def _files(folder: Path) -> list[tuple[Path, int, float]]:
    """Every file in `folder` and below, with its bytes and the seconds since it was written."""
    found, now = [], time.time()
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                about = (Path(parent) / name).lstat()
                found.append((Path(parent) / name, about.st_size, now - about.st_mtime))
    return found
