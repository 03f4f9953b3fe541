"""The first view in the served page: inserted once, completely, and only there."""

from __future__ import annotations

import gzip
from typing import Any

import gradio as gr
import pytest
from own_loop import in_own_loop

from neftune_core.ui.parts.recorded_study import read_recorded_study
from neftune_core.ui.server import first_view
from neftune_core.ui.server.gate import NONCE
from neftune_core.ui.server.lab import Lab

VIEW = b"<div>view</div>"
PAGES = {
    "/": first_view.PageAdditions(b"en", b"<script>1</script>", VIEW),
    "/zh": first_view.PageAdditions(b"zh-CN", b"<script>2</script>", VIEW),
}


async def empty_page() -> gr.Blocks:
    """Return an empty page; the framework needs a running event loop to create it."""
    with gr.Blocks(analytics_enabled=False) as page:
        pass
    return page


def answered(
    body: list[bytes], path: str = "/", method: str = "GET", nonce: str = "", encoding: bytes = b""
) -> tuple[dict[bytes, bytes], bytes]:
    """Return the response of an application that sends `body` in this many pieces."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = str(sum(map(len, body))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", length)]})
        for place, piece in enumerate(body):
            await send({"type": "http.response.body", "body": piece, "more_body": place < len(body) - 1})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        scope = {"type": "http", "method": method, "path": path, **({NONCE: nonce} if nonce else {})}
        scope["headers"] = [(b"accept-encoding", encoding)] if encoding else []
        await first_view.FirstView(app, pages=PAGES)(scope, None, send)  # type: ignore[arg-type]

    in_own_loop(ask)
    headers = {name.lower(): value for name, value in sent[0]["headers"]}
    return headers, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("body", [[b"<body>a</body></html>"], [b"<body>a</bo", b"dy></html>"]])
def test_the_view_is_the_last_thing_in_the_page_and_its_length_is_sent(body: list[bytes]) -> None:
    headers, page = answered(body)
    assert page == b"<body>a" + VIEW + b"</body></html>"
    assert headers[b"content-length"] == str(len(page)).encode()


def test_a_page_is_sent_compressed_to_whoever_reads_that_and_plain_to_others() -> None:
    body = b"<head></head><body>" + 1000 * b"words " + b"</body>"
    headers, packed = answered([body], encoding=b"br, gzip")
    plain_headers, plain = answered([body])
    assert gzip.decompress(packed) == plain
    assert (headers[b"content-encoding"], headers[b"vary"]) == (b"gzip", b"accept-encoding")
    assert headers[b"content-length"] == str(len(packed)).encode()
    assert len(packed) < len(plain) / 4
    assert b"content-encoding" not in plain_headers


def test_the_frameworks_own_sheet_is_not_fetched_again_beside_the_one_of_all_sheets() -> None:
    page = b'<head><link rel="stylesheet" crossorigin href="./assets/index-1.css"></head><body></body>'
    assert b'crossorigin disabled href="./assets/index-1.css">' in answered([page])[1]


def test_every_page_declares_its_language_and_has_its_script_before_all_others() -> None:
    page = b'<html lang="en"><head id="head"><script>0</script></head><body></body></html>'
    chinese = answered([page], "/zh")[1]
    assert chinese.startswith(b'<html lang="zh-CN"><head id="head"><script>2</script><script>0</script></head>')
    assert answered([page])[1].startswith(b'<html lang="en"><head id="head"><script>1</script>')


def test_every_script_of_the_page_has_the_nonce_of_its_policy_and_no_text_is_changed() -> None:
    page = b'<head><script>a = "<script>";</script><script\n src="x"></script></head><body></body>'
    assert answered([page], nonce="N")[1] == (
        b'<head><script nonce="N">1</script><script nonce="N">a = "<script>";</script>'
        b'<script nonce="N"\n src="x"></script></head><body>' + VIEW + b"</body>"
    )


def test_pages_are_made_once_for_an_address_and_anew_for_a_visitor_with_a_cookie() -> None:
    made: list[tuple[str, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        made.append((scope["path"], scope["query_string"]))
        status = 200 if scope["path"] != "/zh" else 500
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": f"<body>{len(made)}</body>".encode()})

    view = first_view.FirstView(app, pages=PAGES)

    def ask(path: str = "/", query: bytes = b"", method: str = "GET", **headers: str) -> bytes:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": pairs}
        in_own_loop(lambda: view(scope, None, send))  # type: ignore[arg-type]
        return b"".join(message.get("body", b"") for message in sent[1:])

    assert ask() == ask(query=b"job=1&deep_link=x") == b"<body>1" + VIEW + b"</body>"
    assert ask(method="HEAD") == b""
    assert len(made) == 1
    assert ask(host="lab.example.org") != ask(cookie="access-token=1")
    assert ask("/zh") != ask("/zh")  # which failed
    assert ask("/config", b"page=zh") == ask("/config", b"x=1&page=zh") != ask("/config", b"page=other")
    assert made[-2:] == [("/config", b"page=zh"), ("/config", b"")]


@pytest.mark.parametrize(
    ("body", "path", "method"), [(b"{}", "/", "GET"), (b"</body>", "/other", "GET"), (b"</body>", "/", "POST")]
)
def test_what_is_not_the_page_goes_through_unchanged(body: bytes, path: str, method: str) -> None:
    assert answered([body], path, method)[1] == body


def test_no_text_of_a_record_can_end_the_script_that_it_stands_in() -> None:
    shown = read_recorded_study(Lab())
    assert shown is not None
    shown.stage["about"] = "</script><img src=x>"
    page = in_own_loop(empty_page)
    assert first_view.of(page) == {}
    first_view.put(page, shown)
    markup = first_view.of(page)["/"].view.decode()
    assert "<img" not in markup
    assert "\\u003c/script>\\u003cimg src=x>" in markup
