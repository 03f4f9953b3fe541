"""Start the server quickly, and load large packages in the background."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

from neftune_core.data.formats.sandboxed_reader import is_secret
from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.home import home, home_note
from neftune_core.models.settings import ModelSettings
from neftune_core.models.threads import prepare_waiting
from neftune_core.sentences import sentence
from neftune_core.settings import Limits
from neftune_core.space import zero_gpu
from neftune_core.space.profiles import HostProfile, host_profile
from neftune_core.ui.server.connections import allow_many_files

if TYPE_CHECKING:
    import gradio as gr

    from neftune_core.ui.server.lab import Lab
    from neftune_core.ui.server.launch import Serving
    from neftune_core.ui.server.previews import FirstPreview

logger = logging.getLogger(__name__)

CANNOT_START = 2
"""Exit status if the server cannot start, for example because of an invalid setting."""
FIRST_PORT = 7860
LONGEST_END_SECONDS = 9.0
"""Seconds after SIGTERM at which the process ends even if threads still run; many systems kill it after ten."""
LARGEST_BYTES = 5_000_000
LONGEST_ENTRY = 20_000
SHORTEST_SECRET = 8
_SECRETS = re.compile(
    r"\b[0-9a-f]{64}\b|\b(?:hf|api_org|sk|pk|ghp|gho|ghs|github_pat|glpat|xox[abprs]|npm)[_\-][\w\-]{16,}|\bAKIA[0-9A-Z]{16}\b|"
    r"(?<=[Bb]earer )[\w.\-~+/=]{8,}|(?<=://)[^\s/:@]*:[^\s/@]+(?=@)|"
    r"(?<=key=)[^\s&\"']{8,}|(?<=token=)[^\s&\"']{8,}|(?<=password=)[^\s&\"']+"
)
"""Secrets in log messages: visitors' keys, API keys and tokens with common prefixes, and passwords in URLs."""


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
    password: str | None = None,
    root_path: str | None = None,
    open_browser: bool = False,
    limits: Limits | None = None,
) -> None:
    """Serve the lab until the process ends, and print its URL.

    A study that is running when the process ends is stopped with a checkpoint.

    Args:
        host: Listening address, as in `listening`.
        port: Port, as in `listening`.
        share: Whether to use Gradio's tunnel.
        password: Password for visitors; None for none.
        root_path: URL path under which a proxy serves the page.
        open_browser: Whether to open the page in a browser.
        limits: Limits of the server; the profile's limits if None.

    Raises:
        SystemExit: With status 2, after printing the error, if the server cannot start.
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    try:
        server = host_profile()
        prepare_waiting()
        home()
        allow_many_files()
        listens, number = listening(host, port)
        lab, first, blocks = _build_page(server, limits, shared=share and password is None)
        from neftune_core.ui.server.api.mcp import is_offered
        from neftune_core.ui.server.launch import Serving

        tools = is_offered(server.mcp, public=share or not lab.limits.local_paths, password=password is not None)
        serving = Serving(listens, number, share, password, root_path, open_browser, mcp=tools)
        address = _launch(blocks, serving, lab)
    except Exception as error:
        print(sentence(error), file=sys.stderr)
        raise SystemExit(CANNOT_START) from None
    print(f"NEFTune Lab is open at {address}", flush=True)
    if home_note():
        print(home_note(), file=sys.stderr, flush=True)
    threading.Thread(target=_warm_up, args=(first,), name="warm-up", daemon=True).start()
    with _end_on_sigterm():
        try:
            blocks.block_thread()
        finally:
            lab.close()


def listening(host: str | None, port: int | None) -> tuple[str | None, int | None]:
    """Resolve the listening address and port, reading `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT`.

    Args:
        host: The address, or None.
        port: The port, or None.

    Returns:
        Address and port; None leaves the choice to Gradio (the loopback interface, and the first free port from 7860).

    Raises:
        InvalidSetting: If the port is not valid.
        NotAvailable: If the port is in use, or the address does not belong to this machine.
    """
    text = os.environ.get("GRADIO_SERVER_PORT", "").strip()
    if not text:
        os.environ.pop("GRADIO_SERVER_PORT", None)  # otherwise Gradio parses it as a number on import
    elif not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise InvalidSetting(f"GRADIO_SERVER_PORT must be a number from 1 to 65,535 (given {text[:20]!r}).")
    if port is not None and not 0 < port < 65_536:
        raise InvalidSetting(f"A port must be a number from 1 to 65,535 (given {port}).")
    listens = host or os.environ.get("GRADIO_SERVER_NAME", "").strip() or None
    number = port if port is not None else int(text) if text else None
    _try_address((listens or "127.0.0.1").strip("[]"), number)
    return listens, number


def _try_address(host: str, port: int | None) -> None:
    """Raise `NotAvailable` if the address and port cannot be bound."""
    try:
        found = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(found[0], found[1]) as tried:
            if os.name != "nt":
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(found[4])
    except OSError as error:
        reason = {
            errno.EADDRINUSE: f"Port {port} is already in use: stop the program that uses it, or choose another port",
            errno.EACCES: f"This account may not use port {port}: choose a port above 1023",
        }.get(error.errno or 0, f"The lab cannot listen on {host!r}: choose an address of this machine")
        raise NotAvailable(
            f"{reason} (`neftune serve --host` and `--port`, or GRADIO_SERVER_NAME and GRADIO_SERVER_PORT)."
        ) from None


def _build_page(
    server: HostProfile, limits: Limits | None, *, shared: bool = False
) -> tuple[Lab, FirstPreview, gr.Blocks]:
    """Build the lab, the first preview and the page."""
    # Before torch, which the modules below may import.
    gpu = zero_gpu.enter() if server.profile.gpu_in_request else None
    from neftune_core.ui.server import launch  # noqa: F401, I001 - first: turns off gradio's network calls before its import
    from neftune_core.models.sources.resolve import allow_only, forbid_local_paths
    from neftune_core.ui import page
    from neftune_core.ui.server.lab import Lab
    from neftune_core.ui.server.previews import FirstPreview
    from neftune_core.ui.server.uploads import keep_uploads_at_home

    log_to_file()
    keep_uploads_at_home()
    lab, first = Lab(limits, host=server, gpu=gpu, shared=shared), FirstPreview()
    if not lab.limits.local_paths:
        forbid_local_paths()
    allow_only(server.models)
    if gpu is not None:
        gpu.place(_models_at_start())
    return lab, first, page.build(lab, first)


def _models_at_start() -> list[ModelSettings]:
    """Return the models available when a Space starts: the bundled one and, if present, the one in its image."""
    from neftune_core.models.sources.hub_files import is_cached
    from neftune_core.space.folder import PRELOADED
    from neftune_core.space.profiles import pinned_models

    revision = pinned_models()[PRELOADED]
    image = [ModelSettings(source=PRELOADED)] if is_cached(PRELOADED, revision) else []
    return [ModelSettings(), *image]


def _launch(blocks: gr.Blocks, serving: Serving, lab: Lab) -> str:
    from neftune_core.ui.server.launch import launch
    from neftune_core.ui.watching import Studies

    try:
        return launch(blocks, serving, lab.limits, [Studies(lab).route()])
    except OSError as error:
        if "empty port" not in str(error):
            raise
        taken = f"Port {serving.port} is" if serving.port else f"Port {FIRST_PORT} and those after it are"
        raise NotAvailable(f"{taken} already in use: choose another port with `neftune serve --port`.") from None


@contextmanager
def _end_on_sigterm() -> Iterator[None]:
    """On SIGTERM, raise `SystemExit` with the conventional status inside the block; do nothing outside the main thread.

    The process ends after `LONGEST_END_SECONDS`, even if other threads are still running.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        """End the process with the conventional status.

        Args:
            number: Number of the signal.
            frame: The interrupted stack frame; unused.

        Raises:
            SystemExit: Always.
        """
        signal.signal(number, signal.SIG_IGN)
        status = 128 + number
        last = threading.Timer(LONGEST_END_SECONDS, os._exit, (status,))
        last.daemon = True
        last.start()
        raise SystemExit(status)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except SystemExit as error:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(error.code if isinstance(error.code, int) else 0)  # without waiting for threads of visitors' calls
    finally:
        signal.signal(signal.SIGTERM, before)


