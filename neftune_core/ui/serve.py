"""From nothing to a served page, with the heavy packages loaded behind it."""

from __future__ import annotations

import logging
import threading

from neftune_core.errors import sentence
from neftune_core.models.settings import ModelSettings
from neftune_core.settings import Limits
from neftune_core.ui.launch import Serving, launch  # first: it tells gradio, before its import, to call nobody
from neftune_core.ui.previews import FIRST_SENTENCE, FirstPreview

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
    """Serve the lab until it is ended, saying where; `None` leaves a choice to `launch.Serving`."""
    from neftune_core.ui import page
    from neftune_core.ui.lab import Lab

    lab, first = Lab(limits or Limits()), FirstPreview()
    blocks = page.build(lab, first)
    address = launch(blocks, Serving(host, port, share, password, root_path, open_browser), lab.limits)
    print(f"NEFTune Lab is open at {address}", flush=True)
    threading.Thread(target=_warm_up, args=(first,), name="warm-up", daemon=True).start()
    blocks.block_thread()


def _warm_up(first: FirstPreview) -> None:
    """Load the bundled model before somebody waits for it."""
    try:
        first.previewer(FIRST_SENTENCE, ModelSettings(), 0)
        first.get()
    except Exception as error:
        logger.warning("the bundled model could not be loaded: %s", sentence(error))
