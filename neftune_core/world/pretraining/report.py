"""The results table of the bundled model, and its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neftune_core.home import assets
from neftune_core.world.generator.facts import ASKED, STATED
from neftune_core.world.lexicon import ENTITIES
from neftune_core.world.pretraining.measure import WORLD_MEASURES, WorldMeasure
from neftune_core.world.pretraining.settings import WorldSettings

MEASURED_FILE = "measured.json"


@dataclass(frozen=True)
class BuildReport:
    """Statistics of a build.

    Attributes:
        parameters: Number of parameters; tied weights count once.
        tokens: Number of tokens of the text, without padding.
        losses: Loss in nats by step, for some steps, to compare with another build.
        last_loss: Mean loss of the last 50 steps, in nats.
        text_hash: SHA-256 of the beginning of the text.
        tokenizer_hash: SHA-256 of the tokenizer's pieces.
    """

    parameters: int
    tokens: int
    steps: int
    minutes: float
    losses: dict[int, float]
    last_loss: float
    text_hash: str
    tokenizer_hash: str


def percent(share: float) -> str:
    """Format a share from 0 to 1 as "97.3%"."""
    return f"{100 * share:.1f}%"


def target_of(measure: WorldMeasure) -> str:
    """Describe the target: ">= 95%", "<= 10%" or "reported"."""
    if measure.target is None:
        return "reported"
    return f"{'<=' if measure.at_most else '>='} {100 * measure.target:.0f}%"


def table(shares: Mapping[str, float]) -> str:
    """Return the results in `shares` as a Markdown table."""
    lines = ["| measurement | target | result |", "|---|---|---|"]
    lines += [
        f"| {measure.words} | {target_of(measure)} | {percent(shares[name])} |"
        for name, measure in WORLD_MEASURES.items()
        if name in shares
    ]
    return "\n".join(lines) + "\n"


def write_results(folder: Path, shares: Mapping[str, float], making: BuildReport) -> None:
    """Store the results with the model.

    Args:
        folder: Folder of the model.
        shares: Measured shares by name.
        making: Statistics of the build.
    """
    rounded = {name: round(share, 4) for name, share in shares.items()}
    kept = {"shares": rounded, "making": vars(making)}
    (folder / MEASURED_FILE).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def card(settings: WorldSettings, shares: Mapping[str, float], making: BuildReport) -> str:
    """Return the model card in Markdown, with front matter for model hubs.

    Args:
        settings: The recipe.
        shares: Measured shares by name.
        making: Statistics of the build.

    Returns:
        The text.
    """
    losses = "\n".join(f"| {step:,} | {loss:.4f} |" for step, loss in sorted(making.losses.items()))
    template = (assets() / "world" / "card.md").read_text(encoding="utf-8")
    return template.format(
        parameters=f"{making.parameters / 1e6:.2f}",
        layers=settings.layers,
        width=settings.width,
        heads=settings.heads,
        inner=settings.inner_width,
        things=sum(len(things) for things in ENTITIES.values()),
        facts=len(ASKED) + len(STATED),
        stated=len(STATED),
        tokens=f"{making.tokens / 1e6:.1f}",
        steps=f"{making.steps:,}",
        batch=settings.batch_rows,
        rate=settings.learning_rate,
        decay=100 * settings.decay_share,
        minutes=f"{making.minutes:.0f}",
        losses=losses,
        last=making.last_loss,
        table=table(shares),
        text_hash=making.text_hash,
        tokenizer_hash=making.tokenizer_hash,
    )
