"""Waiting calls are served in turn by IP address."""

from __future__ import annotations

from types import SimpleNamespace

from neftune_core.ui.server.connections import FairQueue, FairQueues


def waiting(*arrivals: str) -> FairQueue:
    """Return the events of these arrivals, each named by its address and a number."""
    turns = FairQueue(lambda event: str(event)[0])
    for event in arrivals:
        turns.append(event)
    return turns


def test_an_address_with_many_calls_does_not_hold_up_others() -> None:
    many = [f"a{number}" for number in range(100)]
    assert waiting(*many, "b0", "c0", "b1")[:5] == ["a0", "b0", "c0", "a1", "b1"]


def test_calls_of_one_address_keep_their_order() -> None:
    assert waiting("a0", "a1", "b0", "a2", "b1", "b2") == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_who_was_answered_has_a_new_first_turn() -> None:
    turns = waiting("a0", "a1", "a2", "b0")
    assert turns.pop(0) == "a0"
    assert turns.pop(0) == "b0"
    turns.append("b1")
    assert turns == ["a1", "b1", "a2"]


def test_every_queue_of_the_framework_is_fair() -> None:
    queues = FairQueues(lambda event: event.address)
    queues["x"] = SimpleNamespace(queue=[])
    for address in ("one", "one", "two"):
        queues["x"].queue.append(SimpleNamespace(address=address))
    assert [event.address for event in queues["x"].queue] == ["one", "two", "one"]
