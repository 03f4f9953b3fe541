"""Workarounds for transformers: silence its output, and import it safely from several threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Disable progress bars and warnings of transformers inside the block; errors are still raised."""
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
    """Wait until transformers is fully imported, if another thread is importing it.

    At the end of its import, the package replaces its own module object. A `from transformers import ...` that waits
    for this import continues with the old object, which lacks the names. A later statement finds the new object.
    """
    import transformers  # noqa: F401
