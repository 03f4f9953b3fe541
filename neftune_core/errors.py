"""The exceptions shown to users, as one tree.

    LabError                 one sentence: what is wrong, where, and what to do
    ├── InvalidSetting       a setting that is out of range, unknown or of the wrong type
    ├── DataError            instructions that cannot be read or used
    ├── ModelError           a model that cannot be found, loaded or used
    │   └── NoEffect         noise has no effect on this model
    ├── DoesNotFit           not enough memory, or over a limit of this server
    ├── RecordError          a record that is missing, unreadable or owned by someone else
    └── NotAvailable         something that this machine or its network lacks
    Cancelled                not an error: the work was cancelled

Every message is one plain sentence, safe to show. The page and the command line show `sentences.sentence(error)`; any
other exception is a bug and is logged with its traceback.
"""

from __future__ import annotations


class LabError(Exception):
    """Base class of the errors shown to users.

    The message is one plain sentence that says what is wrong, where, and what to do.
    """


class InvalidSetting(LabError):
    """A setting that is out of range, unknown or of the wrong type."""


class DataError(LabError):
    """Instructions that cannot be read or used."""


class ModelError(LabError):
    """A model that cannot be found, loaded or used."""


class NoEffect(ModelError):
    """Noise has no effect on this model."""


class DoesNotFit(LabError):
    """Not enough memory, or over a limit of this server."""


class RecordError(LabError):
    """A record that is missing, unreadable or owned by someone else."""


class NotAvailable(LabError):
    """Something that this machine or its network lacks."""


class Cancelled(Exception):
    """The work was cancelled."""
