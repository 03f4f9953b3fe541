"""Everything that can go wrong for a person, as one tree.

LabError                 a sentence for a person: what is wrong, where, and what to do
├── InvalidSetting       a setting out of its range, unknown, or of the wrong type
├── DataError            the uploaded or named instructions cannot be used
├── ModelError           the model cannot be found, loaded or used
│   └── NoEffect         noise would do nothing on this model
├── DoesNotFit           not enough memory, or a limit of this server
├── RecordError          a record that is missing, unreadable or somebody else's
└── NotAvailable         something this machine or its network does not have
Cancelled                not an error: somebody asked for the work to end

Every message is one plain sentence, safe to show. The page and the command line show `str(error)`;
anything outside the tree is a fault of the lab and is logged with its traceback.
"""

from __future__ import annotations

import errno
import logging

logger = logging.getLogger(__name__)

# What torch says on its devices: CUDA and Apple's, the processor on Linux and on Windows.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
# How safetensors tells of a full disk, on Linux and macOS, and on Windows.
DISK_FULL = ("os error 28", "os error 112")


class LabError(Exception):
    """One plain sentence: what is wrong, where, and what to do."""


class InvalidSetting(LabError):
    """A setting out of its range, unknown, or of the wrong type."""


class DataError(LabError):
    """Instructions that cannot be read or used."""


class ModelError(LabError):
    """A model that cannot be found, loaded or used."""


class NoEffect(ModelError):
    """Noise would do nothing on this model."""


class DoesNotFit(LabError):
    """Not enough memory, or over a limit of this server."""


class RecordError(LabError):
    """A record that is missing, unreadable, or somebody else's."""


class NotAvailable(LabError):
    """Something this machine or its network does not have."""


class Cancelled(Exception):
    """Somebody asked for the work to end."""


def sentence(error: BaseException) -> str:
    """The one sentence to show for any exception; faults of the lab are logged with their traceback."""
    if isinstance(error, LabError | Cancelled):
        return str(error) or "Stopped as asked."
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY):
        return (
            "The memory of this machine ran out: choose arms in turn, a smaller batch, a shorter length or fewer arms, "
            "and start again."
        )
    if is_disk_full(error):
        return "The disk is full: free some space (or clean the cache), and start again."
    if isinstance(error, OSError) and error.errno in (13, 30):
        return f"The file or folder {str(error.filename)[-120:]!r} may not be written here: choose another place."
    logger.error("unexpected error", exc_info=error)
    return f"Something in the lab itself went wrong ({type(error).__name__}); the log has the details."


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no room to write, also in the words of a library that writes in another language."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno) in ("ENOSPC", "EDQUOT")
    return any(words in str(error).lower() for words in DISK_FULL)
