"""How long work on a model says how far it is, and learns that it should end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neftune_core.errors import Cancelled


@dataclass(frozen=True)
class Progress:
    """`done_bytes` of `total_bytes` (0 where unknown) of `what`, in words."""

    done_bytes: int
    total_bytes: int
    what: str


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True)
class Asked:
    """A model as it was asked for: its source, and a revision or an empty text."""

    source: str
    revision: str = ""


@dataclass(frozen=True)
class Watch:
    """The two callbacks of long work, either of which may be missing."""

    progress: ProgressCallback | None = None
    cancelled: Callable[[], bool] | None = None

    def say(self, done_bytes: int, total_bytes: int, what: str) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(Progress(done_bytes, total_bytes, what))

    def check(self) -> None:
        """Raise `Cancelled` where somebody asked for the work to end."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("Loading the model was stopped as asked.")
