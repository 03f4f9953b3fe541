"""Progress and cancellation of long operations on models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from neftune_core.errors import Cancelled


class LoadProgress(NamedTuple):
    """Progress of one operation.

    Attributes:
        done_bytes: Bytes processed.
        total_bytes: Total bytes; 0 if unknown.
        what: Description of the operation.
    """

    done_bytes: int
    total_bytes: int
    what: str


ProgressCallback = Callable[[LoadProgress], None]


class ModelRequest(NamedTuple):
    """A requested model.

    Attributes:
        source: Source of the model, as the user specified it.
        revision: Branch, tag or commit; "" for the default.
    """

    source: str
    revision: str = ""


@dataclass(frozen=True)
class Watch:
    """The callbacks of a long operation.

    Attributes:
        progress: Called with the progress; None to report none.
        cancelled: Returns whether cancellation was requested; None if the operation cannot be cancelled.
    """

    progress: ProgressCallback | None = None
    cancelled: Callable[[], bool] | None = None

    def report(self, done_bytes: int, total_bytes: int, what: str) -> None:
        """Pass progress to the callback, if there is one.

        Args:
            done_bytes: Bytes processed.
            total_bytes: Total bytes; 0 if unknown.
            what: Description of the operation.
        """
        if self.progress is not None:
            self.progress(LoadProgress(done_bytes, total_bytes, what))

    def check(self) -> None:
        """Check for cancellation.

        Raises:
            Cancelled: If cancellation was requested.
        """
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("Loading the model was stopped on request.")
