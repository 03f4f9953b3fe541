"""One colour an arm, everywhere: the table that the page's style sheet and every figure read.

Figures name a colour as `var(--lab-...)`; the page resolves it in the browser, so that a change of theme
redraws without a call to the server, and `resolved` does it for exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neftune_core.noise.settings import NoiseSettings

THEMES = ("light", "dark")


@dataclass(frozen=True)
class Colour:
    """One colour in both themes, as `#rrggbb`."""

    light: str
    dark: str


# Noise arms go from amber to plum: hues that stay apart from the control's blue for the colour-blind, in an
# order that lightness alone tells too. On the dark page the scale fades the same way, from bright to deep.
WARM = (
    Colour("#c27c0a", "#f8d477"),
    Colour("#c9611a", "#f7b35c"),
    Colour("#bd4322", "#f28f50"),
    Colour("#a3292b", "#e66f52"),
    Colour("#7f1737", "#d65468"),
    Colour("#560f3c", "#c2488a"),
)

# Arms without noise that another regulariser sets apart from the control; figures draw them dashed as well.
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

# For one noise that stands alone, as on the page's Noise tab.
SINGLE_NOISE = "var(--lab-warm-3)"


def token(name: str) -> str:
    """The name of a colour as figures write it: `var(--lab-control)`."""
    if name not in COLOURS:
        raise KeyError(name)
    return f"var(--lab-{name})"


def arm_colours(arms: Mapping[str, NoiseSettings]) -> dict[str, str]:
    """A colour for every arm by name, and for `base`; noise arms deepen with their strength within the study.

    Strengths of different units cannot be ranked without a length, so arms are ranked unit by unit. Arms without
    noise besides the control are its regularisers.
    """
    colours = {"base": token("base")} | {name: token("control") for name in arms if name == CONTROL}
    regularised = [name for name, noise in arms.items() if noise.is_silent and name != CONTROL]
    colours |= {name: token(f"cool-{1 + place % len(COOL)}") for place, name in enumerate(regularised)}
    noisy = sorted(
        (name for name, noise in arms.items() if not noise.is_silent),
        key=lambda name: (arms[name].unit, arms[name].strength),
    )
    for rank, name in enumerate(noisy):
        colours[name] = token(f"warm-{_step(rank, len(noisy))}")
    return colours


def _step(rank: int, count: int) -> int:
    """Where the `rank`-th of `count` arms stands on the warm scale, 1 to its length."""
    if count <= 2:
        return 3 if count == 1 else (2, 5)[rank]
    return 1 + round(rank * (len(WARM) - 1) / (count - 1))


def css_variables(theme: str) -> str:
    """The table as CSS custom properties of one theme."""
    return "\n".join(f"  --lab-{name}: {getattr(colour, theme)};" for name, colour in COLOURS.items())


def resolved(value: Any, theme: str) -> Any:
    """A figure (or any part of it) with its colour names replaced by the colours of `theme`."""
    if isinstance(value, Mapping):
        return {key: resolved(part, theme) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(part, theme) for part in value]
    if isinstance(value, str) and value.startswith("var(--lab-"):
        return getattr(COLOURS[value.removeprefix("var(--lab-").removesuffix(")")], theme)
    return value
