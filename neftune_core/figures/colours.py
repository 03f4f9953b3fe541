"""One colour per arm: the table used by the page's style sheet and every figure.

Figures name a colour as `var(--lab-...)`. The page resolves it in the browser, so that a change of theme needs no call
to the server; `resolve_colours` does the same for exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neftune_core.noise.settings import NoiseSettings


@dataclass(frozen=True)
class Colour:
    """One colour in both themes, as `#rrggbb`."""

    light: str
    dark: str


# Noise arms go from amber to plum: hues that colour-blind readers can distinguish from the control's blue, ordered by
# lightness too. The scale of the dark theme also goes from bright to deep.
WARM = (
    Colour("#c27c0a", "#f8d477"),
    Colour("#c9611a", "#f7b35c"),
    Colour("#bd4322", "#f28f50"),
    Colour("#a3292b", "#e66f52"),
    Colour("#7f1737", "#d65468"),
    Colour("#560f3c", "#c2488a"),
)

# Arms with another regulariser instead of noise; figures also draw them dashed.
COOL = (
    Colour("#2f9155", "#9be6b4"),
    Colour("#1b6b3f", "#5fc286"),
    Colour("#0d4628", "#38965a"),
)

COLOURS: dict[str, Colour] = {
    "background": Colour("#ffffff", "#14171c"),
    "surface": Colour("#f5f6f8", "#1c2027"),
    "line": Colour("#e1e4e9", "#2e343e"),
    "text": Colour("#1b2028", "#e8eaee"),
    "quiet": Colour("#5c6573", "#a2aab6"),
    "accent": Colour("#2b62a6", "#74b2f4"),
    "base": Colour("#7b8494", "#949dab"),
    "control": Colour("#2b62a6", "#74b2f4"),
    **{f"warm-{index}": colour for index, colour in enumerate(WARM, start=1)},
    **{f"cool-{index}": colour for index, colour in enumerate(COOL, start=1)},
}

CONTROL = NoiseSettings(strength=0).name

# For a single noise, as on the Noise tab.
SINGLE_NOISE = "var(--lab-warm-3)"


def token(name: str) -> str:
    """Return a colour name as figures write it: `var(--lab-control)`."""
    if name not in COLOURS:
        raise KeyError(name)
    return f"var(--lab-{name})"


def arm_colours(arms: Mapping[str, NoiseSettings]) -> dict[str, str]:
    """Return a colour for every arm and for `base`; noise arms darken with their strength within the study.

    Strengths in different units cannot be compared without a sequence length, so arms are ranked per unit. Arms without
    noise, other than the control, are the regularisers.
    """
    colours = {"base": token("base")} | {name: token("control") for name in arms if name == CONTROL}
    regularised = [name for name, noise in arms.items() if noise.is_silent and name != CONTROL]
    colours |= {name: token(f"cool-{1 + number % len(COOL)}") for number, name in enumerate(regularised)}
    noisy = sorted(
        (name for name, noise in arms.items() if not noise.is_silent),
        key=lambda name: (arms[name].unit, arms[name].strength),
    )
    for rank, name in enumerate(noisy):
        colours[name] = token(f"warm-{_step(rank, len(noisy))}")
    return colours


def _step(rank: int, count: int) -> int:
    """Return the position of the `rank`-th of `count` arms on the warm scale, from 1."""
    if count <= 2:
        return 3 if count == 1 else (2, 5)[rank]
    return 1 + round(rank * (len(WARM) - 1) / (count - 1))


def css_variables(theme: str) -> str:
    """Return the table as CSS custom properties of one theme."""
    return "\n".join(f"  --lab-{name}: {getattr(colour, theme)};" for name, colour in COLOURS.items())


def resolve_colours(value: Any, theme: str) -> Any:
    """Replace colour names by the colours of a theme.

    Args:
        value: A figure or any part of one.
        theme: "light" or "dark".

    Returns:
        A copy of `value` with `#rrggbb` colours.
    """
    if isinstance(value, Mapping):
        return {key: resolve_colours(part, theme) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [resolve_colours(part, theme) for part in value]
    if isinstance(value, str) and value.startswith("var(--lab-"):
        return getattr(COLOURS[value.removeprefix("var(--lab-").removesuffix(")")], theme)
    return value
