"""Launch the page with its style and its own files, without connecting to other machines."""

from __future__ import annotations

import functools
import gzip
import hashlib
import hmac
import importlib.util
import inspect
import mimetypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

# Before Gradio is imported: it checks for updates and sends analytics unless disabled.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Gradio stores the last 10,000 calls for its monitoring page (disabled here), and summarises them after every call.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000")

from neftune_core.ui.server.stub_files import without_stub_files

with without_stub_files():
    import gradio as gr
from gradio.routes import App
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neftune_core.home import assets
from neftune_core.javascript import as_one
from neftune_core.settings import Limits
from neftune_core.ui.server import first_view, framework, theme
from neftune_core.ui.server.addresses import hosts_of
from neftune_core.ui.server.api.mcp import own_tools
from neftune_core.ui.server.calls import EvictedSessions, asked_by, guard
from neftune_core.ui.server.connections import FairQueues, Sessions, limit_header_size, limit_uploads
from neftune_core.ui.server.gate import Gate
from neftune_core.ui.server.uploads import CountedFiles

ENTRY = "page.js"
"""Entry module, served as one script with all modules that it imports."""
SHEET = "framework.css"
"""Name under which Gradio's style sheets are served as one file."""
SMALL_SCRIPTS = "framework.js"
"""Name under which Gradio's small scripts are served as one file."""
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke-linecap="round"
stroke-width="2.4"><path d="M2 14c2.5 0 2.5-6 5-6s2.5 9 5 9 2.5-12 5-12 2.5 9 5 9" stroke="#c2410c"/>
<path d="M2 12h20" stroke="#2962a8"/></svg>"""
FILES = "page-files"
"""URL path of the page's own files; a proxy is unlikely to use the same path for the whole page."""
SESSIONS = 1000
"""Number of most recent sessions for which the server keeps the state."""
SWITCH_SECONDS = 0.0005
"""Time in seconds after which a computing thread must release the interpreter to a waiting one."""
ONE_YEAR = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Serving:
    """Options for serving the page; the options not listed here are those of `serve.serve`.

    Attributes:
        mcp: Whether to offer the endpoints as tools for agents (Model Context Protocol).
    """

    host: str | None = None
    port: int | None = None
    share: bool = False
    password: str | None = None
    root_path: str | None = None
    open_browser: bool = False
    mcp: bool = False


def launch(page: gr.Blocks, serving: Serving, limits: Limits, routes: Sequence[Route] = ()) -> str:
    """Serve a page in the background; `page.block_thread()` waits until it ends.

    Args:
        page: The built page.
        serving: Options for serving it.
        limits: Limits of the server.
        routes: Routes in addition to the page and its files.

    Returns:
        The URL.

    Raises:
        InvalidSetting: If a name in `NEFTUNE_HOSTS` is malformed.
    """
    options, evicted = launch_options(page, serving, limits, routes), EvictedSessions()
    sessions = Sessions(evicted, SESSIONS)
    guard(page, limits, evicted, sessions.note)
    reduce_call_latency()
    limit_header_size()
    limit_uploads()
    cache_signatures(page)
    page.queue(api_open=False)
    page._queue.event_queue_per_concurrency_id = FairQueues(lambda event: asked_by(event.request))
    hosts = hosts_of(serving.host, serving.root_path, share=serving.share)
    gate = Middleware(Gate, page=page, limits=limits, hosts=hosts)
    # Gradio must not print to standard output: programs that start the lab read its URL from the first line.
    with outermost_middleware(gate), own_tools(), redirect_stdout(sys.stderr):
        _, address, shared = page.launch(**options, prevent_thread_lock=True, quiet=True)
    sessions.put_in(page)
    return shared or address


@contextmanager
def outermost_middleware(middleware: Middleware) -> Iterator[None]:
    """Place `middleware` before Gradio's own in every application that is created inside the block.

    Gradio places its CORS middleware, which allows every origin, before those passed to `launch`.
    """
    create = App.create_app

    def create_app(*given: Any, **named: Any) -> App:
        """Create the application with `middleware` outermost.

        Args:
            *given: As for `App.create_app`.
            **named: As for `App.create_app`.

        Returns:
            The application.
        """
        app = create(*given, **named)
        app.user_middleware.insert(0, middleware)
        return app

    App.create_app = staticmethod(create_app)  # type: ignore[method-assign]
    try:
        yield
    finally:
        App.create_app = staticmethod(create)  # type: ignore[method-assign]


