"""Check, copy, find and hash the row files of a study."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from neftune_core.data.formats.files import check_file
from neftune_core.settings import Limits, to_toml
from neftune_core.studies.settings import StudySettings

FILE = "file:"
SOURCE_SETTINGS = ("source", "held_out_source")


def row_files(study: StudySettings) -> dict[str, Path]:
    """Return the paths of the row files of a study by data setting ("source", "held_out_source").

    Other sources are omitted.
    """
    sources = {name: str(getattr(study.data, name)) for name in SOURCE_SETTINGS}
    return {name: Path(source.removeprefix(FILE)) for name, source in sources.items() if source.startswith(FILE)}


def with_sources(study: StudySettings, sources: Mapping[str, str]) -> StudySettings:
    """Replace sources of a study's rows.

    Args:
        study: Settings of the study.
        sources: New sources by data setting ("source", "held_out_source").

    Returns:
        The study with these sources.
    """
    return study.model_copy(update={"data": study.data.model_copy(update=sources)})


def check_rows(study: StudySettings, limits: Limits) -> None:
    """Check the row files of a study.

    Args:
        study: Settings of the study, with the paths of its row files.
        limits: Limits of this server.

    Raises:
        DataError: If a file is missing, unreadable or of an unknown format.
        DoesNotFit: If a file is too large.
    """
    for path in row_files(study).values():
        check_file(path, limits)


def with_copied_rows(study: StudySettings, folder: Path) -> StudySettings:
    """Copy the row files of a study into its record.

    Args:
        study: Settings of the study, with the paths of its row files.
        folder: Folder of the record.

    Returns:
        The study, with the paths of the copies relative to `folder`.
    """
    copied = {}
    for name, original in row_files(study).items():
        copy = folder / "data" / name / _safe_name(original.name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copy)
        copied[name] = f"{FILE}{copy.relative_to(folder).as_posix()}"
    return with_sources(study, copied)


def _safe_name(name: str) -> str:
    """Return the name of an upload, with characters that are special in file systems or links replaced."""
    return re.sub(r"[^\w.\-]+", "_", name)[-100:].lstrip("._-") or "rows"


def with_absolute_files(study: StudySettings, folder: Path) -> StudySettings:
    """Make the paths of the row files of a study absolute.

    Args:
        study: Settings of the study, with the paths of its row files.
        folder: Folder that relative paths refer to.

    Returns:
        The study with absolute paths.
    """
    relative = {name: path for name, path in row_files(study).items() if not path.is_absolute()}
    return with_sources(study, {name: f"{FILE}{(folder / path).resolve()}" for name, path in relative.items()})


def study_key(study: StudySettings) -> str:
    """Return a hash of a study and the content of its row files, independent of where the files are."""
    contents = {
        name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        for name, path in row_files(study).items()
    }
    return hashlib.sha256(to_toml(with_sources(study, contents)).encode()).hexdigest()
