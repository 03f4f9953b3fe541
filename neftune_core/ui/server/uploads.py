"""Storage of uploads and exports: location, retention and quotas per IP address.

Everything in `uploads/` is counted, per address and in total. Counts are updated as files arrive, so that no request
scans the folder. A thread scans it occasionally to remove old files and to count files that were missed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neftune_core.errors import DoesNotFit
from neftune_core.home import home
from neftune_core.language import say
from neftune_core.settings import Limits
from neftune_core.studies.records.record import asked_from
from neftune_core.ui.server.addresses import UPLOAD, address_in, header

KEPT_SECONDS = 24 * 3600
UPLOADS_KEPT = 40  # capacity, in files of the maximum size
FILES_KEPT = 20_000
SHARE = 4
"""On a public server, one address may use at most `1 / SHARE` of the space."""
SCAN_SECONDS = 60
"""Minimum time between scans of the folder, in seconds."""
asked_as: ContextVar[str] = ContextVar("asked_as", default="")
"""Hash of the key sent by the session of the current call; empty if it sent none, and in calls from Python."""
READ_FILE = re.compile(r"/gradio_api/file[=/](?P<path>.+)$", re.IGNORECASE | re.DOTALL)


def keep_uploads_at_home() -> Path:
    """Direct Gradio's uploads to `home()`, readable by this user only; call it before the page is built.

    Gradio's default is a folder shared by all programs and users of the machine.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    folder = home() / "uploads"
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


def output_folder(kind: str, *parts: str) -> Path:
    """Return the folder of a generated file, and create it if it is missing.

    Equal parts give the same folder. One part is a visitor's key or its hash, so that the URL cannot be guessed.

    Args:
        kind: Prefix of the folder's name.
        *parts: Strings that identify the file.

    Returns:
        The folder.
    """
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]
    folder = keep_uploads_at_home() / f"{kind}-{name}"
    folder.mkdir(exist_ok=True)
    return folder


def link_or_copy(path: Path, folder: Path) -> Path:
    """Hard-link a file into a folder, or copy it if the file system has no hard links.

    Args:
        path: The file.
        folder: Target folder, on any disk.

    Returns:
        The new path.

    Raises:
        FileNotFoundError: If `path` is not a file.
    """
    target = folder / path.name
    try:
        os.link(path, target)
    except FileExistsError:
        pass
    except OSError:
        if not path.is_file():
            raise FileNotFoundError(path) from None
        if not target.exists():
            shutil.copyfile(path, target)
    with contextlib.suppress(PermissionError):  # a mounted folder may belong to another account
        os.utime(folder)
    return target


@dataclass
class _Upload:
    """An uploaded file.

    Attributes:
        address: IP address to which the file is attributed; empty for files from before the server started.
        size: Size in bytes.
        addresses: All addresses that have uploaded the file, since files with the same content have the same path.
        owners: Hashed keys of the visitors who have named the file in a call.
        unnamed: Number of uploads of the file that no call has named yet.
    """

    address: str
    size: int
    addresses: set[str] = field(default_factory=set)
    owners: set[str] = field(default_factory=set)
    unnamed: int = 1


