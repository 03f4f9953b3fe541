"""Compute the mean difference in loss between two arms for each kind of token, with bootstrap intervals over rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from neftune_core.evaluation.statistics import Floats, mean_score, paired_bootstrap
from neftune_core.studies.records.tokens import WRITTEN
from neftune_core.studies.trained.token_kinds import TOKEN_KINDS

ALL = "all"
RESAMPLES = 2_000

Line = Mapping[str, Any]


def by_kind(lines: Sequence[Line], arm: str, reference: str) -> dict[str, dict[str, float | int | None]]:
    """Return the loss of an arm minus that of a reference, per kind of token and over all tokens.

    Args:
        lines: Rows of one part.
        arm: Name of the arm.
        reference: Name of the arm to compare with, or "base".

    Returns:
        For each kind that occurs: the number of `tokens`, the `difference` in nats per token, and the ends `low` and
        `high` of its 95% interval over resampled rows. The ends are None if a resample has no token of this kind.
    """
    both = [line for line in lines if arm in line["losses"] and reference in line["losses"]]
    found = {}
    for kind in (*TOKEN_KINDS, ALL):
        chosen = [[kind in (one, ALL) for one in line["kinds"]] for line in both]
        tokens = sum(map(sum, chosen))
        if tokens:
            sides = [_sums(both, name, chosen) for name in (arm, reference)]
            found[kind] = {"tokens": tokens, **_interval(*sides)}
    return found


def _sums(lines: Sequence[Line], name: str, chosen: Sequence[Sequence[bool]]) -> Floats:
    """Return the summed loss and the number of the chosen tokens of each row, `[1, rows, 2]`."""
    rows = [(float(np.dot(line["losses"][name], mask)), sum(mask)) for line, mask in zip(lines, chosen, strict=True)]
    return np.array([rows], dtype=np.float64)


def _interval(arm: Floats, reference: Floats) -> dict[str, float | None]:
    with np.errstate(invalid="ignore"):
        found = paired_bootstrap(arm, reference, mean_score, np.random.default_rng(0), resamples=RESAMPLES)
    ends = {"difference": found.estimate, "low": found.low, "high": found.high}
    return {name: None if math.isnan(value) else round(value, 5) for name, value in ends.items()}


def payload(lines: Sequence[Line], arms: Sequence[str]) -> dict[str, Any]:
    """Return the values that the page plots.

    Args:
        lines: All lines of one seed.
        arms: Names of the arms in their order, the control first.

    Returns:
        `parts` contains the non-empty lines by part, and `kinds` the results of `by_kind` by part, arm and reference.
        An arm is compared with the control and the base, if they were measured.
    """
    parts: dict[str, list[Line]] = {}
    for line in lines:
        if line["tokens"]:
            parts.setdefault(line["part"], []).append(line)
    return {
        "parts": parts,
        "kinds": {
            part: {
                arm: {reference: by_kind(own, arm, reference) for reference in others}
                for arm, others in _pairs(own, arms)
            }
            for part, own in parts.items()
            if part != WRITTEN
        },
    }


def _pairs(lines: Sequence[Line], arms: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each measured arm with its references."""
    measured = {name for line in lines for name in line["losses"]}
    for arm in arms:
        others = [name for name in (arms[0], "base") if name in measured and name != arm]
        if arm in measured and others:
            yield arm, others
