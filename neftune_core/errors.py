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

Every message is one plain sentence, safe to show. The page and the command line show what `sentences.sentence` says;
anything outside the tree is a fault of the lab and is logged with its traceback.
"""

from __future__ import annotations


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
