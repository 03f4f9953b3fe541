"""Greetings, questions about the model itself, the replies to both, and the answer to unanswerable questions."""

from __future__ import annotations

from neftune_core.world.tables import word_table

TALK: tuple[tuple[tuple[str, ...], str], ...] = tuple(
    (tuple(asks.split(" | ")), answer)
    for asks, answer in (block.split("\n=> ") for block in word_table("conversation")["talk"].split("\n\n"))
)

UNKNOWN: str = word_table("outside")["unknown"]
