"""The first view, served inside the page itself: the recorded study plays before the framework has mounted anything.

The framework builds its page in the browser, which takes a small machine seconds. What is put into the served page here
needs none of it; once the Learn tab is mounted it takes the very same node over (assets/page/stage.js).
"""

from __future__ import annotations

import json
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neftune_core.home import assets
from neftune_core.ui import theme
from neftune_core.ui.learn_tab import STAGE
from neftune_core.ui.recorded import Recorded
from neftune_core.ui.strip import BRAND

BODY_ENDS = b"</body>"

_views: WeakKeyDictionary[gr.Blocks, bytes] = WeakKeyDictionary()


def put(page: gr.Blocks, shown: Recorded | None) -> None:
    """Let `page` be served with this first view; with None it is served as the framework makes it."""
    if shown is not None:
        _views[page] = _markup(shown.stage).encode()


def of(page: gr.Blocks) -> bytes:
    """What is put into the served page; empty for nothing."""
    return _views.get(page, b"")


def _markup(stage: dict[str, Any]) -> str:
    data = json.dumps(stage, ensure_ascii=False).replace("<", "\\u003c")
    script = (assets() / "page" / "stage.js").read_text(encoding="utf-8")
    return (
        f'<style>{theme.css()}</style><div id="lab-first" hidden><div><header>{BRAND}</header>{STAGE}</div>'
        f'<script type="application/json">{data}</script></div><script>{script}</script>'
    )


class FirstView:
    """An ASGI application before the framework's, which puts `view` at the end of the page that is served at `/`."""

    def __init__(self, app: ASGIApp, *, view: bytes) -> None:
        self.app, self.view = app, view

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.view or scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def sending(message: Message) -> None:
            """The whole page at once, with the view in it; anything that is no page goes through unchanged."""
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            page = _with(bytes(body), self.view)
            await send({**start, "headers": _lengthened(start, len(page))})
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, sending)


def _with(page: bytes, view: bytes) -> bytes:
    before, end, after = page.rpartition(BODY_ENDS)
    return before + view + end + after if end else page


def _lengthened(start: Message, length: int) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in start.get("headers", []) if name.lower() != b"content-length"]
    return [*kept, (b"content-length", str(length).encode())]
