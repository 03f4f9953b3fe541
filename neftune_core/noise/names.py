"""Readable names of arms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from neftune_core.language import later, say

KIND_WORDS = {
    "uniform": later("uniform"),
    "gaussian": later("Gaussian"),
    "laplace": later("Laplace"),
    "bernoulli": later("Bernoulli"),
    "symmetric": later("symmetric"),
    "adversarial": later("adversarial"),
    "token-dropout": later("token dropout"),
}
"""Names of the kinds of noise; the engine adds the names of its methods."""
UNIT_WORDS = {"alpha": "alpha", "std": later("std"), "relative": later("relative"), "share": later("share")}
"""Names of the units of noise strength; "alpha" is the same in every language."""
OTHER_WORDS = {"control": later("control"), "base": later("base"), "chaos": later("rounding-sized noise")}
BEST = "@best"
"""Suffix of an arm's name for the weights of its best evaluation."""
WITH = "-with-"
"""Separator between the name of a method and that of its noise."""

_NUMBER = r"[\d.]+(?:e[+-]?\d+)?"
_SITE = r"(?:embedding|tables|\d+(?:-\d+)?)"
_SUFFIXES = {
    "padded": later("padded length"),
    "prompt": later("prompt only"),
    "response": later("response only"),
    "plain-tokens": later("no special tokens"),
    rf"at-(?P<sites>{_SITE}(?:_{_SITE})*)": later("at {sites}"),
    "linear": later("linear decay"),
    "cosine": later("cosine decay"),
    "exponential": later("exponential decay"),
    rf"warm-up-(?P<point>{_NUMBER})": later("warm-up until {point}% of the run"),
    rf"switch-off-(?P<point>{_NUMBER})": later("until {point}% of the run"),
    "adaptive": later("adaptive"),
    "equal-energy": later("equal energy"),
    rf"k(?P<steps>\d+)-(?P<rate>{_NUMBER})": later("ascent steps: {steps}, rate {rate}"),
}
"""Patterns of what follows the strength in a name, with their words."""


def arm_words(name: str) -> str:
    """Return the readable name of an arm, such as "alpha 15" or "Gaussian std 0.1 (linear decay)".

    The paper's noise (uniform, in alpha) is named by its strength alone. An unknown name is returned unchanged.
    """
    if name.endswith(BEST):
        return say("{arm}, at its best", arm=arm_words(name.removesuffix(BEST)))
    if "/" in name:  # a column of a comparison, with its record and seed
        return "/".join(map(arm_words, name.split("/")))
    cell, separator, arm = name.rpartition(": ")
    if separator:  # the arm of one cell of a sweep
        return f"{cell}{say(': ')}{arm_words(arm)}"
    method, separator, noise = name.partition(WITH)
    if separator:
        return say("{method} with {noise}", method=arm_words(method), noise=arm_words(noise))
    found = _noise_pattern(tuple(KIND_WORDS)).fullmatch(name)
    if found is not None:
        kind, unit, strength, rest = found.groups()
        kind_words = "" if (kind, unit) == ("uniform", "alpha") else say(KIND_WORDS[kind])
        words = " ".join(filter(None, [kind_words, unit_words(unit or ""), strength]))
        return f"{words} ({_suffix_words(rest)})" if rest else words
    if name.startswith("seed-"):
        return say("seed {seed}", seed=name.removeprefix("seed-"))
    return say(OTHER_WORDS[name]) if name in OTHER_WORDS else name


def _suffix_words(suffix: str) -> str:
    """Return what follows the strength in a name as words; from the first unknown part on, it is unchanged."""
    words, rest = [], suffix
    while rest:
        parts = ((re.match(rf"{pattern}(?:-|$)", rest, re.ASCII), found) for pattern, found in _SUFFIXES.items())
        part, found = next(((part, found) for part, found in parts if part), (None, ""))
        if part is None:  # such as a second method
            words.append(arm_words(rest))
            break
        values = {name: value.replace("_", ", ") for name, value in part.groupdict().items()}
        if "point" in values:
            values["point"] = f"{100 * float(values['point']):.12g}"
        words.append(say(found, **values))
        rest = rest[part.end() :]
    return say(", ").join(words)


def unit_words(unit: str) -> str:
    """Return the name of a unit of noise strength; an unknown unit is returned unchanged."""
    return say(UNIT_WORDS.get(unit, unit))


def with_arm_words(text: str, arms: Iterable[str]) -> str:
    """Replace the arm names in a sentence, such as one from a record, by words.

    Args:
        text: The sentence.
        arms: Names of the arms.

    Returns:
        The sentence with the readable names.
    """
    for name in sorted(arms, key=len, reverse=True):
        text = text.replace(name, arm_words(name))
    return text


@cache
def _noise_pattern(kinds: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"({'|'.join(kinds)})-(?:(alpha|std|relative)-)?([\d.]+(?:e[+-]?\d+)?)(?:-(.+))?", re.ASCII)
