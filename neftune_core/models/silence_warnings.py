"""Keeping transformers from surprising: what it prints while the lab works, and what it is while it is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    """No progress bars and no advice from transformers inside; its errors are raised as ever."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def import_transformers() -> None:
    """Wait until the package is there, if another thread is importing it.

    At the end of its import it puts another module in its own place. A thread whose `from transformers import ...`
    waits for that end goes on with the first one, which has none of the names; the next statement finds the second.
    """
    import transformers  # noqa: F401
