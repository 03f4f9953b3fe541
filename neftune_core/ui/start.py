"""From nothing to a served page, with the heavy packages loaded behind it."""

from __future__ import annotations

import logging
import threading

from neftune_core.errors import sentence
from neftune_core.settings import Limits
from neftune_core.ui import page
from neftune_core.models.settings import ModelSettings
from neftune_core.ui.previews import FIRST_SENTENCE, FirstPreview
from neftune_core.ui.serve import Serving, serve

logger = logging.getLogger(__name__)


def main(serving: Serving = Serving(), limits: Limits = Limits()) -> None:
    """Serve the lab until it is ended."""
    first = FirstPreview()
    blocks = page.build(first)
    address = serve(blocks, serving, limits=limits)
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
