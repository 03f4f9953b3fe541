"""The one translator from any exception to a sentence for a person, in the language of the page."""

from __future__ import annotations

import errno
import logging

from neftune_core.errors import Cancelled, LabError
from neftune_core.language import say

logger = logging.getLogger(__name__)

# What torch says on its devices: CUDA and Apple's, the processor on Linux and on Windows.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
# How safetensors tells of a full disk, on Linux and macOS, and on Windows.
DISK_FULL = ("os error 28", "os error 112")


def sentence(error: BaseException) -> str:
    """The one sentence to show for any exception; faults of the lab are logged with their traceback."""
    if isinstance(error, LabError | Cancelled):
        return str(error) or say("Stopped as asked.")
    if is_out_of_memory(error):
        return say(
            "The memory of this machine ran out: choose arms in turn, a smaller batch, a shorter length or fewer arms, "
            "and start again."
        )
    if is_disk_full(error):
        return say("The disk is full: free some space (or clean the cache), and start again.")
    if isinstance(error, OSError) and error.errno in (13, 30):
        path = str(error.filename)[-120:]
        return say("The file or folder {path!r} may not be written here: choose another place.", path=path)
    logger.error("unexpected error", exc_info=error)
    fault = type(error).__name__
    return say("Something in the lab itself went wrong ({fault}); the log has the details.", fault=fault)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory, also in the words of torch."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no room to write, also in the words of a library that writes in another language."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno) in ("ENOSPC", "EDQUOT")
    return any(words in str(error).lower() for words in DISK_FULL)
