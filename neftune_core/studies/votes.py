"""Store blind votes between two arms in the record, and report them with a confidence interval."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neftune_core.errors import DoesNotFit, InvalidSetting
from neftune_core.evaluation.statistics import Interval, binomial_interval
from neftune_core.language import later, plural, say
from neftune_core.noise.names import arm_words
from neftune_core.studies.records.log import append, parsed
from neftune_core.studies.records.record import Record

VOTES = "votes.jsonl"
TIE, BOTH_BAD = "tie", "both bad"
MOST_VOTES = 10_000
MOST_BYTES = 16_000_000
"""Maximum size of the file in bytes; replaced votes stay in the file."""


@dataclass(frozen=True)
class Tally:
    """The votes between two arms.

    Attributes:
        names: The two arms.
        wins: Votes for the first and for the second arm.
        ties: Votes for a tie.
        both_bad: Votes that both answers are bad.
    """

    names: tuple[str, str]
    wins: tuple[int, int]
    ties: int
    both_bad: int

    @property
    def share(self) -> Interval:
        """Share of the first arm among votes for either arm, with the Clopper-Pearson interval."""
        return binomial_interval(self.wins[0], sum(self.wins))


def store_vote(record: Record, ballot: str, names: tuple[str, str], vote: str, line: Mapping[str, Any]) -> None:
    """Store a vote together with the answers; a later vote on the same ballot replaces it.

    Args:
        record: Record of the study that stores the votes.
        ballot: Id of the ballot.
        names: The two arms.
        vote: One of `names`, `TIE` or `BOTH_BAD`.
        line: The answers, one line of `answer_lines`.

    Raises:
        InvalidSetting: If the vote is not one of the choices.
        DoesNotFit: If the record already has `MOST_VOTES` votes or `MOST_BYTES` bytes of votes.
    """
    if vote not in (*names, TIE, BOTH_BAD):
        words = later("A vote must be one of the two arms, {tie!r} or {both_bad!r}.")
        raise InvalidSetting(say(words, tie=TIE, both_bad=BOTH_BAD))
    path = record.folder / VOTES
    if len(votes(record)) >= MOST_VOTES or (path.exists() and path.stat().st_size >= MOST_BYTES):
        raise DoesNotFit(say("This record has reached the maximum number of votes."))
    append(path, {"time": round(time.time(), 3), "ballot": ballot, "between": sorted(names), "vote": vote, **line})


def votes(record: Record) -> list[dict[str, Any]]:
    """Return the last valid vote on each ballot."""
    try:
        lines = (record.folder / VOTES).read_bytes().splitlines()
    except OSError:
        return []
    found = [vote for vote in map(parsed, lines) if vote and _is_vote(vote)]
    return list({vote["ballot"]: vote for vote in found}.values())


def _is_vote(vote: dict[str, Any]) -> bool:
    between = vote.get("between")
    pair = isinstance(between, list) and len(between) == 2 and all(isinstance(name, str) for name in between)
    texts = isinstance(vote.get("vote"), str) and isinstance(vote.get("ballot"), str)
    return pair and texts and isinstance(vote.get("arms"), dict)


def tally(record: Record, names: tuple[str, str]) -> Tally:
    """Count the votes between two arms.

    Args:
        record: Record of the study that stores the votes.
        names: The two arms.

    Returns:
        The counts.
    """
    cast = Counter(vote["vote"] for vote in votes(record) if vote["between"] == sorted(names))
    return Tally(names, (cast[names[0]], cast[names[1]]), cast[TIE], cast[BOTH_BAD])


def tally_text(found: Tally) -> str:
    """Describe a tally; a preference is only claimed if the interval excludes one half."""
    first, second = map(arm_words, found.names)
    others = say(" Ties: {ties}; both bad: {bad}.", ties=found.ties, bad=found.both_bad)
    decided = sum(found.wins)
    if not decided:
        return say("There are no decided votes between {first} and {second} yet.", first=first, second=second) + others
    share = found.share
    words = plural(
        decided,
        "{first} won {wins} of {count} decided vote against {second}: {share:.0%}, 95% interval {low:.0%} "
        "to {high:.0%} (Clopper and Pearson; ties left out).",
        "{first} won {wins} of {count} decided votes against {second}: {share:.0%}, 95% interval {low:.0%} "
        "to {high:.0%} (Clopper and Pearson; ties left out).",
    )
    ends = {"share": share.estimate, "low": share.low, "high": share.high}
    result = say(words, first=first, wins=found.wins[0], count=decided, second=second, **ends) + others
    if share.low > 0.5 or share.high < 0.5:
        return result + say(" {name} was preferred.", name=first if share.low > 0.5 else second)
    return result + say(" The interval contains 50%, so there is no clear preference.")
