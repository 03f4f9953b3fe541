"""Answer the waiting calls of different network addresses in turn, so that no visitor delays the others.

Gradio answers the calls of a function in order of arrival. A visitor who sends hundreds of slow calls would therefore
delay everyone who calls later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any


class FairQueue(list[Any]):
    """Round-robin queue of the waiting events of one function.

    The first event of every address comes before the second event of any address, and so on. Within a round, events
    stay in order of arrival.

    Args:
        address: Returns the network address of an event.
    """

    def __init__(self, address: Callable[[Any], str]) -> None:
        super().__init__()
        self._address = address

    def append(self, event: Any) -> None:
        """Insert an event at the end of the first round that has no event from the same address."""
        mine, waiting = self._address(event), Counter[str]()
        own_round = sum(self._address(other) == mine for other in self)
        for place, other in enumerate(self):
            if waiting[self._address(other)] > own_round:
                self.insert(place, event)
                return
            waiting[self._address(other)] += 1
        super().append(event)


class FairQueues(dict[str, Any]):
    """Gradio's event queues by id; each stores its waiting events in a `FairQueue`.

    Args:
        address: Returns the network address of an event.
    """

    def __init__(self, address: Callable[[Any], str]) -> None:
        super().__init__()
        self._address = address

    def __setitem__(self, name: str, queue: Any) -> None:
        queue.queue = FairQueue(self._address)
        super().__setitem__(name, queue)
