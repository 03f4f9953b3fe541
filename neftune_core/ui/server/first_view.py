"""What is put into the served page: its language, and a first view before the framework has mounted anything.

The framework builds its page in the browser, which takes a small machine seconds. What is put into the served page here
needs none of it; once the Learn tab is mounted it takes the very same node over (assets/page/stage.js).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neftune_core import language
from neftune_core.home import assets
from neftune_core.ui.parts.recorded import Recorded
from neftune_core.ui.parts.strip import BRAND
from neftune_core.ui.server import theme
from neftune_core.ui.tabs.learn_tab import stage_html

HEAD_BEGINS = re.compile(rb"<head[^>]*>")
BODY_ENDS = b"</body>"
FRAMEWORKS_LANGUAGE = b'lang="en"'


@dataclass(frozen=True)
class Added:
    """What the served page gets: its language's `tag`, the begin of its head, and the end of its body."""

    tag: bytes
    head: bytes
    view: bytes = b""

    def to(self, page: bytes) -> bytes:
        """The page with all of it; what is no page stays as it is."""
        before, end, after = page.rpartition(BODY_ENDS)
        if not end:
            return page
        whole = before + self.view + end + after
        whole = whole.replace(FRAMEWORKS_LANGUAGE, b'lang="' + self.tag + b'"', 1)
        return HEAD_BEGINS.sub(lambda found: found[0] + self.head, whole, count=1)


_added: WeakKeyDictionary[gr.Blocks, dict[str, Added]] = WeakKeyDictionary()


def put(page: gr.Blocks, shown: Recorded | None) -> None:
    """Let the part of `page` that was just built be served in the current language, and with this first view."""
    view = _markup(shown.stage).encode() if shown is not None else b""
    added = Added(language.TAGS[language.current()].encode(), _head().encode(), view)
    _added.setdefault(page, {})[f"/{page.current_page}"] = added


def of(page: gr.Blocks, *, view: bool = True) -> Mapping[str, Added]:
    """What is put into the pages that are served, by their paths; on wish without the first view."""
    found = _added.get(page, {})
    return found if view else {path: Added(added.tag, added.head) for path, added in found.items()}


def _head() -> str:
    """The script of the language, with the words that the page's scripts need in another one."""
    known = {text: language.say(text) for text in language.in_scripts()}
    words = json.dumps({text: said for text, said in known.items() if said != text}, ensure_ascii=False)
    script = (assets() / "page" / "language.js").read_text(encoding="utf-8")
    return f"<script>window.labWords = {_inside_script(words)};</script><script>{script}</script>"


def _markup(stage: dict[str, Any]) -> str:
    data = _inside_script(json.dumps(stage, ensure_ascii=False))
    script = (assets() / "page" / "stage.js").read_text(encoding="utf-8")
    return (
        f'<style>{theme.css()}</style><div id="lab-first" hidden><div><header>{BRAND}</header>{stage_html()}</div>'
        f'<script type="application/json">{data}</script></div><script>{script}</script>'
    )


def _inside_script(data: str) -> str:
    """JSON that cannot end the script it stands in."""
    return data.replace("<", "\\u003c")


class FirstView:
    """An ASGI application before the framework's, which adds to the pages that are served at the paths of `pages`."""

    def __init__(self, app: ASGIApp, *, pages: Mapping[str, Added]) -> None:
        self.app, self.pages = app, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        added = self.pages.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        if added is None and scope.get("method") == "GET" and scope["path"].rstrip("/") in self.pages:
            await _without_slash(scope)(scope, receive, send)
            return
        if added is None:
            await self.app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def sending(message: Message) -> None:
            """The whole page at once, with what is added; anything that is no page goes through unchanged."""
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            page = added.to(bytes(body))
            await send({**start, "headers": _lengthened(start, len(page))})
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, sending)


def _without_slash(scope: Scope) -> RedirectResponse:
    """From `zh/` to `zh`, whatever stands before it: the page names its files by where it is itself."""
    asked = "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
    return RedirectResponse(f"../{scope['path'].strip('/')}{asked}")


def _lengthened(start: Message, length: int) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in start.get("headers", []) if name.lower() != b"content-length"]
    return [*kept, (b"content-length", str(length).encode())]
