"""The wording of verdicts: sentence templates (`assets/verdict_sentences.toml`) and functions that build headlines."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Rounding
from neftune_core.evaluation.paired_comparison import Comparison, without_residue
from neftune_core.home import assets
from neftune_core.language import say
from neftune_core.noise.names import arm_words

MOST_VALUES = 4
"""Maximum number of arms with the same outcome whose values a headline lists; beyond it, their number and the largest
difference are given."""
MOST_NAMED = 3
"""Maximum number of arms that a sentence names; beyond it, their number is given, and of claims the largest in each
direction."""


@dataclass(frozen=True)
class Line:
    """One sentence of a verdict.

    Attributes:
        key: Key of its template in `SENTENCES`.
        parameters: Parameters of the template by name: numbers, names and other lines.
    """

    key: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the sentence in the current language."""
        given = {name: _format_parameter(value) for name, value in self.parameters.items()}
        if isinstance(self.parameters.get("arm"), str):
            given["arm"] = arm_words(given["arm"])
        return say(SENTENCES[self.key], **given)


@dataclass(frozen=True)
class ArmName:
    """The name of an arm, shown in words, such as "alpha 15" for `uniform-alpha-15`."""

    name: str

    def text(self) -> str:
        """Return the name in words, in the current language."""
        return arm_words(self.name)


def _format_parameter(value: Any) -> Any:
    """Convert a parameter for formatting."""
    if isinstance(value, Line | ArmName):
        return value.text()
    return without_residue(value) if isinstance(value, float) else value


def agreeing(key: str, count: float | None) -> str:
    """Return the key of the sentence that agrees in number with `count`.

    Args:
        key: Key of the plural sentence.
        count: The number in the sentence; None if it has no number.

    Returns:
        `key`, or its singular form `key.one` if the count is 1 and the table has one.
    """
    return f"{key}.one" if count == 1 and f"{key}.one" in SENTENCES else key


def rounding_line(rounding: Rounding, measure: str) -> Line:
    """Return the sentence about the effect of rounding, for verdicts and tables.

    Args:
        rounding: Measured effect of the number format.
        measure: Name of the measure.

    Returns:
        The sentence.
    """
    size = rounding.of(measure)
    key = "closing.rounding_unknown" if size is None else "closing.rounding" if size else "closing.rounding_none"
    return Line(key, {"precision": rounding.precision, "measure": Line(f"measure.{measure}"), "size": size})


def claims_line(measure: str, claimed: Mapping[str, Comparison], statuses: Mapping[str, str]) -> Line:
    """Return the headline about arms that differ from the control, with the direction and size of their differences.

    Args:
        measure: Name of the measure.
        claimed: Comparisons of these arms by name, largest difference first.
        statuses: Statuses of all arms by name; those of the claimed arms are "better", "worse", "higher" or "lower".

    Returns:
        The headline, which ends with the arms that do not differ.
    """
    groups: dict[tuple[str, int], dict[str, Comparison]] = {}
    for name, comparison in claimed.items():
        groups.setdefault((statuses[name], len(comparison.seeds)), {})[name] = comparison
    short = len(claimed) > MOST_NAMED
    lines = [_claim_line(status, measure, group, short=short) for (status, _), group in groups.items()]
    headline = _joined("headline.both", lines)
    if short:
        sizes = _joined("value.and", [_direction_line(status, group) for (status, _), group in groups.items()])
        count = {"claimed": len(claimed), "arms": len(statuses)}
        headline = Line("headline.sizes", {"first": headline, **count, "sizes": sizes})
    return with_others(headline, {name: status for name, status in statuses.items() if name not in claimed})


def with_others(headline: Line, statuses: Mapping[str, str]) -> Line:
    """Return a headline followed by a sentence for each outcome of the arms that it is not about.

    Args:
        headline: The headline.
        statuses: Statuses of the other arms by name.

    Returns:
        The headline, which is then true for all arms.
    """
    groups: dict[str, list[str]] = {}
    for name, status in statuses.items():
        key = f"others.{status}"
        groups.setdefault(key if key in SENTENCES else "others.no_result", []).append(name)
    others = [
        Line(key, {"arms": arm_names(names)})
        if len(names) <= MOST_NAMED
        else Line(key, {"arms": Line("arm.others", {"count": len(names)})})
        for key, names in groups.items()
    ]
    return _joined("headline.both", [headline, *others])


