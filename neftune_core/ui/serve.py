"""From nothing to a served page, with the heavy packages loaded behind it."""

from __future__ import annotations

import logging
import os
import threading

from neftune_core.errors import sentence
from neftune_core.models.settings import ModelSettings
from neftune_core.settings import Limits, from_query
from neftune_core.ui.launch import Serving, launch  # first: it tells gradio, before its import, to call nobody
from neftune_core.ui.logs import log_to_file
from neftune_core.ui.previews import FIRST_SENTENCE, FirstPreview
from neftune_core.ui.uploads import keep_uploads_at_home

logger = logging.getLogger(__name__)

LIMIT = "neftune_limit_"


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
    """Serve the lab until it is ended, saying where; `None` leaves a choice to `launch.Serving` and `host_limits`."""
    from neftune_core.models.sources import close_this_machine
    from neftune_core.ui import page
    from neftune_core.ui.lab import Lab

    log_to_file()
    keep_uploads_at_home()
    lab, first = Lab(limits or host_limits()), FirstPreview()
    if not lab.limits.local_paths:
        close_this_machine()
    blocks = page.build(lab, first)
    address = launch(blocks, Serving(host, port, share, password, root_path, open_browser), lab.limits)
    print(f"NEFTune Lab is open at {address}", flush=True)
    threading.Thread(target=_warm_up, args=(first,), name="warm-up", daemon=True).start()
    blocks.block_thread()


def host_limits() -> Limits:
    """What this host allows: on a public one (`NEFTUNE_PUBLIC`, or a Space) visitors name no files of the machine.

    Every limit can be said in the environment, as in `NEFTUNE_LIMIT_RECORD_DAYS=7`.
    """
    said = os.environ.get("NEFTUNE_PUBLIC", "1" if "SPACE_ID" in os.environ else "0")
    private = said.strip().lower() in ("", "0", "no", "false")
    given = {name.lower(): value for name, value in os.environ.items() if name.startswith(LIMIT.upper())}
    named = {name.removeprefix(LIMIT): value for name, value in given.items()}
    return from_query(Limits, {"local_paths": str(private), **named})


def _warm_up(first: FirstPreview) -> None:
    """Load the bundled model before somebody waits for it."""
    try:
        first.previewer(FIRST_SENTENCE, ModelSettings(), 0)
        first.get()
    except Exception as error:
        logger.warning("the bundled model could not be loaded: %s", sentence(error))