def reduce_call_latency() -> None:
    """Shorten the switch interval of the interpreter, and avoid searching for Matplotlib in every call.

    By default a computing thread can delay the thread that answers visitors by 5 ms, many times per call. Gradio also
    tries to import Matplotlib twice per call, which searches the disk if it is not installed.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    if importlib.util.find_spec("matplotlib") is None:
        sys.modules["matplotlib"] = None  # type: ignore[assignment]


def cache_signatures(page: gr.Blocks) -> None:
    """Cache the signatures of component classes, which Gradio would otherwise compute for every visitor."""
    for made in {type(block).__init__ for block in page.blocks.values()}:
        vars(made).setdefault("__signature__", inspect.signature(made))


def launch_options(page: gr.Blocks, serving: Serving, limits: Limits, routes: Sequence[Route] = ()) -> dict[str, Any]:
    """Build the arguments of Gradio's `launch`.

    Args:
        page: The built page.
        serving: Options for serving it.
        limits: Limits of the server.
        routes: Routes in addition to the page and its files.

    Returns:
        The keyword arguments.
    """
    # With a password, the login form is shown first.
    pages = first_view.of(page, head=head(), view=not serving.password)
    view = Middleware(first_view.FirstView, pages=pages, cached=not serving.password)
    files = Middleware(CountedFiles, limits=limits)
    components = frozenset(one.get_block_name() for one in page.blocks.values())
    serve_file = functools.partial(_page_file, components=components)
    return {
        "server_name": serving.host,
        "server_port": serving.port,
        "share": serving.share,
        "auth": functools.partial(_is_correct, serving.password) if serving.password else None,
        "root_path": serving.root_path,
        "inbrowser": serving.open_browser,
        "theme": theme.theme(),
        "css": theme.css(),
        "head": script(),
        "app_kwargs": {
            "routes": [
                Route(f"/{FILES}/{{version}}/{{name}}", serve_file),
                *(Route(f"/assets/{name}", patched_script) for name in framework.patched_scripts()),
                *routes,
            ],
            "middleware": [files, view],
        },
        "max_file_size": f"{limits.upload_megabytes}mb",
        "footer_links": ["api"],
        "mcp_server": serving.mcp,
        "state_session_capacity": SESSIONS,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
    }


def _is_correct(password: str, _: str, given: str) -> bool:
    return hmac.compare_digest(password.encode(), given.encode(errors="replace"))


def head() -> str:
    """Return the elements of the page's head that load the icon, Gradio's combined files and the page's script.

    Gradio's scripts load each of about fifty style sheets to which the page has no link. Disabled links, which browsers
    do not fetch, avoid these requests.
    """
    folder = f"{FILES}/{version()}"
    known = "".join(f'<link rel="stylesheet" href="{url}" disabled>' for url in framework.sheets())
    icon = f'<link rel="icon" href="data:image/svg+xml,{quote(ICON)}">'
    sheet = f'<link rel="stylesheet" href="{folder}/{SHEET}">'
    # The import map in this script must come before the first module: older browsers ignore a later one.
    small = f'<script src="{folder}/{SMALL_SCRIPTS}"></script>'
    return f'{icon}{sheet}{known}{small}<link rel="modulepreload" href="{folder}/{ENTRY}">'


def script() -> str:
    """Return the page's script element, which Gradio adds after it has set the page's theme and language."""
    return f'<script type="module" src="{FILES}/{version()}/{ENTRY}"></script>'


@functools.cache
def files() -> Mapping[str, Path]:
    """Return the files served under `FILES`, by name: the page's own files, and Plotly from the installed package."""
    own = {path.name: path for path in sorted((assets() / "page").iterdir()) if path.suffix in (".js", ".svg")}
    found = importlib.util.find_spec("plotly")  # located, not imported: importing takes a second
    assert found is not None and found.origin is not None, "plotly is a dependency"
    return {**own, "plotly.min.js": Path(found.origin).parent / "package_data" / "plotly.min.js"}


@functools.cache
def version() -> str:
    """Return a short hash of everything under `FILES`."""
    fingerprint = hashlib.sha256()
    for name, path in [*files().items(), *framework.sheets().items()]:
        about = path.stat()
        fingerprint.update(f"{name} {about.st_size} {about.st_mtime_ns}".encode())
    return fingerprint.hexdigest()[:12]


@functools.cache
def _content(name: str, components: frozenset[str]) -> bytes:
    """Return the content of a file by name; the entry and Gradio's files are combined from several."""
    if name == SHEET:
        return framework.one_sheet().encode()
    if name == SMALL_SCRIPTS:
        return framework.one_script(components).encode()
    if mended := framework.patched_scripts().get(name):
        return mended.encode()
    return as_one(f"page/{ENTRY}").encode() if name == ENTRY else files()[name].read_bytes()


@functools.cache
def _compressed(name: str, components: frozenset[str]) -> bytes:
    """Return a compressed file from the cache; compressing it for every visitor would take 0.1 s of CPU time each."""
    return gzip.compress(_content(name, components), compresslevel=9, mtime=0)


def _page_file(request: Request, components: frozenset[str]) -> Response:
    """Serve one of `files()`, or a combined file of Gradio.

    The names of the page's components determine the combined scripts. Unknown names give status 404.
    """
    name = request.path_params["name"]
    if name != SHEET and name not in files():
        return Response(status_code=404)
    return _served(request, name, components, ONE_YEAR if request.path_params["version"] == version() else "no-cache")


def patched_script(request: Request) -> Response:
    """Serve one of `framework.patched_scripts()` in place of Gradio's own."""
    return _served(request, request.url.path.rpartition("/")[2], frozenset(), ONE_YEAR)


def _served(request: Request, name: str, components: frozenset[str], cached: str) -> Response:
    headers = {"Cache-Control": cached}
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return Response(_compressed(name, components), media_type=kind, headers=headers)
    return Response(_content(name, components), media_type=kind, headers=headers)
