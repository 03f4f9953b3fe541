"""One study on several processes, as `accelerate launch` or `torchrun` start them.

Each process holds the model and all arms, and takes its share of the rows of every step; gradients and losses are
summed. The noise of an example depends on the study and the example alone, so the numbers are those of one process up
to rounding. The first process is the study: it alone measures, writes and answers. The others follow it step by step.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neftune_core.errors import Cancelled

logger = logging.getLogger(__name__)

OVER = -1
LONGEST_WAIT_HOURS = 12
"""How long the others wait for the first, which measures and answers between two seeds."""


class Over(Exception):
    """The study of the first process has ended: there is nothing more to follow."""


@dataclass
class Team:
    """The processes of a study. `working` says that they are in one step, in which nobody can be told anything;
    `parted` that they have agreed to end, so that nobody waits to be told."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    working: bool = False
    parted: bool = False

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def first_says(self, value: float) -> float:
        """What the first process gives, in all of them. Raises `Over` in the others where it is `OVER`."""
        if self.size == 1:
            return value
        told = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(told, src=0)
        if not self.is_first and told.item() == OVER:
            raise Over
        return float(told.item())

    def first_tells(self, words: str = "") -> str:
        """As `first_says`, a text."""
        if self.size == 1:
            return words
        told: list[Any] = [words]
        torch.distributed.broadcast_object_list(told, src=0, device=torch.device(self.device))
        return str(told[0])

    def agree(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """What a step may ask while it runs. Of several processes none leaves a step by itself: the first is asked now,
        and where it says so, all raise `Cancelled`."""
        if self.size == 1:
            return should_stop
        if self.first_says(float(self.is_first and should_stop())):
            raise Cancelled("Stopped as asked.")
        return lambda: False

    def first_failure(self, words: str) -> str:
        """What keeps the first of those that cannot go on, each giving its own `words`; empty where all can.

        Where it is not, the processes part: each is to end with that sentence.
        """
        if self.size == 1:
            return words
        told: list[Any] = [""] * self.size
        torch.distributed.all_gather_object(told, words)
        found = next(filter(None, told), "")
        self.parted = bool(found)
        return str(found)

    def meet(self) -> None:
        """Wait for everybody."""
        if self.size > 1:
            torch.distributed.barrier()

    def dismiss(self) -> None:
        """Let the others go, as the first process has ended, whatever it was doing outside of a step."""
        if self.size > 1 and self.is_first and not self.working and not self.parted:
            try:
                self.first_says(OVER)
            except RuntimeError:  # they have gone already, as this study ends for a reason of its own
                logger.info("the other processes had ended before the first")


@functools.cache
def team() -> Team:
    """The processes that this one was started with; alone where nothing says otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Team()
    from datetime import timedelta

    from accelerate import InitProcessGroupKwargs, PartialState

    waiting = InitProcessGroupKwargs(timeout=timedelta(hours=LONGEST_WAIT_HOURS))
    state = PartialState(cpu=not torch.cuda.is_available(), **waiting.to_kwargs())
    return Team(state.process_index, state.num_processes, str(state.device))
