"""The files of rows that a study names: where they lie, the record's own copy of them, and what is in them."""

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
    """Raise a `LabError` where a file of the study is missing, too large or of no known format."""
    for part in FILE_PARTS:
        path = _file_of(study, part)
        if path is not None:
            check_file(path, limits)


def with_own_rows(study: StudySettings, folder: Path) -> StudySettings:
    """The study with its files copied into `folder/data`, named relative to `folder`."""
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
    """The name of an upload, as people know it, without what a file system or a link could trip over."""
    return re.sub(r"[^\w.\-]+", "_", name)[-100:].lstrip("._-") or "rows"


def located(study: StudySettings, folder: Path) -> StudySettings:
    """The study with file names that are relative to `folder` made whole."""
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
    """A fingerprint of a study with the content of its files, wherever these lie: equal for equal runs."""
    contents = {}
    for part in FILE_PARTS:
        path = _file_of(study, part)
        if path is not None:
            contents[part] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
    data = study.data.model_copy(update=contents)
    return hashlib.sha256(to_toml(study.model_copy(update={"data": data})).encode()).hexdigest()
