"""A small OpenAI-compatible server that judges answers by a given rule."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Rule = Callable[[str, str, str], Any]
"""A function of the prompt, answer A and answer B that returns a reply, a status, or (status, headers, body)."""

PARTS = re.compile(r"\[Prompt\]\n(.*)\n\n\[Answer A\]\n(.*)\n\n\[Answer B\]\n(.*)\n\n\[Which", re.DOTALL)


class JudgeServer(ThreadingHTTPServer):
    """A server that judges by a rule.

    Attributes:
        rule: The rule.
        asked: Path, headers and body of every request.
    """

    daemon_threads = True

    def __init__(self, rule: Rule) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rule = rule
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), body))
        found = PARTS.search(body["messages"][-1]["content"])
        assert found is not None
        told = self.server.rule(*found.groups())
        if isinstance(told, int):
            told = (told, {}, b"{}")
        if isinstance(told, str):
            told = (200, {}, json.dumps({"choices": [{"message": {"content": told}}]}).encode())
        status, headers, content = told
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def judging(rule: Rule) -> Iterator[JudgeServer]:
    """Serve a judge on the loopback interface."""
    with JudgeServer(rule) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
