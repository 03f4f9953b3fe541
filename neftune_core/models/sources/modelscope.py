"""Models from ModelScope, `ms:OWNER/NAME`, over plain HTTPS; an interrupted download resumes where it stopped.

Only public models are read, and no token is sent. MODELSCOPE_DOMAIN and the proxy variables are respected.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from neftune_core.durable import acquire_lock, publish
from neftune_core.errors import LabError, ModelError, NotAvailable
from neftune_core.home import folder_bytes
from neftune_core.language import later, say
from neftune_core.models.sources.download_progress import Watch
from neftune_core.models.sources.folders import models_home, require_disk
from neftune_core.models.sources.gguf import file_sha256
from neftune_core.models.sources.hub_files import SPARE_BYTES, WANTED

SCHEME = "ms:"
MODELSCOPE_ID = re.compile(r"ms:\w[\w.-]*/\w[\w.-]*", re.ASCII)
MAIN = "master"
REACH_SECONDS = 30
CHUNK_BYTES = 1 << 20
LIST_BYTES = 16_000_000
COMMIT_FILE = ".commit"


@dataclass(frozen=True)
class _File:
    """One file of a model.

    Attributes:
        name: Path in the repository.
        size: Size in bytes; 0 if unknown.
        sha256: SHA-256 in hex; "" if unknown.
        commit: Last commit that changed the file; "" if unknown.
        time: Time of this commit, in seconds since 1970; 0 if unknown.
    """

    name: str
    size: int
    sha256: str
    commit: str
    time: int


def fetch_modelscope(source: str, revision: str, watch: Watch) -> Path:
    """Return the local folder of a model on ModelScope, downloading what is missing.

    Args:
        source: `ms:OWNER/NAME`.
        revision: Branch, tag or commit; "" for the main branch.
        watch: Progress and cancellation.

    Returns:
        The local folder.

    Raises:
        ModelError: If there is no such model, it has no safetensors files, or a file differs from its checksum.
        NotAvailable: If ModelScope cannot be reached, and `revision` is given or the model is not on this machine.
        DoesNotFit: If there is not enough disk space.
        Cancelled: If cancellation was requested.
    """
    repository = source.removeprefix(SCHEME)
    try:
        files = _files_to_download(_files(repository, revision or MAIN), source)
    except NotAvailable:
        if revision or not (newest := _newest(repository)):
            raise
        return newest
    target = _folder(repository, files)
    lock = acquire_lock(target.with_name(f"{target.name}.lock"))
    try:
        if not target.is_dir():
            _download(repository, files, revision or MAIN, target, watch)
    finally:
        if lock is not None:
            lock.release()
    return target


def commit_in(folder: Path) -> str:
    """Return the latest commit of the files in a downloaded folder; "" if ModelScope did not provide one."""
    file = folder / COMMIT_FILE
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _stem(repository: str) -> str:
    return f"modelscope-{repository.replace('/', '--')}-"


def _newest(repository: str) -> Path | None:
    found = [folder for folder in models_home().glob(f"{_stem(repository)}????????????") if folder.is_dir()]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def _folder(repository: str, files: Sequence[_File]) -> Path:
    """Return the folder of these files, named after a hash of their listing; it exists only if it is complete."""
    content = "".join(f"{file.name} {file.size} {file.sha256}\n" for file in sorted(files, key=lambda file: file.name))
    return models_home() / f"{_stem(repository)}{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _address(repository: str, endpoint: str, **query: str) -> str:
    domain = os.environ.get("MODELSCOPE_DOMAIN", "").strip().rstrip("/") or "www.modelscope.cn"
    site = domain if "://" in domain else f"https://{domain}"
    return f"{site}/api/v1/models/{quote(repository)}/{endpoint}?{urlencode(query)}"


def _open(address: str, repository: str, begun: int = 0) -> Any:
    headers = {"User-Agent": "neftune-lab", **({"Range": f"bytes={begun}-"} if begun else {})}
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=REACH_SECONDS)
    except urllib.error.HTTPError as error:
        raise _error_of_status(error.code, repository) from None
    except (OSError, HTTPException) as error:
        words = later(
            "{name} is not on this machine, and ModelScope cannot be reached: check the network, or choose the bundled "
            "model."
        )
        raise NotAvailable(say(words, name=repository)) from error


def _error_of_status(status: int, repository: str) -> LabError:
    if status in (401, 403, 404):
        words = later("There is no public model {name} on ModelScope: check the id (ms:OWNER/NAME).")
        return ModelError(say(words, name=repository))
    words = later("ModelScope did not send {name} (status {status}): try again later.")
    return NotAvailable(say(words, name=repository, status=status))


def _files(repository: str, revision: str) -> list[_File]:
    with _open(_address(repository, "repo/files", Revision=revision, Recursive="true"), repository) as answer:
        try:
            listing = json.loads(answer.read(LIST_BYTES))
            return [_file(entry) for entry in listing["Data"]["Files"] if entry.get("Type") != "tree"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _error_of_status(404, repository) from None


def _file(entry: dict[str, Any]) -> _File:
    commit = str(entry.get("Revision") or "")
    return _File(
        str(entry["Path"]),
        int(entry.get("Size") or 0),
        str(entry.get("Sha256") or "").lower(),
        commit if re.fullmatch("[0-9a-f]{40}", commit) else "",
        int(entry.get("CommittedDate") or 0),
    )


def _files_to_download(files: Sequence[_File], source: str) -> list[_File]:
    found = [file for file in files if "/" not in file.name and any(fnmatch(file.name, like) for like in WANTED)]
    if any(file.name.endswith(".safetensors") for file in found):
        return found
    raise ModelError(
        say("{name} has no safetensors files at this revision: choose another model or revision.", name=source)
    )


def _download(repository: str, files: Sequence[_File], revision: str, target: Path, watch: Watch) -> None:
    """Download all files into a folder next to `target`; an interrupted download can be resumed there."""
    partial = target.with_name(f"{target.name}.partial")
    partial.mkdir(exist_ok=True)
    total = sum(file.size for file in files)
    require_disk(total - folder_bytes(partial), repository, partial, spare=SPARE_BYTES)
    before = 0
    for file in files:
        address = _address(repository, "repo", Revision=revision, FilePath=file.name)
        _download_file(address, file, partial, (before, total, repository), watch)
        before += file.size
    newest = max(files, key=lambda file: file.time)
    (partial / COMMIT_FILE).write_text(newest.commit, encoding="utf-8")
    publish(partial, target)


def _download_file(address: str, file: _File, folder: Path, done: tuple[int, int, str], watch: Watch) -> None:
    before, total, repository = done
    whole, part = folder / file.name, folder / f"{file.name}.part"
    if whole.is_file():
        return
    begun = part.stat().st_size if part.is_file() else 0
    if begun < file.size or not begun:
        with _open(address, repository, begun) as answer, part.open("ab" if answer.status == 206 else "wb") as stream:
            while chunk := _next_chunk(answer, repository):
                stream.write(chunk)
                watch.report(before + stream.tell(), total, say("Downloading {what}", what=f"{SCHEME}{repository}"))
                watch.check()
    if part.stat().st_size < file.size:
        raise _interrupted(repository)
    if part.stat().st_size > file.size or (file.sha256 and file_sha256(part, watch) != file.sha256):
        part.unlink()
        words = later("The file {file} of {name} does not match the listing on ModelScope: try again.")
        raise ModelError(say(words, file=file.name, name=repository))
    publish(part, whole)


def _next_chunk(answer: Any, repository: str) -> bytes:
    try:
        return bytes(answer.read(CHUNK_BYTES))
    except (OSError, HTTPException) as error:
        raise _interrupted(repository) from error


def _interrupted(repository: str) -> NotAvailable:
    return NotAvailable(say("The download of {name} was interrupted: try again to continue it.", name=repository))
