"""Answer the waiting calls of different network addresses in turn, so that no visitor holds up the others.

Gradio answers the calls of a function in the order of their arrival. A visitor who sends hundreds of slow calls would
otherwise be answered before everybody who calls later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any


class FairQueue(list[Any]):
    """The waiting events of one function, in the order in which they are answered.

    The first events of all addresses come before the second ones, and so on. Within one of these rounds they keep the
    order of their arrival.

    Args:
        address: Returns the network address of an event.
    """

    def __init__(self, address: Callable[[Any], str]) -> None:
        super().__init__()
        self._address = address

    def append(self, event: Any) -> None:
        """Insert an event where the next turn of its visitor comes."""
        mine, waiting = self._address(event), Counter[str]()
        own_round = sum(self._address(other) == mine for other in self)
        for place, other in enumerate(self):
            if waiting[self._address(other)] > own_round:
                self.insert(place, event)
                return
            waiting[self._address(other)] += 1
        super().append(event)


class FairQueues(dict[str, Any]):
    """Gradio's event queues by their ids; each holds its waiting events in a `FairQueue`.

    Args:
        address: Returns the network address of an event.
    """

    def __init__(self, address: Callable[[Any], str]) -> None:
        super().__init__()
        self._address = address

    def __setitem__(self, name: str, queue: Any) -> None:
        queue.queue = FairQueue(self._address)
        super().__setitem__(name, queue)