def _warm_up(first: FirstPreview) -> None:
    """Load the bundled model in advance."""
    from neftune_core.ui.server.previews import FIRST_SENTENCE

    try:
        first.previewer(FIRST_SENTENCE, ModelSettings(), 0)
        first.get()
    except Exception as error:
        logger.warning("the bundled model could not be loaded: %s", sentence(error))


class SecretFilter(logging.Formatter):
    """Log formatter that replaces secrets from the environment, visitors' keys and API keys with "[secret]"."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if len(text) > LONGEST_ENTRY:
            text = f"{text[: LONGEST_ENTRY // 2]}\n[...]\n{text[-LONGEST_ENTRY // 2 :]}"
        text = _SECRETS.sub("[secret]", text)
        for name, value in os.environ.items():
            if is_secret(name) and len(value.strip()) >= SHORTEST_SECRET:
                text = text.replace(value, "[secret]").replace(value.strip(), "[secret]")
        return text


def log_to_file() -> None:
    """Write log messages and warnings of this process to `lab.log` in `home()` instead of the terminal.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    file = RotatingFileHandler(
        home() / "lab.log", maxBytes=LARGEST_BYTES, backupCount=1, delay=True, encoding="utf-8", errors="replace"
    )
    file.setFormatter(SecretFilter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [file]
    own = logging.getLogger("neftune_core")
    own.handlers, own.propagate = [], True
    logging.captureWarnings(True)
