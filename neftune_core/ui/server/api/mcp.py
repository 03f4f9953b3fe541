"""The endpoints as tools of the Model Context Protocol, over its streamable HTTP transport at `/gradio_api/mcp`.

Gradio's server calls the lab over the loopback interface for each tool. The gate passes the caller's network address in
a header with a secret, so that the rate limits of the caller apply.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradio import mcp
from starlette.types import Scope

from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.ui.server.addresses import header

ADDRESS = re.compile(r"/gradio_api/mcp(/http)?/?$", re.IGNORECASE)
CALLER = b"x-lab-caller"
INSTRUCTIONS = (
    "NEFTune Lab measures what noise on the embeddings does to a language model in instruction tuning. Choose a secret "
    "key of at least 20 characters, start a study with start_study, call study_status until is_over is true, and read "
    "verdict and answers with the same key. While it trains, stop_arm and set_strength change it; "
    "continue_study trains a finished study further."
)


class Tools(mcp.GradioMCPServer):
    """Gradio's server; results are JSON texts instead of Python's, and clients get instructions."""

    def create_mcp_server(self) -> Any:
        """Return the server of the protocol."""
        server = super().create_mcp_server()
        server.instructions = INSTRUCTIONS
        return server

    def postprocess_output_data(self, data: Any, root_url: str) -> list[Any]:
        """Return results as JSON; the endpoints make no files.

        Args:
            data: The results.
            root_url: Address of the page.

        Returns:
            One text content per result.
        """
        texts = (json.dumps(found, ensure_ascii=False) for found in data)
        return [self.types.TextContent(type="text", text=text) for text in texts]


def is_installed() -> bool:
    """Return whether the installed `mcp` package, if any, is a version that Gradio can use."""
    return hasattr(mcp.GradioMCPServer, "StreamableHTTPSessionManager")


def is_offered(wanted: bool | None, *, public: bool, password: bool) -> bool:
    """Return whether a server offers tools: a private one if `mcp` is installed, a public one if its host enables them.

    Args:
        wanted: Choice of the host; None if unset.
        public: Whether strangers can visit.
        password: Whether visitors need a password, which the protocol's clients cannot give.

    Returns:
        Whether tools are offered.

    Raises:
        InvalidSetting: If the host wants tools behind a password.
        NotAvailable: If the host wants tools, and the package is missing.
    """
    if wanted and password:
        raise InvalidSetting("Tools for agents cannot be behind a password: leave out NEFTUNE_MCP or the password.")
    if wanted and not is_installed():
        raise NotAvailable('NEFTUNE_MCP needs the mcp package: install it with `pip install "mcp>=1.21,<2"`.')
    return is_installed() and not password and (not public if wanted is None else wanted)


@contextmanager
def own_tools() -> Iterator[None]:
    """Let Gradio create `Tools` inside the block."""
    usual = mcp.GradioMCPServer
    mcp.GradioMCPServer = Tools  # type: ignore[misc]
    try:
        yield
    finally:
        mcp.GradioMCPServer = usual  # type: ignore[misc]


class Callers:
    """Passes the network addresses of callers of tools across the loopback interface."""

    def __init__(self) -> None:
        self._secret = secrets.token_hex(16)

    def resolved(self, scope: Scope) -> Scope:
        """Return the scope of a request with the address of the caller of a tool, if a tool made the request."""
        secret, _, address = header(scope, CALLER).partition(" ")
        own = secrets.compare_digest(secret.encode(), self._secret.encode())
        return {**scope, "client": (address, 0)} if own else scope

    def noted(self, scope: Scope) -> Scope:
        """Return the scope with the caller's address in its headers if it calls a tool; a given one is removed."""
        headers = [(name, value) for name, value in scope["headers"] if name != CALLER]
        if ADDRESS.search(scope["path"]):
            address = (scope.get("client") or ("", 0))[0]
            headers.append((CALLER, f"{self._secret} {address}".encode()))
        return {**scope, "headers": headers}
