"""Offer the endpoints as Model Context Protocol (MCP) tools, over streamable HTTP at `/gradio_api/mcp`.

For each tool call, Gradio's MCP server calls the lab over the loopback interface. The gate passes the caller's IP
address in a header with a secret, so that the caller's rate limits apply.
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
    "NEFTune Lab measures how embedding noise affects a language model during instruction tuning. Choose a secret key "
    "of at least 20 characters, start a study with start_study, call study_status until is_over is true, and then call "
    "verdict and answers with the same key. stop_arm and set_strength change a running study. continue_study trains a "
    "finished study for more epochs."
)


class Tools(mcp.GradioMCPServer):
    """Gradio's MCP server, with results as JSON instead of Python literals, and with instructions for clients."""

    def create_mcp_server(self) -> Any:
        """Create the MCP server and set its instructions."""
        server = super().create_mcp_server()
        server.instructions = INSTRUCTIONS
        return server

    def postprocess_output_data(self, data: Any, root_url: str) -> list[Any]:
        """Convert results to JSON; the endpoints return no files.

        Args:
            data: The results.
            root_url: URL of the page; unused.

        Returns:
            One text content per result.
        """
        texts = (json.dumps(found, ensure_ascii=False) for found in data)
        return [self.types.TextContent(type="text", text=text) for text in texts]


def is_installed() -> bool:
    """Return whether the installed `mcp` package, if any, is a version that Gradio can use."""
    return hasattr(mcp.GradioMCPServer, "StreamableHTTPSessionManager")


def is_offered(wanted: bool | None, *, public: bool, password: bool) -> bool:
    """Return whether a server offers tools.

    By default, a private server offers them if `mcp` is installed, and a public server does not.

    Args:
        wanted: The value of `NEFTUNE_MCP`; None for the default.
        public: Whether the server is public.
        password: Whether visitors need a password, which MCP clients cannot send.

    Returns:
        Whether tools are offered.

    Raises:
        InvalidSetting: If tools are wanted on a server with a password.
        NotAvailable: If tools are wanted, but the package is missing.
    """
    if wanted and password:
        raise InvalidSetting("Tools for agents do not work with a password: unset NEFTUNE_MCP or remove the password.")
    if wanted and not is_installed():
        raise NotAvailable('NEFTUNE_MCP needs the mcp package: install it with `pip install "mcp>=1.21,<2"`.')
    return is_installed() and not password and (not public if wanted is None else wanted)


@contextmanager
def own_tools() -> Iterator[None]:
    """Make Gradio use `Tools` as its MCP server inside the block."""
    usual = mcp.GradioMCPServer
    mcp.GradioMCPServer = Tools  # type: ignore[misc]
    try:
        yield
    finally:
        mcp.GradioMCPServer = usual  # type: ignore[misc]


class Callers:
    """Passes the IP addresses of tool callers across the loopback interface."""

    def __init__(self) -> None:
        self._secret = secrets.token_hex(16)

    def resolved(self, scope: Scope) -> Scope:
        """Return the scope of a request, with the tool caller's address as client if a tool made the request."""
        secret, _, address = header(scope, CALLER).partition(" ")
        own = secrets.compare_digest(secret.encode(), self._secret.encode())
        return {**scope, "client": (address, 0)} if own else scope

    def noted(self, scope: Scope) -> Scope:
        """Return the scope of a request, with the caller's address in a header if it calls a tool.

        If the caller sent a header of this name, it is removed.
        """
        headers = [(name, value) for name, value in scope["headers"] if name != CALLER]
        if ADDRESS.search(scope["path"]):
            address = (scope.get("client") or ("", 0))[0]
            headers.append((CALLER, f"{self._secret} {address}".encode()))
        return {**scope, "headers": headers}
