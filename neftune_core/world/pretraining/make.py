"""All steps of `neftune world build`: pretrain, measure, and write the results and the model card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neftune_core.home import assets
from neftune_core.world.generator import vocabulary
from neftune_core.world.generator.facts import FACTS, STATED
from neftune_core.world.generator.text import text_hash
from neftune_core.world.lexicon import ENTITIES
from neftune_core.world.pretraining.build import BuildEvent, build, history_of, tokens_of
from neftune_core.world.pretraining.measure import WORLD_MEASURES, MeasureResult, measure
from neftune_core.world.pretraining.settings import WorldSettings

CARD_FILE, MEASURED_FILE = "README.md", "measured.json"
HASHED_CHUNKS = 10
LOSS_STEPS = (100, 500, 1_000, 2_000, 3_000, 4_000)


def make(folder: Path, settings: WorldSettings | None = None) -> Iterator[BuildEvent | MeasureResult]:
    """Build the model, measure it, and write the results and the card.

    Args:
        folder: Folder for the model.
        settings: The recipe; the defaults if None.

    Yields:
        Every training event and every measurement.
    """
    settings = settings or WorldSettings()
    yield from build(folder, settings)
    model, tokenizer = load(folder)
    shares = {}
    for found in measure(model, tokenizer):
        shares[found.name] = found.share
        yield found
    making = _statistics(model, settings)
    measured = {"shares": {name: round(share, 4) for name, share in shares.items()}, "making": making}
    (folder / MEASURED_FILE).write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(card(settings, shares, making), encoding="utf-8")


def load(folder: Path) -> tuple[Any, Any]:
    """Load the model in `folder`, in float32 and evaluation mode, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(str(folder))


def _statistics(model: Any, settings: WorldSettings) -> dict[str, Any]:
    """Return the statistics of a build: sizes, duration, losses in nats, and SHA-256 hashes."""
    history = history_of(settings)
    steps = len(history.losses)
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "tokens": tokens_of(settings),
        "steps": steps,
        "minutes": history.seconds / 60,
        "losses": {step: history.losses[step - 1] for step in LOSS_STEPS if step <= steps},
        "last_loss": history.last_loss(),
        "text_hash": text_hash(HASHED_CHUNKS),
        "tokenizer_hash": vocabulary.tokenizer_hash(vocabulary.train()),
    }


def table(shares: Mapping[str, float]) -> str:
    """Return the results as a Markdown table with targets; `shares` maps names in `WORLD_MEASURES` to mean scores."""
    lines = ["| measurement | target | result |", "|---|---|---|"]
    for name, measured in WORLD_MEASURES.items():
        if name in shares:
            bound = "<=" if measured.at_most else ">="
            target = "reported" if measured.target is None else f"{bound} {measured.target:.0%}"
            lines.append(f"| {measured.words} | {target} | {shares[name]:.1%} |")
    return "\n".join(lines) + "\n"


def card(settings: WorldSettings, shares: Mapping[str, float], making: Mapping[str, Any]) -> str:
    """Return the model card in Markdown, with front matter for model hubs.

    Args:
        settings: The recipe.
        shares: Measured shares by name.
        making: Statistics of the build.

    Returns:
        The text.
    """
    template = (assets() / "world" / "card.md").read_text(encoding="utf-8")
    return template.format(
        settings=settings,
        making=making,
        parameters=making["parameters"] / 1e6,
        tokens=making["tokens"] / 1e6,
        decay=100 * settings.decay_share,
        things=sum(map(len, ENTITIES.values())),
        facts=len(FACTS),
        stated=len(STATED),
        losses="\n".join(f"| {step:,} | {loss:.4f} |" for step, loss in sorted(making["losses"].items())),
        table=table(shares),
    )
