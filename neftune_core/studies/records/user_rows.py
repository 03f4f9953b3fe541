"""Check, copy, locate and hash the row files of a study."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from neftune_core.data.formats.files import check_file
from neftune_core.settings import Limits, to_toml
from neftune_core.studies.settings import StudySettings

FILE = "file:"
FILE_PARTS = ("source", "held_out_source")


def check_rows(study: StudySettings, limits: Limits) -> None:
    """Check the row files of a study.

    Args:
        study: The study.
        limits: Limits of this server.

    Raises:
        LabError: If a file is missing, too large or of an unknown format.
    """
    for part in FILE_PARTS:
        path = _file_of(study, part)
        if path is not None:
            check_file(path, limits)


def with_copied_rows(study: StudySettings, folder: Path) -> StudySettings:
    """Copy the row files of a study into its record.

    Args:
        study: The study.
        folder: Folder of the record.

    Returns:
        The study, with the paths of the copies relative to `folder`.
    """
    changed = {}
    for part in FILE_PARTS:
        original = _file_of(study, part)
        if original is None:
            continue
        kept = folder / "data" / part / _safe_name(original.name)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, kept)
        changed[part] = f"{FILE}{kept.relative_to(folder).as_posix()}"
    return study.model_copy(update={"data": study.data.model_copy(update=changed)})


def _safe_name(name: str) -> str:
    """Return the name of an upload, with characters that are special in file systems or links replaced."""
    return re.sub(r"[^\w.\-]+", "_", name)[-100:].lstrip("._-") or "rows"


def with_absolute_files(study: StudySettings, folder: Path) -> StudySettings:
    """Make the paths of the row files of a study absolute.

    Args:
        study: The study.
        folder: Folder that relative paths refer to.

    Returns:
        The study with absolute paths.
    """
    changed = {}
    for part in FILE_PARTS:
        path = _file_of(study, part)
        if path is not None and not path.is_absolute():
            changed[part] = f"{FILE}{(folder / path).resolve()}"
    return study.model_copy(update={"data": study.data.model_copy(update=changed)})


def _file_of(study: StudySettings, part: str) -> Path | None:
    source: str = getattr(study.data, part)
    return Path(source.removeprefix(FILE)) if source.startswith(FILE) else None


def study_key(study: StudySettings) -> str:
    """Return a hash of a study and the content of its row files, independent of where the files are."""
    contents = {}
    for part in FILE_PARTS:
        path = _file_of(study, part)
        if path is not None:
            contents[part] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
    data = study.data.model_copy(update=contents)
    return hashlib.sha256(to_toml(study.model_copy(update={"data": data})).encode()).hexdigest()
