"""The settings of embedding noise."""

from __future__ import annotations

from collections.abc import Mapping

from neftune_core.noise.kinds import KINDS
from neftune_core.noise.strength import UNITS
from neftune_core.settings import Settings, setting


def _kind_choices() -> Mapping[str, str]:
    return {name: kind.words for name, kind in KINDS.items()}


def _unit_choices() -> Mapping[str, str]:
    return {name: unit.words for name, unit in UNITS.items()}


class NoiseSettings(Settings):
    """One noise setting: what is drawn, and how strong it is."""

    strength: float = setting(
        5.0,
        "How strong the noise is, in the unit below. The paper uses alpha 5, 10 and 15; 0 is no noise.",
        minimum=0,
        maximum=10_000,
        slider_maximum=100,
        step=0.5,
    )
    unit: str = setting(
        "alpha",
        "alpha follows the paper: it is divided by the root of length times width. std is the standard "
        "deviation of every coordinate itself, whatever the length.",
        choices=_unit_choices,
    )
    kind: str = setting(
        "uniform",
        "The distribution that is drawn. All kinds are matched on their standard deviation, so that they are "
        "compared at equal strength.",
        choices=_kind_choices,
    )

    @property
    def is_silent(self) -> bool:
        """Whether this setting adds nothing at all."""
        return self.strength == 0

    @property
    def name(self) -> str:
        """A short name, safe in file names and links: `control`, `uniform-alpha-5`."""
        return "control" if self.is_silent else f"{self.kind}-{self.unit}-{self.strength:g}"
