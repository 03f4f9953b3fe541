"""The exceptions shown to users, as one tree.

    LabError                 base class
    ├── InvalidSetting       a setting that is out of range, unknown or of the wrong type
    ├── DataError            instruction data that cannot be read or used
    ├── ModelError           a model that cannot be found, loaded or used
    │   └── NoEffect         a model on which noise has no effect
    ├── DoesNotFit           not enough memory, or over a limit of this server
    ├── RecordError          a record that is missing, unreadable or owned by someone else
    └── NotAvailable         something that this machine or its network lacks
    Cancelled                not an error: the work was cancelled

Every message is one plain sentence that is safe to show to users. The page and the command line show
`sentences.sentence(error)`. Any other exception is a bug, and is logged with its traceback.
"""

from __future__ import annotations


class LabError(Exception):
    """Base class of the errors shown to users.

    The message is one plain sentence that states what is wrong, where, and what to do.
    """


class InvalidSetting(LabError):
    """Raised if a setting is out of range, unknown or of the wrong type."""


class DataError(LabError):
    """Raised if instruction data cannot be read or used."""


class ModelError(LabError):
    """Raised if a model cannot be found, loaded or used."""


class NoEffect(ModelError):
    """Raised if noise has no effect on a model."""


class DoesNotFit(LabError):
    """Raised if memory is insufficient, or a limit of this server is exceeded."""


class RecordError(LabError):
    """Raised if a record is missing, unreadable or owned by someone else."""


class NotAvailable(LabError):
    """Raised if this machine or its network lacks something that is needed."""


class Cancelled(Exception):
    """Raised if the work was cancelled."""
