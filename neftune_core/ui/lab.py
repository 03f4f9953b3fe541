"""What all visitors of one server share: its limits, and the queue of its jobs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from neftune_core.settings import Limits

if TYPE_CHECKING:
    from neftune_core.training.jobs import Jobs


class Lab:
    """One server. The queue is made on first use: it brings torch, and the page must be served before that."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    @functools.cached_property
    def jobs(self) -> Jobs:
        """The queue and its worker."""
        from neftune_core.training.jobs import Jobs

        return Jobs(self.limits)