def _claim_line(status: str, measure: str, group: Mapping[str, Comparison], *, short: bool) -> Line:
    """Return the headline about the arms that differ in one direction, or only about the first of them if `short`."""
    named = {name: group[name] for name in [*group][: 1 if short else None]}
    return effect_line(status, measure, next(iter(named)), named)


def arm_names(names: Sequence[str]) -> Line:
    """Return the names of one or more arms as a list inside a sentence."""
    *others, last = (Line("arm.name", {"name": ArmName(name)}) for name in names)
    return _joined("arm.and", [_joined("value.and", others), last]) if others else last


def _direction_line(status: str, group: Mapping[str, Comparison]) -> Line:
    """Return the number of arms that differ in one direction, with the range of their differences."""
    sizes = [abs(comparison.difference) for comparison in group.values()]
    count = {"count": len(sizes), "direction": Line(f"direction.{status}")}
    return Line(agreeing("sizes", len(sizes)), count | {"least": min(sizes), "most": max(sizes)})


def effect_line(key: str, measure: str, lead: str, found: Mapping[str, Comparison]) -> Line:
    """Return the headline about arms with the same outcome, with their values; if there are many, those of one arm.

    Args:
        key: Key of the headline in `SENTENCES`, without "headline.".
        measure: Name of the measure.
        lead: Name of the arm with the largest difference.
        found: Comparisons by name, including `lead`.

    Returns:
        The headline.
    """
    is_short = len(found) > MOST_VALUES
    listed = {lead: found[lead]} if is_short else found
    one_control = len({comparison.control for comparison in listed.values()}) == 1
    lines = [Line("value.control", {"value": found[lead].control})] if one_control else []
    for name, comparison in listed.items():
        value = {"arm": ArmName(name), "value": comparison.arm, "control": comparison.control}
        lines.append(Line("value.arm" if one_control else "value.own", value))
    values = _joined("value.and", lines)
    if is_short:
        values = Line("value.largest", {"values": values, "arms": len(found)})
    arms = Line("arm.many", {"count": len(found)}) if len(found) > MOST_NAMED else arm_names([*found])
    about = {"measure": Line(f"measure.{measure}"), "values": values}
    return Line(f"headline.{key}", {"arm": arms, "seeds": len(found[lead].seeds), **about})


def brief_line(measure: str, statuses: Mapping[str, str], lead: str) -> Line:
    """Return the result of a study in a few words.

    Args:
        measure: Name of the measure.
        statuses: Statuses of all arms by name.
        lead: Name of the arm that the headline is about; "" if none.

    Returns:
        For example "better with alpha 5 (held-out loss)".
    """
    words = Line(f"measure.{measure}")
    claimed: dict[str, list[str]] = {}
    for name, status in statuses.items():
        if f"direction.{status}" in SENTENCES:
            claimed.setdefault(status, []).append(name)
    if not claimed:
        status = statuses.get(lead, "void")
        return Line(f"brief.{status}" if f"brief.{status}" in SENTENCES else "brief.no_claim", {"measure": words})
    lines = []
    for status, names in claimed.items():
        about = {"direction": Line(f"direction.{status}"), "measure": words}
        many = len(names) > MOST_NAMED
        given = {"count": len(names), "arms": len(statuses)} if many else {"arms": arm_names(names)}
        lines.append(Line("brief.many" if many else "brief.claim", about | given))
    return _joined("value.and", lines)


def _joined(key: str, lines: Sequence[Line]) -> Line:
    return reduce(lambda first, second: Line(key, {"first": first, "second": second}), lines)


SENTENCES: dict[str, str] = {
    **{f"measure.{name}": measure.phrase for name, measure in MEASURES.items()},
    **tomllib.loads((assets() / "verdict_sentences.toml").read_text(encoding="utf-8")),
}
