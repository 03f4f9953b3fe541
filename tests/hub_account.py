"""A mock hub account on the loopback interface to which `huggingface_hub` can upload repositories and files."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml
from hub_mock import entry_of

TOKEN = "hf_" + "Wr1te" * 7
OWNER = "teacher"
COMMIT = "b" * 40
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
LONGEST_SHORT_DESCRIPTION = 60


@dataclass
class Account:
    """The state of the account.

    Attributes:
        address: URL of the mock hub.
        made: The creation request of each repository, by name.
        files: The files of each repository, by name.
        refuse: HTTP status with which every request is refused; 0 for none.
    """

    address: str = ""
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refuse: int = 0


class _Hub(BaseHTTPRequestHandler):
    account: Account

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid credentials"})
        if self.account.refuse:
            return self._answer(self.account.refuse, {"error": "no"})
        for part, handler in (
            ("/api/whoami-v2", self._who),
            ("/api/repos/create", self._create),
            ("/api/validate-yaml", self._validate),
            ("/preupload/", self._preupload),
            ("/commit/", self._commit),
        ):
            if part in path:
                return handler(path, body)
        name = "/".join(path.split("/")[3:5])
        if name not in self.account.files:
            return self._answer(404, {"error": "Repository not found"})
        found = [{"rfilename": file} for file in self.account.files[name]]
        tree = [entry_of(*file) for file in self.account.files[name].items()]
        return self._answer(200, tree if "/tree/" in path else {"id": name, "sha": COMMIT, "siblings": found})

    def _who(self, path: str, body: bytes) -> None:
        self._answer(200, {"name": OWNER, "type": "user"})

    def _create(self, path: str, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked.get('organization') or OWNER}/{asked['name']}"
        if asked.get("organization") not in (None, OWNER):
            return self._answer(403, {"error": "You don't have the rights"})
        if name in self.account.made:
            return self._answer(
                409, {"error": "You already created this repo", "url": f"{self.account.address}/{name}"}
            )
        self.account.made[name], self.account.files[name] = asked, {".gitattributes": b""}
        kind = "spaces/" if asked.get("type") == "space" else ""
        return self._answer(200, {"url": f"{self.account.address}/{kind}{name}", "name": name})

    def _validate(self, path: str, body: bytes) -> None:
        head = json.loads(body)["content"].split("---\n")[1]
        said = yaml.safe_load(head)
        wrong = [name for name in ("colorFrom", "colorTo") if name in said and said[name] not in COLOURS]
        if len(said.get("short_description", "")) > LONGEST_SHORT_DESCRIPTION:
            wrong.append("short_description")
        errors = [{"message": f'"{name}" is not allowed'} for name in wrong]
        self._answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def _preupload(self, path: str, body: bytes) -> None:
        files = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
        ]
        self._answer(200, {"files": files})

    def _commit(self, path: str, body: bytes) -> None:
        files = self.account.files["/".join(path.split("/")[3:5])]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        kind, owner, name = path.split("/")[2:5]
        place = f"{self.account.address}/{'spaces/' if kind == 'spaces' else ''}{owner}/{name}"
        self._answer(200, {"commitUrl": f"{place}/commit/{COMMIT}", "commitOid": COMMIT})

    def _answer(self, status: int, said: Any) -> None:
        content = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def account_of() -> Iterator[Account]:
    """Serve a hub with the account `OWNER` and its token `TOKEN`, and yield the account."""
    account = Account()
    handler = type("Hub", (_Hub,), {"account": account})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        account.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield account
        server.shutdown()
