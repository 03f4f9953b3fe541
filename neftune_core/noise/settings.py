"""Settings of embedding noise."""

from __future__ import annotations

import re
from typing import Self

from pydantic import model_validator

from neftune_core.errors import InvalidSetting
from neftune_core.language import later, say
from neftune_core.noise.kinds import EMBEDDING_SITE, KINDS, TABLES_SITE
from neftune_core.noise.names import KIND_WORDS
from neftune_core.noise.schedules import SCHEDULES, WITH_A_POINT
from neftune_core.noise.strength import LENGTH_RULES, SHARE, UNITS
from neftune_core.settings import Settings, setting

EMBEDDING = "embedding"
TOKENS = {"all": "All tokens (the paper)", "prompt": "Prompt only", "response": "Response only"}

TABLES = "tables"
SITE_WORDS = {EMBEDDING: EMBEDDING_SITE, TABLES: TABLES_SITE}
_SITES = re.compile(rf"\s*({EMBEDDING}|{TABLES}|\d{{1,4}}(\s*-\s*\d{{1,4}})?)\s*", re.ASCII)


class NoiseSettings(Settings):
    """Kind, strength, sites and schedule of the noise."""

    strength: float = setting(5.0, minimum=0, maximum=10_000, slider_maximum=100, step=0.5)
    """Strength of the noise, in the unit below. The paper uses alpha 5, 10 and 15; 0 adds no noise."""
    unit: str = setting(
        "alpha",
        choices=lambda: {
            **{name: unit.words for name, unit in UNITS.items()},
            SHARE: "share of tokens (token dropout)",
        },
    )
    """alpha follows the paper: it is divided by the square root of length times width. std is the standard deviation of
    every coordinate, regardless of the length. relative is a multiple of the root-mean-square coordinate of the clean
    vectors. The strength of token dropout is the share of tokens."""
    kind: str = setting("uniform", choices=lambda: {name: kind.words for name, kind in KINDS.items()})
    """The distribution that the noise is drawn from. All kinds except token dropout have the same standard deviation at
    the same strength. Some papers do not equalise the standard deviations: a Gaussian at alpha 5, drawn as N(0, 1)
    times alpha / sqrt(length times width), is 1.7 times as strong as the NEFTune paper's uniform noise."""
    length_rule: str = setting("true", choices=LENGTH_RULES)
    """The length in the divisor of alpha: the sequence's own, as in the paper's training code, or that of the padded
    batch, as in the widely used trainer hook."""
    tokens: str = setting("all", choices=TOKENS)
    """Which tokens get noise."""
    special_tokens: bool = setting(True)
    """Whether beginning-of-sequence and other special tokens get noise."""
    sites: str = setting(EMBEDDING, max_length=100)
    """Where noise is added: “embedding”, layer numbers (noise is added to the output of these layers), or both, for
    example “embedding, 2, 4-6”. For layers, use the unit “relative”. Models with per-layer embeddings, such as
    Gemma 3n and Gemma 4 E2B, have one more site, “tables”."""
    schedule: str = setting("constant", choices=lambda: {name: schedule.words for name, schedule in SCHEDULES.items()})
    """How the strength changes over the run."""
    schedule_point: float = setting(0.5, minimum=0, maximum=1, step=0.05)
    """Share of the run after which the warm-up is complete or the noise is switched off."""
    equal_energy: bool = setting(False)
    """Scale the schedule so that its mean square equals that of the constant schedule (not available for the adaptive
    schedule)."""
    ascent_steps: int = setting(2, minimum=0, maximum=20, step=1, unit="steps")
    """Gradient ascent steps of adversarial noise; each adds a forward and a backward pass. 0 uses the uniform draw."""
    ascent_rate: float = setting(0.5, minimum=0.0, maximum=10, step=0.05)
    """Length of one adversarial step, as a multiple of the norm of the noise."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        drops = self.kind in KINDS and KINDS[self.kind].drops
        kind = say(KIND_WORDS.get(self.kind, self.kind))
        if drops and self.unit != SHARE:
            raise ValueError(say("the strength of {kind} is a share of the tokens: set the unit to 'share'", kind=kind))
        if self.unit == SHARE and not drops:
            kinds = say(", ").join(say(KIND_WORDS[name]) for name, known in KINDS.items() if known.drops)
            words = later("the unit 'share' can only be used with {kinds}: choose one of {choices}")
            raise ValueError(say(words, kinds=kinds, choices=", ".join(UNITS)))
        if drops and self.strength > 1:
            words = later("the strength of {kind} must be a share of the tokens from 0 to 1 (given {strength:g})")
            raise ValueError(say(words, kind=kind, strength=self.strength))
        if self.equal_energy and self.schedule == "adaptive":
            words = later(
                "an adaptive schedule follows the loss, so its energy cannot be fixed in advance: turn equal energy off"
            )
            raise ValueError(say(words))
        _site_parts(self.sites)
        return self

    @property
    def is_silent(self) -> bool:
        """Whether this setting adds no noise."""
        return self.strength == 0

    def with_strength(self, strength: float) -> Self:
        """Return the same noise with another strength."""
        return self.model_copy(update={"strength": strength})

    @property
    def name(self) -> str:
        """Short name that is safe in file names and links, such as `control` or `gaussian-std-0.1-at-2_4-6`.

        Settings that add different noise have different names.
        """
        if self.is_silent:
            return "control"
        is_scheduled = self.schedule != "constant"
        parts = [
            self.kind,
            "" if self.unit == SHARE else self.unit,
            _digits(self.strength),
            "" if self.length_rule == "true" else self.length_rule,
            "" if self.tokens == "all" else self.tokens,
            "" if self.special_tokens else "plain-tokens",
            "" if self.sites == EMBEDDING else "at-" + re.sub(r"\s", "", self.sites).replace(",", "_"),
            self.schedule if is_scheduled else "",
            _digits(self.schedule_point) if self.schedule in WITH_A_POINT else "",
            "equal-energy" if is_scheduled and self.equal_energy else "",
            f"k{self.ascent_steps}-{_digits(self.ascent_rate)}" if self.kind == "adversarial" else "",
        ]
        return "-".join(filter(None, parts))

    def site_numbers(self, layers: int, *, tables: bool = False) -> tuple[int, ...]:
        """Return the numbers of the sites that get noise.

        Args:
            layers: Number of layers of the model.
            tables: Whether the model has per-layer embedding tables.

        Returns:
            The numbers in ascending order: -1 for the per-layer embedding tables, 0 for the embedding, 1 to `layers`
            for the layers.

        Raises:
            InvalidSetting: If the sites include a layer, or the per-layer embedding tables, that the model
                does not have.
        """
        found = set()
        for first, last in _site_parts(self.sites):
            if last > layers:
                words = later(
                    "The noise sites include layer {last}, but this model has {layers} layers: choose from 1 to "
                    "{layers}."
                )
                raise InvalidSetting(say(words, last=last, layers=layers))
            if first == TABLES_SITE and not tables:
                raise InvalidSetting(say("This model has no per-layer embeddings: remove tables from the sites."))
            found |= set(range(first, last + 1))
        return tuple(sorted(found))


def _digits(number: float) -> str:
    """Format a number with up to 15 significant digits, so that different settings have different names."""
    return f"{number:.15g}"


def _site_parts(text: str) -> list[tuple[int, int]]:
    """Return the first and last number of each range of sites; raise `ValueError` if one is invalid."""
    parts = []
    for part in text.split(","):
        if not _SITES.fullmatch(part):
            raise ValueError(say("write sites as embedding and layer numbers, such as: embedding, 2, 4-6"))
        first, _, last = part.strip().partition("-")
        if first in SITE_WORDS:
            parts.append((SITE_WORDS[first], SITE_WORDS[first]))
            continue
        low, high = int(first), int(last or first)
        if low < 1 or high < low:
            words = later(
                "the layers {part} are not a valid range: start at 1 or higher, and write the lower number first"
            )
            raise ValueError(say(words, part=part.strip()))
        parts.append((low, high))
    return parts
