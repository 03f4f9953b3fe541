"""Resolve the source of a model, as given by a user, to a local folder."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neftune_core.errors import ModelError
from neftune_core.home import assets
from neftune_core.language import later, say
from neftune_core.models.cards import BUNDLED_NAME, CATALOGUE
from neftune_core.models.settings import BUNDLED
from neftune_core.models.sources.download_progress import ModelRequest, Watch
from neftune_core.models.sources.gguf import convert, rounding_note
from neftune_core.models.sources.hub_files import commit_of, fetch, licence_in
from neftune_core.models.sources.modelscope import MODELSCOPE_ID, commit_in, fetch_modelscope
from neftune_core.models.sources.package_index import get_smollm2

_local_paths_forbidden = threading.Event()
_allowed: list[Mapping[str, str]] = []
"""One entry, which maps the models that this process may use to their revisions; empty if all models are allowed."""

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
UNKNOWN_LICENCE = "not stated"


def forbid_local_paths() -> None:
    """Prevent this process from opening local files and folders as models."""
    _local_paths_forbidden.set()


def allow_only(models: Mapping[str, str] | None) -> None:
    """Restrict this process to these models at their revisions ("" for main); None removes the restriction."""
    _allowed[:] = [] if models is None else [dict(models)]


def require_allowed(source: str, revision: str) -> None:
    """Check a model against `allow_only`.

    Args:
        source: The requested source.
        revision: The requested revision; may be empty.

    Raises:
        ModelError: If the model or the revision is not allowed.
    """
    if not _allowed:
        return
    if source not in _allowed[0]:
        words = later(
            "{source!r} is not one of the models that this server offers: choose one of {choices}, or run the lab on "
            "your own machine."
        )
        raise ModelError(say(words, source=source[:60], choices=", ".join(_allowed[0])))
    pinned = _allowed[0][source]
    if revision not in ("", pinned):
        raise ModelError(
            say("This server offers {source} at its pinned revision only: leave the revision empty.", source=source)
        )


@dataclass(frozen=True)
class ModelFolder:
    """A local folder with a model, and metadata that is not in its files.

    Attributes:
        licence: Licence of the weights; `UNKNOWN_LICENCE` if it is not stated.
        note: Advice for users of the model; "" if there is none.
        revision: Commit on the hub or on ModelScope; "" if unknown, and for other sources.
    """

    folder: Path
    name: str
    licence: str
    note: str = ""
    revision: str = ""

    def stamp(self) -> str:
        """Return the latest modification time of the files as text, which shows whether a file has been replaced."""
        return str(max((file.stat().st_mtime_ns for file in self.folder.glob("*") if file.is_file()), default=0))


def resolve_source(request: ModelRequest, watch: Watch) -> ModelFolder:
    """Resolve a source to a local folder, downloading or converting the model if necessary.

    A local folder takes precedence over a hub id of the same name, unless local paths are forbidden.

    Args:
        request: The requested model.
        watch: Progress and cancellation.

    Returns:
        The folder.

    Raises:
        ModelError: If there is no such model, or it is not allowed or damaged.
        NotAvailable: If the model has to be downloaded but the network is not available.
        DoesNotFit: If memory or disk space is insufficient.
        Cancelled: If cancellation was requested.
    """
    require_allowed(request.source, request.revision)
    if request.source == BUNDLED:
        return _bundled_folder()
    if request.source in CATALOGUE and CATALOGUE[request.source].package:
        card = CATALOGUE[request.source]
        return ModelFolder(get_smollm2(watch), request.source, card.licence, note=card.note)
    if MODELSCOPE_ID.fullmatch(request.source):
        return _modelscope(request, watch)
    path = Path(request.source).expanduser()
    if _local_paths_forbidden.is_set():
        _refuse_paths(request.source, path)
    elif request.source and path.is_dir():
        return _local_folder(path, watch)
    elif request.source.lower().endswith(".gguf"):
        return _local_gguf(path, watch)
    if not HUB_ID.fullmatch(request.source):
        words = later(
            "No model matches {source!r}: use 'bundled' or another name in the catalogue, OWNER/NAME on the Hugging "
            "Face Hub, ms:OWNER/NAME on ModelScope, a folder, or a GGUF file."
        )
        raise ModelError(say(words, source=request.source))
    return _hub(request, watch)


def _refuse_paths(source: str, path: Path) -> None:
    """Raise `ModelError` unless `source` is a hub id and not also a local path."""
    if not HUB_ID.fullmatch(source) or source.lower().endswith(".gguf") or path.exists():
        words = later(
            "{source!r} is not a model that this server offers, and this server does not open local files or folders: "
            "use 'bundled' or another name in the catalogue, OWNER/NAME on the Hugging Face Hub, or ms:OWNER/NAME on "
            "ModelScope."
        )
        raise ModelError(say(words, source=source))


def _bundled_folder() -> ModelFolder:
    folder = assets() / "model"
    if (folder / "config.json").is_file():
        return ModelFolder(folder, BUNDLED_NAME, CATALOGUE[BUNDLED].licence)
    raise ModelError(
        say("The bundled model is missing from this installation: reinstall the lab, or choose another model.")
    )


def _local_folder(folder: Path, watch: Watch) -> ModelFolder:
    name = folder.resolve().name
    if (folder / "config.json").is_file():
        return ModelFolder(folder.resolve(), name, licence_in(folder) or UNKNOWN_LICENCE)
    files = sorted(folder.glob("*.gguf"))
    if len(files) > 1:
        words = later("The folder {name} contains {count} GGUF files: give the path of one of them, such as {first}.")
        raise ModelError(say(words, name=folder, count=len(files), first=files[0].name))
    if not files:
        raise ModelError(
            say("The folder {folder} contains no model: it has neither a config.json nor a GGUF file.", folder=folder)
        )
    note = rounding_note(files[0])
    return ModelFolder(convert(files[0], watch), name, licence_in(folder) or UNKNOWN_LICENCE, note=note)


def _local_gguf(file: Path, watch: Watch) -> ModelFolder:
    if not file.is_file():
        raise ModelError(say("The file {file!r} does not exist: check the path.", file=str(file)))
    return ModelFolder(convert(file, watch), file.stem, UNKNOWN_LICENCE, note=rounding_note(file))


def _modelscope(request: ModelRequest, watch: Watch) -> ModelFolder:
    folder = fetch_modelscope(request.source, request.revision, watch)
    name = request.source.rpartition("/")[2]
    return ModelFolder(folder, name, licence_in(folder) or UNKNOWN_LICENCE, revision=commit_in(folder))


def _hub(request: ModelRequest, watch: Watch) -> ModelFolder:
    card = CATALOGUE.get(request.source)
    pinned = _allowed[0].get(request.source, "") if _allowed else ""
    revision = request.revision or pinned or (card.revision if card else "")
    folder = fetch(request.source, revision, watch)
    licence = (card.licence if card else "") or licence_in(folder) or UNKNOWN_LICENCE
    return ModelFolder(folder, request.source.rpartition("/")[2], licence, revision=commit_of(folder))
