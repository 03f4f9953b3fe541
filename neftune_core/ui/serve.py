"""From nothing to a served page, with the heavy packages loaded behind it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from neftune_core.home import home_note
from neftune_core.models.settings import ModelSettings
from neftune_core.models.threads import prepare_waiting
from neftune_core.sentences import sentence
from neftune_core.settings import Limits
from neftune_core.space import zero
from neftune_core.space.profiles import hosted
from neftune_core.ui.launch import Serving, launch  # first: it tells gradio, before its import, to call nobody
from neftune_core.ui.logs import log_to_file
from neftune_core.ui.previews import FIRST_SENTENCE, FirstPreview
from neftune_core.ui.uploads import keep_uploads_at_home

logger = logging.getLogger(__name__)


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
    """Serve the lab until it is ended, saying where; what is `None` is as `Serving` and `profiles.hosted` say.

    A study that is under way as it ends stops with a checkpoint.
    """
    prepare_waiting()
    here = hosted()
    gpu = zero.enter() if here.profile.gpu_in_request else None  # before torch, which the modules below may bring
    from neftune_core.models.sources import allow_only, close_this_machine
    from neftune_core.ui import page
    from neftune_core.ui.lab import Lab

    log_to_file()
    keep_uploads_at_home()
    lab, first = Lab(limits, host=here, gpu=gpu), FirstPreview()
    if not lab.limits.local_paths:
        close_this_machine()
    if here.models is not None:
        allow_only(here.models)
    blocks = page.build(lab, first)
    address = launch(blocks, Serving(host, port, share, password, root_path, open_browser), lab.limits)
    print(f"NEFTune Lab is open at {address}", flush=True)
    if home_note():
        print(home_note(), file=sys.stderr, flush=True)
    threading.Thread(target=_warm_up, args=(first,), name="warm-up", daemon=True).start()
    with _ended_by_the_system():
        try:
            blocks.block_thread()
        finally:
            lab.close()


@contextmanager
def _ended_by_the_system() -> Iterator[None]:
    """Let SIGTERM end the block by `SystemExit`, with the status that a shell gives for it; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _warm_up(first: FirstPreview) -> None:
    """Load the bundled model before somebody waits for it."""
    try:
        first.previewer(FIRST_SENTENCE, ModelSettings(), 0)
        first.get()
    except Exception as error:
        logger.warning("the bundled model could not be loaded: %s", sentence(error))
