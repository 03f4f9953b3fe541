"""A mock hub with one data set that implements the read-only part of the protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "a" * 40


class _Hub(BaseHTTPRequestHandler):
    files: Mapping[str, bytes]
    seen: list[str]

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.seen.append(self.headers.get("authorization", ""))
        name = path.partition("/resolve/")[2].partition("/")[2]
        if name in self.files:
            content = self.files[name]
            self._answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', **{"X-Repo-Commit": COMMIT})
        elif name:
            self._answer(404, b"", **{"X-Error-Code": "EntryNotFound"})
        elif "/tree/" in path:
            self._answer(200, json.dumps([entry_of(*file) for file in self.files.items()]).encode())
        elif path.startswith("/api/datasets/"):
            siblings = [{"rfilename": file} for file in self.files]
            self._answer(200, json.dumps({"id": "owner/set", "sha": COMMIT, "siblings": siblings}).encode())
        else:
            self._answer(404, b"{}")

    def _answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def entry_of(name: str, content: bytes) -> dict[str, Any]:
    """Return the entry for a file in a hub's file list."""
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextmanager
def hub_of(files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve a hub with the data set `owner/set`; yield its URL and the `Authorization` headers that it received."""
    seen: list[str] = []
    handler = type("Hub", (_Hub,), {"files": files, "seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
