"""Add the language and a first view to the served HTML.

Gradio builds its page in the browser, which takes seconds on a slow machine. The first view is visible before that.
Once the Learn tab is mounted, it reuses the node of the first view (assets/page/stage.js).
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neftune_core import language
from neftune_core.home import assets
from neftune_core.javascript import as_one
from neftune_core.ui.parts.markup import page_html
from neftune_core.ui.parts.recorded_study import RecordedStudy
from neftune_core.ui.server import theme
from neftune_core.ui.server.gate import NONCE
from neftune_core.ui.server.recent import Recent

HEAD_BEGINS = re.compile(rb"<head[^>]*>")
BODY_ENDS = b"</body>"
CONFIG = "/config"
ADDRESS_HEADERS = (b"host", b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server")
"""The headers that Gradio uses to build the URLs in its pages."""
KEPT_ANSWERS = 16
GZIP_LEVEL = 4
"""Gzip level for pages: 700 kB become 120 kB in 7 ms."""
SCRIPT = re.compile(rb"<script\b(.*?</script>)", re.DOTALL)
FRAMEWORKS_LANGUAGE = b'lang="en"'
FRAMEWORKS_SHEET = b'<link rel="stylesheet" crossorigin'


@dataclass(frozen=True)
class PageAdditions:
    """Additions to a served page.

    Attributes:
        tag: Language tag of the page.
        head: HTML for the start of the head.
        view: HTML for the end of the body.
    """

    tag: bytes
    head: bytes
    view: bytes = b""

    def to(self, page: bytes) -> bytes:
        """Return the page with all additions; content without a closing body tag is unchanged."""
        before, end, after = page.rpartition(BODY_ENDS)
        if not end:
            return page
        whole = before + self.view + end + after
        whole = whole.replace(FRAMEWORKS_LANGUAGE, b'lang="' + self.tag + b'"', 1)
        whole = whole.replace(FRAMEWORKS_SHEET, FRAMEWORKS_SHEET + b" disabled", 1)  # `head` has this sheet
        return HEAD_BEGINS.sub(lambda found: found[0] + self.head, whole, count=1)


_additions: WeakKeyDictionary[gr.Blocks, dict[str, PageAdditions]] = WeakKeyDictionary()


def put(page: gr.Blocks, shown: RecordedStudy | None) -> None:
    """Register the additions for the path of `page` that is being built, in the current language.

    Args:
        page: The page that is being built.
        shown: Recorded study of the first view; None for no first view.
    """
    view = _markup(shown.stage).encode() if shown is not None else b""
    tag = language.TAGS[language.current()].encode()
    _additions.setdefault(page, {})[f"/{page.current_page}"] = PageAdditions(tag, _head().encode(), view)


def of(page: gr.Blocks, *, head: str = "", view: bool = True) -> Mapping[str, PageAdditions]:
    """Return the additions by path.

    Args:
        page: The built page.
        head: HTML to add to the head of every page after the language script.
        view: Whether to include the first view.

    Returns:
        The additions.
    """
    found = _additions.get(page, {}).items()
    return {path: PageAdditions(one.tag, one.head + head.encode(), one.view if view else b"") for path, one in found}


def _head() -> str:
    """Return the language script with the translations that the page's scripts need."""
    known = {text: language.say(text) for text in language.in_scripts()}
    words = json.dumps({text: said for text, said in known.items() if said != text}, ensure_ascii=False)
    script = (assets() / "page" / "language.js").read_text(encoding="utf-8")
    return f"<script>window.labWords = {_inside_script(words)};</script><script>{script}</script>"


def _markup(stage: dict[str, Any]) -> str:
    data = _inside_script(json.dumps(stage, ensure_ascii=False))
    view = f"<div><header>{page_html('brand')}</header>{page_html('stage')}</div>"
    return (
        f'<style>{theme.css()}</style><div id="lab-first" hidden>{view}'
        f'<script type="application/json">{data}</script></div><script>{as_one("page/first.js")}</script>'
    )


def _inside_script(data: str) -> str:
    """Escape JSON so that it cannot close the script element around it."""
    return data.replace("<", "\\u003c")


Key = tuple[str, str, tuple[bytes, ...]]


class FirstView:
    """ASGI middleware that inserts additions into pages, and caches the pages and their configuration.

    Gradio copies the configuration of the whole page for every request. Without a cookie, the response depends only on
    the requested URL.

    Args:
        app: The application.
        pages: Additions by path.
        cached: Whether responses are cached; False if they depend on the visitor.
    """

    def __init__(self, app: ASGIApp, *, pages: Mapping[str, PageAdditions], cached: bool = True) -> None:
        self.app, self.pages, self.cached = app, pages, cached
        self._kept: Recent[tuple[Message, bytes]] = Recent(KEPT_ANSWERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        path = scope["path"] if read else ""
        if read and path not in self.pages and path.rstrip("/") in self.pages:
            await _without_slash(scope)(scope, receive, send)
        elif path in self.pages or path == CONFIG:
            await self._send(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._normalised(scope)
        key = self._key(asked)
        found = self._kept.get(key) if key else None
        if found is None:
            found = await self._respond(asked, receive)
            if key and _is_cacheable(found[0]):
                self._kept[key] = found
        start, body = found
        headers = MutableHeaders(raw=list(start.get("headers", [])))
        if scope["path"] in self.pages:
            if NONCE in scope:  # of the content security policy
                body = SCRIPT.sub(rb'<script nonce="%b"\1' % scope[NONCE].encode(), body)
            accepted = dict(scope.get("headers", ())).get(b"accept-encoding", b"")
            if b"gzip" in accepted and "content-encoding" not in headers:
                body = gzip.compress(body, GZIP_LEVEL, mtime=0)  # for each response, since its nonce differs
                headers["content-encoding"] = "gzip"
                headers.add_vary_header("accept-encoding")
        headers["content-length"] = str(len(body))
        await send({**start, "headers": headers.raw})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _normalised(self, scope: Scope) -> Scope:
        """Return the request to pass on, without query parameters that do not affect the response."""
        page = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("page", [""])[0]
        named = scope["path"] == CONFIG and f"/{page}" in self.pages
        return {**scope, "method": "GET", "query_string": f"page={page}".encode() if named else b""}

    def _key(self, scope: Scope) -> Key | None:
        headers = dict(scope.get("headers", ()))
        if not self.cached or b"cookie" in headers or b"authorization" in headers:
            return None
        address = tuple(headers.get(name, b"") for name in ADDRESS_HEADERS)
        return scope["path"], scope["query_string"].decode("latin-1"), (scope.get("scheme", "").encode(), *address)

    async def _respond(self, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        """Return the start of the response and its body, with the additions if it is a page."""
        start: Message = {}
        body = bytearray()

        async def sending(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            body.extend(message.get("body", b""))

        await self.app(scope, receive, sending)
        additions = self.pages.get(scope["path"])
        return start, additions.to(bytes(body)) if additions else bytes(body)


def _is_cacheable(start: Message) -> bool:
    """Return whether a response succeeded and sets no cookie, so that it can be cached."""
    names = {name.lower() for name, _ in start.get("headers", [])}
    return start["status"] == 200 and b"set-cookie" not in names


def _without_slash(scope: Scope) -> RedirectResponse:
    """Redirect `zh/` to `zh`, since the page's file URLs are relative to its own path."""
    asked = "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
    return RedirectResponse(f"../{scope['path'].strip('/')}{asked}")
