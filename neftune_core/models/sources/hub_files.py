"""Models from the hub: from the local cache if complete, otherwise downloaded with progress.

Endpoint, proxies, token and cache folder are the settings of huggingface_hub (HF_ENDPOINT, HTTPS_PROXY, HF_TOKEN,
HF_HOME).
"""

from __future__ import annotations

import logging
import re
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from neftune_core import errors
from neftune_core.errors import Cancelled, LabError, ModelError, NotAvailable
from neftune_core.home import assets
from neftune_core.language import later, say
from neftune_core.models.checks import safetensors_files, safetensors_header
from neftune_core.models.sources.download_progress import Watch
from neftune_core.models.sources.folders import require_disk

logger = logging.getLogger(__name__)

WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja", "README.md"]
UNWANTED = ["*/*", "consolidated*"]  # other formats in subfolders, and duplicate weights
TOKENIZERS = ["tokenizer.json", "*.model", "*.spm", "vocab.*"]
REACH_SECONDS = 15
STALL_SECONDS = 120
POLL_SECONDS = 0.1
SPARE_BYTES = 200_000_000

T = TypeVar("T")


def fetch(repository: str, revision: str, watch: Watch) -> Path:
    """Return the local folder of a model on the hub, downloading what is missing.

    The network is not used if the cached model is complete. Missing files and truncated weights are downloaded.

    Args:
        repository: Hub id, owner/name.
        revision: Branch, tag or commit; "" for main.
        watch: Progress and cancellation.

    Returns:
        The snapshot folder in the hub's cache.

    Raises:
        LabError: For any failure; its message is one sentence.
        Cancelled: If cancellation was requested.
    """
    from huggingface_hub import constants

    cached = _cached_folder(repository, revision)
    if cached is not None and any(any(cached.glob(pattern)) for pattern in TOKENIZERS):
        return cached
    try:
        sizes = _in_background(lambda: _sizes(repository, revision), watch, lambda waited: waited > REACH_SECONDS)
        _require_safetensors(sizes, repository)
        total, folder = sum(sizes.values()), Path(constants.HF_HUB_CACHE)
        require_disk(total, repository, folder, spare=SPARE_BYTES, variable="HF_HOME")
        return _download(repository, revision, total, watch)
    except Exception as error:
        translated = error if isinstance(error, LabError | Cancelled) else translate_error(error, repository, revision)
        if cached is not None and isinstance(translated, NotAvailable):
            return cached  # its tokenizer may not need any of the usual files
        raise translated from (None if translated is error else error)


def commit_of(folder: Path) -> str:
    """Return the commit that a folder in the hub's cache is named after; "" for other folders."""
    return folder.name if re.fullmatch("[0-9a-f]{40}", folder.name) else ""


def is_cached(repository: str, revision: str) -> bool:
    """Return whether a complete model of the hub is on this machine, without using the network.

    Args:
        repository: Hub id, owner/name.
        revision: Branch, tag or commit; "" for main.

    Returns:
        Whether the configuration and all weights are in the cache.
    """
    return _cached_folder(repository, revision) is not None


def _cached_folder(repository: str, revision: str) -> Path | None:
    try:
        folder = _snapshot(repository, revision, local_files_only=True)
        is_complete = (folder / "config.json").is_file() and _has_complete_weights(folder)
    except (OSError, ValueError, ModelError):
        return None
    return folder if is_complete else None


def _snapshot(repository: str, revision: str, **options: Any) -> Path:
    from huggingface_hub import snapshot_download

    patterns: Any = {"allow_patterns": WANTED, "ignore_patterns": UNWANTED}
    return Path(snapshot_download(repository, revision=revision or None, **patterns, **options))


def _has_complete_weights(folder: Path) -> bool:
    """Return whether all weight files are complete; a truncated file is removed so that it is downloaded again."""
    files, are_complete = safetensors_files(folder), True
    for file in files:
        try:
            safetensors_header(file)
        except ModelError:
            are_complete = False
            file.resolve().unlink(missing_ok=True)
            file.unlink(missing_ok=True)
    return bool(files) and are_complete