class UploadQuota:
    """Usage of `uploads/`: bytes and files per IP address and in total.

    Files found when the server starts have the address "".

    Args:
        limits: Limits of the server.
        folder: Folder of the uploads; the one in the home folder if None.

    Raises:
        NotAvailable: If the home folder is needed but cannot be used.
    """

    def __init__(self, limits: Limits, folder: Path | None = None) -> None:
        self.limits = limits
        self.folder = folder or home() / "uploads"
        self._kept: dict[Path, _Upload] = {}
        self._coming: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._files: Counter[str] = Counter()
        self._total = 0
        self._lock = threading.Lock()
        self._scanning = threading.Lock()
        self._last_scan = float("-inf")

    @property
    def most_bytes(self) -> int:
        """Return the maximum number of bytes for all addresses."""
        return UPLOADS_KEPT * self.limits.upload_megabytes * 1_000_000

    @contextmanager
    def reserved(self, address: str, length: int) -> Iterator[None]:
        """Reserve space for an upload in progress.

        Args:
            address: The IP address.
            length: Number of bytes.

        Yields:
            Nothing.

        Raises:
            DoesNotFit: If there is not enough space.
        """
        self._scan_soon()
        share = 1 if self.limits.local_paths else SHARE
        with self._lock:
            coming = sum(self._coming.values())
            if self._total + coming + length > self.most_bytes or len(self._kept) >= FILES_KEPT:
                raise DoesNotFit(say("The storage for uploads is full: try again tomorrow."))
            mine = self._bytes[address] + self._coming[address] + length
            if address and (mine > self.most_bytes / share or self._files[address] >= FILES_KEPT / share):
                raise DoesNotFit(say("The storage for uploads from your IP address is full: try again tomorrow."))
            self._coming[address] += length
        try:
            yield
        finally:
            with self._lock:
                self._coming[address] -= length

    def keep(self, address: str, path: Path) -> None:
        """Count a file that has arrived, with its current size; a hard link counts as 0 bytes.

        Args:
            address: The IP address.
            path: The file.
        """
        with contextlib.suppress(OSError):
            about = path.lstat()
            with self._lock:
                before = self._forget(path)
                kept = self._kept[path] = _Upload(address, about.st_size if about.st_nlink == 1 else 0)
                kept.addresses.add(address)
                if before is not None and "" not in before.addresses:  # uploaded before from a known address
                    kept.addresses |= before.addresses
                    kept.owners = before.owners
                    kept.unnamed += before.unnamed
                self._bytes[address] += kept.size
                self._files[address] += 1
                self._total += kept.size

    def is_of(self, address: str, path: str) -> bool:
        """Return whether an address may use a file.

        Args:
            address: The IP address.
            path: The file.

        Returns:
            Whether the address has uploaded the file, or the server does not know who uploaded it.
        """
        try:
            kept = self._found(path)
        except (OSError, ValueError, RuntimeError):  # not a possible file name
            return False
        return kept is None or "" in kept.addresses or address in kept.addresses

    def may_name(self, path: str) -> bool:
        """Return whether the current call may name a file.

        The IP address must have uploaded the file, unless the uploader is unknown. On a public server, the visitor must
        also be one of its owners, or an upload of it must not have been named yet; the call then names that upload, and
        the visitor becomes an owner.
        """
        if not self.is_of(asked_from.get(), path):
            return False
        kept, owner = self._found(path), asked_as.get()
        if self.limits.local_paths or kept is None or owner in kept.owners:
            return True
        with self._lock:
            allowed = not kept.owners or kept.unnamed > 0
            if allowed and owner:
                kept.owners.add(owner)
                kept.unnamed = max(0, kept.unnamed - 1)
        return allowed

    def holds(self, path: str) -> bool:
        """Return whether a path without symbolic links leads into this folder, and the current call may name it."""
        file = Path(path)
        try:
            is_inside = file.resolve().is_relative_to(self.folder.resolve())
            return file.is_absolute() and not file.is_symlink() and is_inside and self.may_name(path)
        except (OSError, ValueError, RuntimeError):  # not a possible file name
            return False

    def _found(self, path: str) -> _Upload | None:
        return self._kept.get(Path(path)) or self._kept.get(Path(path).resolve())

    def _forget(self, path: Path) -> _Upload | None:
        kept = self._kept.pop(path, None)
        if kept is not None:
            self._bytes[kept.address] -= kept.size
            self._files[kept.address] -= 1
            self._total -= kept.size
        return kept

    def _scan_soon(self) -> None:
        if time.monotonic() - self._last_scan > SCAN_SECONDS and not self._scanning.locked():
            threading.Thread(target=self.scan, name="uploads", daemon=True).start()

    def scan(self) -> None:
        """Remove files older than a day, and count files that have not been counted yet."""
        with self._scanning:
            self._last_scan = time.monotonic()
            seen = set()
            for path, age in _files(self.folder):
                if age > KEPT_SECONDS:
                    with contextlib.suppress(OSError):
                        path.unlink()
                        path.parent.rmdir()
                    continue
                seen.add(path)
                if path not in self._kept:
                    self.keep("", path)
            with self._lock:
                for path in [path for path in self._kept if path not in seen and not path.exists()]:
                    self._forget(path)


_quotas: dict[Path, UploadQuota] = {}
_creating = threading.Lock()


def upload_quota(limits: Limits) -> UploadQuota:
    """Return the `UploadQuota` of the uploads folder in the home folder, which the whole process shares.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    folder = home() / "uploads"
    with _creating:
        quota = _quotas.get(folder)
        if quota is None or quota.limits != limits:
            quota = _quotas[folder] = UploadQuota(limits, folder)
        return quota


class CountedFiles:
    """ASGI middleware that counts uploads per IP address, and serves a file only to the address that owns it.

    Args:
        app: The application.
        limits: Limits of the server.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (UPLOAD.search(path) or READ_FILE.search(path)):
            await self.app(scope, receive, send)
            return
        address, quota, file = address_in(scope), upload_quota(self.limits), READ_FILE.search(path)
        if file is None:
            await self._take(quota, address, scope, receive, send)
        elif quota.is_of(address, file["path"]):
            await self.app(scope, receive, send)
        else:
            await JSONResponse({"error": "There is nothing at this address."}, 404)(scope, receive, send)

    async def _take(self, quota: UploadQuota, address: str, scope: Scope, receive: Receive, send: Send) -> None:
        length, said = header(scope, b"content-length"), bytearray()

        async def sending(message: Message) -> None:
            said.extend(message.get("body", b""))
            await send(message)

        most = self.limits.upload_megabytes * 1_000_000
        with quota.reserved(address, int(length) if length.isdigit() else most):
            await self.app(scope, receive, sending)
            for path in _paths(bytes(said)):
                quota.keep(address, path)


def _paths(said: bytes) -> list[Path]:
    """Return the stored files from Gradio's response to an upload; empty if it rejected them."""
    try:
        found = json.loads(said)
    except ValueError:
        return []
    return [Path(path) for path in found if isinstance(path, str)] if isinstance(found, list) else []


def _files(folder: Path) -> Iterator[tuple[Path, float]]:
    """Yield every file below `folder` with the time in seconds since it was written or last linked."""
    now = time.time()
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                path = Path(parent) / name
                about = path.lstat()
                written = about.st_mtime if about.st_nlink == 1 else Path(parent).stat().st_mtime
                yield path, now - written
