"""Colours of the page's style sheet and of all figures.

Figures name a colour as `var(--lab-...)`. The page resolves it in the browser, so that a change of theme needs no call
to the server; `resolve_colours` does the same for exports.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.noise.settings import NoiseSettings


@dataclass(frozen=True)
class Colour:
    """A colour in both themes, as `#rrggbb`."""

    light: str
    dark: str


# Noise arms range from amber to plum, ordered by lightness in both themes. Colour-blind readers can distinguish these
# hues from the control's blue.
WARM = (
    Colour("#c27c0a", "#f8d477"),
    Colour("#c9611a", "#f7b35c"),
    Colour("#bd4322", "#f28f50"),
    Colour("#a3292b", "#e66f52"),
    Colour("#7f1737", "#d65468"),
    Colour("#560f3c", "#c2488a"),
)

# Arms with another method instead of noise; figures also draw them dashed.
COOL = (Colour("#2f9155", "#9be6b4"), Colour("#1b6b3f", "#5fc286"), Colour("#0d4628", "#38965a"))

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

# For figures with only one noise, as on the Noise tab.
SINGLE_NOISE = "var(--lab-warm-3)"


def token(name: str) -> str:
    """Return the CSS reference to a colour, such as `var(--lab-control)`.

    Raises:
        KeyError: If the name is not in `COLOURS`.
    """
    if name not in COLOURS:
        raise KeyError(name)
    return f"var(--lab-{name})"


BOUNDS = {
    "alpha": (3, 7, 10, 14, 20),
    "std": (0.005, 0.02, 0.05, 0.1, 0.2),
    "relative": (0.1, 0.25, 0.5, 1, 2),
    "share": (0.05, 0.1, 0.2, 0.3, 0.5),
}
"""Largest strength of each step of the warm scale except the last, by unit."""


def arm_colours(arms: Mapping[str, NoiseSettings]) -> dict[str, str]:
    """Return a colour for every arm and for `base`; noise arms get darker with increasing strength.

    A strength has the same colour in every study, unless arms of the study would share a step of the scale. They then
    take neighbouring steps, darker ones for stronger noise. Strengths in different units cannot be compared without a
    sequence length, so arms are ordered per unit. Arms with another method instead of noise have cool colours.
    """
    colours = {"base": token("base")} | {name: token("control") for name in arms if name == CONTROL}
    others = [name for name, noise in arms.items() if noise.is_silent and name != CONTROL]
    colours |= {name: token(f"cool-{1 + number % len(COOL)}") for number, name in enumerate(others)}
    noisy = sorted(
        (name for name, noise in arms.items() if not noise.is_silent),
        key=lambda name: (arms[name].unit, arms[name].strength),
    )
    steps = _distinct([1 + bisect_left(BOUNDS[arms[name].unit], arms[name].strength) for name in noisy])
    return colours | {name: token(f"warm-{step}") for name, step in zip(noisy, steps, strict=True)}


def _distinct(wanted: Sequence[int]) -> list[int]:
    """Return ascending steps of the warm scale near the wanted ones, distinct unless there are too many arms."""
    if len(wanted) > len(WARM):
        return [1 + rank * (len(WARM) - 1) // (len(wanted) - 1) for rank in range(len(wanted))]
    steps, least = list[int](), 1
    for place, step in enumerate(wanted):
        most = len(WARM) - (len(wanted) - 1 - place)  # leave room for the arms after it
        steps.append(min(max(step, least), most))
        least = steps[-1] + 1
    return steps


def css_variables(theme: str) -> str:
    """Return the colours of one theme as CSS custom properties."""
    return "\n".join(f"  --lab-{name}: {getattr(colour, theme)};" for name, colour in COLOURS.items())


def resolve_colours(value: Any, theme: str) -> Any:
    """Replace colour names with the colours of a theme.

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
