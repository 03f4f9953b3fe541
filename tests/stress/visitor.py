"""A visitor of a served lab who calls its routes and functions directly, without the page."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.processes import ended

SECONDS = 60
LONGEST_ANSWER_SECONDS = 600.0
NO_HUB = "http://127.0.0.1:9"  # no server listens here: hub requests fail immediately, and nothing leaves

OWNER_KEY = "owner-key"
OPEN = "is open at http"

SERVE = """
import json, sys
from neftune_core.settings import Limits
from neftune_core.ui.server.serve import serve
serve(host="127.0.0.1", limits=Limits(**json.loads(sys.argv[1])) if sys.argv[1] else None)
"""


@dataclass(frozen=True)
class Field:
    """An input of a function, from the page's configuration."""

    kind: str
    elem_id: str
    usual: Any
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Function:
    """A function of the page that the server runs, named or not."""

    number: int
    name: str
    fields: tuple[Field, ...]
    outputs: tuple[str, ...]

    @property
    def handler(self) -> str:
        """Name without the number that the second and later functions of a name get, such as those in Chinese."""
        return re.sub(r"_\d+$", "", self.name)

    def usual(self, key: str, **changes: Any) -> list[Any]:
        """Return the page's initial values for the visitor with this key; `changes` are by elem_id."""
        values = {OWNER_KEY: key, **{name.replace("_", "-"): value for name, value in changes.items()}}
        return [values.get(field.elem_id, field.usual) for field in self.fields]


@dataclass(frozen=True)
class Answer:
    """A response: the status, its whole text, and the outputs if any.

    `told` are its messages: errors and toasts.
    """

    status: int
    text: str
    outputs: Sequence[Any] = ()
    told: tuple[str, ...] = ()


class Visitor:
    """One session with its own key. Every method returns the server's response; errors in it are not raised.

    Attributes:
        longest: Seconds after which the rest of an answer is not waited for: a stream of events may never end.
    """

    def __init__(
        self, address: str, key: str = "", longest: float = LONGEST_ANSWER_SECONDS, local_address: str | None = None
    ) -> None:
        self.longest = longest
        transport = httpx.HTTPTransport(local_address=local_address, verify=False)  # certificates are read slowly
        self.client = httpx.Client(
            base_url=address, timeout=min(SECONDS, longest), transport=transport, trust_env=False
        )
        self.key = key or secrets.token_hex(32)
        self.session = secrets.token_hex(8)

    def functions(self) -> list[Function]:
        """Return all functions that the server runs, without those that run in the browser (cached by address)."""
        address = str(self.client.base_url)
        if address not in _functions:
            _functions[address] = self._read_functions()
        return list(_functions[address])

    def _read_functions(self) -> list[Function]:
        config = self.client.get("/config").json()
        parts = {part["id"]: part for part in config["components"]}
        found = []
        for made in config["dependencies"]:
            if made["backend_fn"]:
                fields = tuple(_field(parts[number]) for number in made["inputs"])
                outputs = tuple(parts[number]["type"] for number in made["outputs"])
                found.append(Function(made["id"], str(made["api_name"]), fields, outputs))
        return found

    def function(self, name: str) -> Function:
        """Return the first function of that name."""
        return next(found for found in self.functions() if found.name == name)

    def upload(self, name: str, content: bytes) -> Answer:
        """Upload a file; the outputs are the file as a function parameter."""
        said = self.send("POST", "/gradio_api/upload", files={"files": (name, content)})
        if said.status != 200:
            return said
        (path,) = json.loads(said.text)
        return Answer(200, said.text, [described(path, name, len(content))])

    def call(self, function: Function, data: Sequence[Any], **more: Any) -> Answer:
        """Call a function through the queue and wait for its final event."""
        body = {"fn_index": function.number, "session_hash": self.session, "data": list(data), **more}
        text = json.dumps(body)  # also what JSON has no word for, as a hostile visitor would
        joined = self.send("POST", "/gradio_api/queue/join", content=text, headers={"content-type": "application/json"})
        return joined if joined.status != 200 else self._followed(joined)

    def send(self, method: str, address: str, **request: Any) -> Answer:
        """Send any request."""
        end, blocks = time.monotonic() + self.longest, list[bytes]()
        try:
            with self.client.stream(method, address, **request) as response:
                for block in response.iter_bytes():
                    blocks.append(block)
                    if time.monotonic() > end:
                        break
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Answer(0, f"{type(error).__name__}: {error}")
        return Answer(response.status_code, b"".join(blocks).decode("utf-8", "replace"))

    def _followed(self, joined: Answer) -> Answer:
        """Read the events of a queued call until its stream ends."""
        heard = self.send("GET", f"/gradio_api/queue/data?session_hash={self.session}")
        if heard.status != 200:
            return heard
        outputs, told = list[Any](), list[str]()
        for line in heard.text.split("\n"):  # not by lines of text: a message may hold other ends of lines
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            said = message.get("output") or {}
            if message.get("msg") == "log":
                told.append(str(message["log"]))
            elif message.get("msg") in ("process_completed", "process_generating"):
                outputs = said.get("data") or outputs
                told += [str(said["error"])] if said.get("error") else []
        return Answer(200, f"{joined.text}\n{heard.text}", outputs, tuple(told))


def described(path: str, name: str, size: int) -> dict[str, Any]:
    """Return a file as the page sends it to a function."""
    return {"path": path, "orig_name": name, "size": size, "meta": {"_type": "gradio.FileData"}}


_functions: dict[str, list[Function]] = {}


def _field(part: Mapping[str, Any]) -> Field:
    given = part["props"]
    choices = given.get("choices") or []
    values = tuple(choice[1] if isinstance(choice, list | tuple) else choice for choice in choices)
    return Field(part["type"], given.get("elem_id") or given.get("label") or "", given.get("value"), values)


@dataclass
class Server:
    """The lab in a separate process and home, with its output."""

    address: str
    process: subprocess.Popen[str]
    home: Path

    def printed(self) -> str:
        """Return its terminal output so far."""
        return (self.home / "terminal.txt").read_text(encoding="utf-8", errors="replace")

    def logged(self) -> str:
        """Return its log so far."""
        log = self.home / "lab.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


@contextmanager
def served(
    home: Path, limits: Mapping[str, Any] | None = None, *, code: str = SERVE, **environment: str
) -> Iterator[Server]:
    """Serve the lab on the loopback interface by running `code`, with its files under `home` and no hub access."""
    home.mkdir(parents=True, exist_ok=True)
    package = str(Path(__file__).resolve().parents[2])
    own = {"NEFTUNE_HOME": str(home), "HF_ENDPOINT": NO_HUB, "HF_HOME": str(home / "hub"), "PYTHONUNBUFFERED": "1"}
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    with (home / "terminal.txt").open("w", encoding="utf-8") as terminal:
        command = [sys.executable, "-c", code, json.dumps(limits) if limits else ""]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
            env={**os.environ, **own, "PYTHONPATH": paths, **environment},
        ) as process:
            assert process.stdout is not None
            with ended(process):
                said = next((line for line in process.stdout if OPEN in line), "")  # some platforms say more before
                _functions.pop(said.strip().rpartition(" ")[2], None)  # of a former server on the same port
                yield Server(said.strip().rpartition(" ")[2], process, home)
