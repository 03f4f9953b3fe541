"""One study across several processes, started by `accelerate launch` or `torchrun`.

Each process has the model and all arms, and computes its share of the rows of every step. Gradients and losses are
summed. The noise of an example depends only on the study and the example, so the results equal those of a single
process up to rounding. The first process runs the study. It alone evaluates, writes records and generates answers; the
others follow its steps.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neftune_core.errors import Cancelled

logger = logging.getLogger(__name__)

END_SIGNAL = -1
GO_ON, STOP, VALUES_FOLLOW = 0, 1, 2
"""Messages that the first process broadcasts between steps."""
LONGEST_WAIT_HOURS = 12
"""Timeout in hours of the other processes, which wait while the first one evaluates and generates answers."""


class StudyEnded(Exception):
    """Raised in the other processes when the study of the first process has ended."""


@dataclass
class ProcessGroup:
    """The processes of a study.

    Attributes:
        working: Whether a step is running, during which no messages can be sent.
        ended: Whether all processes have agreed to end, so that none waits for messages.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    working: bool = False
    ended: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor with its sum over all processes."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def broadcast(self, value: float) -> float:
        """Broadcast a number from the first process to all.

        Raises:
            StudyEnded: In the other processes, if the number is `END_SIGNAL`.
        """
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, src=0)
        if not self.is_first and shared.item() == END_SIGNAL:
            raise StudyEnded
        return float(shared.item())

    def broadcast_text(self, words: str = "") -> str:
        """Broadcast a text from the first process to all."""
        if self.size == 1:
            return words
        shared: list[Any] = [words]
        torch.distributed.broadcast_object_list(shared, src=0, device=torch.device(self.device))
        return str(shared[0])

    def agree_on_stop(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """Return the callback to poll during one step.

        Raises:
            Cancelled: In all processes, if the first should stop.
            StudyEnded: In the other processes, if the first has ended the study.
        """
        if self.size == 1:
            return should_stop
        if self.broadcast(STOP if self.is_first and should_stop() else GO_ON) == STOP:
            raise Cancelled("Stopped on request.")
        return lambda: False

    def share(self, values: Sequence[Any]) -> list[Any]:
        """Broadcast values that JSON can represent from the first process to all, between steps, and return them.

        Raises:
            Cancelled: In the other processes, if the first stopped instead of sending values.
            StudyEnded: In the other processes, if the first has ended the study.
        """
        if self.size == 1:
            return [*values]
        message = self.broadcast(VALUES_FOLLOW if values else GO_ON)
        if message == STOP:
            raise Cancelled("Stopped on request.")
        return list(json.loads(self.broadcast_text(json.dumps([*values])))) if message == VALUES_FOLLOW else []

    def gather_failure(self, words: str) -> str:
        """Exchange error messages ("" for none) between all processes; return the first that is not empty, or "".

        After an error, `ended` is set in all processes, and each caller should stop with the returned message.
        """
        if self.size == 1:
            return words
        shared: list[Any] = [""] * self.size
        torch.distributed.all_gather_object(shared, words)
        found = next(filter(None, shared), "")
        self.ended = bool(found)
        return str(found)

    def barrier(self) -> None:
        """Wait until all processes have reached this call."""
        if self.size > 1:
            torch.distributed.barrier()

    def release(self) -> None:
        """Signal the end of the study to the other processes, if this is the first process and no step is running."""
        if self.size > 1 and self.is_first and not self.working and not self.ended:
            try:
                self.broadcast(END_SIGNAL)
            except RuntimeError:  # the other processes have already exited
                logger.info("the other processes ended before the first one")


@functools.cache
def process_group() -> ProcessGroup:
    """Return the process group of this launch. Without a launcher, the group has one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ProcessGroup()
    from datetime import timedelta

    from accelerate import InitProcessGroupKwargs, PartialState

    waiting = InitProcessGroupKwargs(timeout=timedelta(hours=LONGEST_WAIT_HOURS))
    state = PartialState(cpu=not torch.cuda.is_available(), **waiting.to_kwargs())
    return ProcessGroup(state.process_index, state.num_processes, str(state.device))
