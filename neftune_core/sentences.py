"""Convert exceptions to one sentence for users, in the current language."""

from __future__ import annotations

import errno
import logging

from neftune_core.errors import Cancelled, LabError
from neftune_core.language import later, say

logger = logging.getLogger(__name__)

# Parts of torch's out-of-memory messages for CUDA GPUs, Apple GPUs, and CPUs under Linux and Windows.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
# Parts of safetensors' messages for a full disk, on Linux and macOS, and on Windows.
DISK_FULL = ("os error 28", "os error 112")


def sentence(error: BaseException) -> str:
    """Return the sentence to show for an exception; unexpected exceptions are logged with their traceback."""
    if isinstance(error, LabError | Cancelled):
        return str(error) or say("Stopped on request.")
    if is_out_of_memory(error):
        return say(
            "This machine ran out of memory: train the arms one at a time, or choose a smaller batch, a shorter length "
            "or fewer arms, and start again."
        )
    if is_disk_full(error):
        return say("The disk is full: free some space, for example by removing downloaded models, and start again.")
    if isinstance(error, OSError) and error.errno in CAUSES and error.filename:
        logger.warning("a file cannot be used", exc_info=error)
        path = str(error.filename)
        return say("The file or folder {path} cannot be used: {reason}.", path=path, reason=cause(error))
    logger.error("unexpected error", exc_info=error)
    return say("An internal error occurred; the log has the details.")


CAUSES = {
    errno.EACCES: later("permission is denied"),
    errno.EPERM: later("permission is denied"),
    errno.EROFS: later("its disk is read-only"),
    errno.ENOENT: later("it does not exist"),
    errno.ENOTDIR: later("part of its path is not a folder"),
    errno.EISDIR: later("it is a folder, not a file"),
    errno.EIO: later("its disk reported an error"),
    errno.ENAMETOOLONG: later("its name is too long"),
    errno.EMFILE: later("too many files are open"),
}
"""Reasons why a file cannot be used, by `errno`."""
LONGEST_CAUSE = 200


def cause(error: BaseException) -> str:
    """Return the reason for a failure in a few words without a full stop, for use inside a sentence.

    Returns:
        The translated reason if known, otherwise the first line of the error message.
    """
    if isinstance(error, OSError) and error.errno in CAUSES:
        return say(CAUSES[error.errno])
    if isinstance(error, UnicodeDecodeError):
        return say("it is not text in UTF-8")
    if isinstance(error, AttributeError | TypeError):  # their messages contain names of Python classes
        logger.warning("something does not have the expected structure", exc_info=error)
        return say("it does not have the expected structure")
    message = getattr(error, "strerror", None) or str(error)
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    return lines[0][:LONGEST_CAUSE].rstrip(".:") if lines else say("no reason was given")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out, including exceptions of torch."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def is_disk_full(error: BaseException) -> bool:
    """Return whether an exception means that the disk is full, including exceptions of native libraries."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno) in ("ENOSPC", "EDQUOT")
    return any(words in str(error).lower() for words in DISK_FULL)