def _sizes(repository: str, revision: str) -> dict[str, int]:
    """Return the sizes in bytes of the wanted files; without safetensors files, other weight files with size 0."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    found = HfApi().model_info(repository, revision=revision or None, files_metadata=True, timeout=REACH_SECONDS)
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or []}
    wanted: Iterable[str] = filter_repo_objects(sizes, allow_patterns=WANTED, ignore_patterns=UNWANTED)
    kept = {name: sizes[name] for name in wanted}
    others = {name: 0 for name in sizes if name.endswith((".bin", ".pt", ".gguf")) and "/" not in name}
    return kept if any(name.endswith(".safetensors") for name in kept) else others


def _require_safetensors(sizes: dict[str, int], repository: str) -> None:
    if any(name.endswith(".safetensors") for name in sizes):
        return
    if any(name.endswith(".gguf") for name in sizes):
        words = later("{repository} contains only GGUF files: download one of them, and give its path as the model.")
        raise ModelError(say(words, repository=repository))
    if sizes:
        words = later(
            "{repository} has only pickled weights, which can run code when opened: give a revision with safetensors "
            "files, or choose another model."
        )
        raise ModelError(say(words, repository=repository))
    words = later("{repository} contains no weights at this revision: choose another model.")
    raise ModelError(say(words, repository=repository))


def _download(repository: str, revision: str, total: int, watch: Watch) -> Path:
    count = _Count()

    def stalled(waited: float) -> bool:
        watch.report(count.done(), total, say("Downloading {what}", what=repository))
        return time.monotonic() - count.updated > STALL_SECONDS

    watch.report(0, total, say("Downloading {what}", what=repository))  # small downloads finish before the first poll
    try:
        return _in_background(lambda: _snapshot(repository, revision, tqdm_class=_meter(count)), watch, stalled)
    finally:
        count.stop = True


class _Count:
    """Bytes counted by the progress bars of one download; `stop` interrupts the download."""

    def __init__(self) -> None:
        self.bars: Counter[int] = Counter()
        self.stop = False
        self.updated = time.monotonic()

    def add(self, bar: int, count: int) -> None:
        """Count bytes.

        Args:
            bar: Id of the progress bar.
            count: Number of bytes since the last call for this bar.

        Raises:
            Cancelled: If `stop` is set.
        """
        self.bars[bar] += count
        self.updated = time.monotonic()
        if self.stop:
            raise Cancelled("The download was stopped on request.")

    def done(self) -> int:
        return max(self.bars.values(), default=0)  # one bar counts bytes received, another bytes written


def _meter(count: _Count) -> type:
    """Return a class of progress bars that display nothing and count their bytes in `count`."""
    from tqdm.auto import tqdm

    class Meter(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.of_bytes = options.get("unit") == "B"
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            count.add(id(self), int(n or 0) if self.of_bytes else 0)
            return None

    return Meter


def _in_background(work: Callable[[], T], watch: Watch, given_up: Callable[[float], bool]) -> T:
    """Run `work` in a thread, so that it cannot block the caller; return its result or raise its exception.

    `given_up` is called with the seconds waited, ten times per second; if it returns true, `NotAvailable` is raised.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="hub", daemon=True).start()
    started = time.monotonic()
    while not wait([done], POLL_SECONDS).done:
        watch.check()
        if given_up(time.monotonic() - started):
            raise NotAvailable(
                say("The hub does not respond: check the network, or give a folder on this machine as the model.")
            )
    watch.check()
    return done.result()


def translate_error(error: BaseException, repository: str, revision: str) -> LabError:
    """Translate an exception of huggingface_hub into an error for users.

    Args:
        error: The exception.
        repository: Hub id.
        revision: Branch, tag or commit; "" for main.

    Returns:
        The error to raise; its message is one sentence.
    """
    chain = [*_chain(error)]
    for entry in EXPLANATIONS:
        if any(_matches(link, entry) for link in chain):
            return getattr(errors, entry["error"])(say(entry["sentence"], name=repository, revision=revision or "main"))
    logger.warning("%s could not be fetched", repository, exc_info=error)  # not shown to users: it may contain secrets
    words = later("{repository} could not be fetched from the hub: try again later; the log has the details.")
    return ModelError(say(words, repository=repository))


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _matches(error: BaseException, entry: dict[str, Any]) -> bool:
    """Return whether an entry explains an exception.

    Classes are compared by name, because they differ between versions of the hub's library.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    of_class = any(cls.__name__ in entry.get("classes", ()) for cls in type(error).__mro__)
    return of_class or status in entry.get("status", ()) or getattr(error, "errno", None) in entry.get("errno", ())


EXPLANATIONS = tomllib.loads((assets() / "hub_errors.toml").read_text(encoding="utf-8"))["model"]
"""Conditions on exceptions, and the errors for users that explain them; the first match is used."""


def licence_in(folder: Path) -> str:
    """Return the licence stated in the README of `folder`; empty if there is none."""
    readme = folder / "README.md"
    if not readme.is_file():
        return ""
    from huggingface_hub import metadata_load

    try:
        stated = (metadata_load(readme) or {}).get("license", "")
    except Exception:  # the metadata of a README may be malformed
        return ""
    return ", ".join(map(str, stated)) if isinstance(stated, list) else str(stated)
