"""All steps of `neftune world build`: pretrain, measure, and write the card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neftune_core.world.generator import vocabulary
from neftune_core.world.generator.text import text_hash
from neftune_core.world.pretraining import report
from neftune_core.world.pretraining.build import BuildEvent, build, history_of, tokens_of
from neftune_core.world.pretraining.measure import MeasureResult, measure
from neftune_core.world.pretraining.settings import WorldSettings

CARD_FILE = "README.md"
HASHED_CHUNKS = 10
LOSS_STEPS = (100, 500, 1_000, 2_000, 3_000, 4_000)


def make(folder: Path, settings: WorldSettings | None = None) -> Iterator[BuildEvent | MeasureResult]:
    """Build the model, measure it and write its card.

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
    made = _build_report(model, settings)
    report.write_results(folder, shares, made)
    (folder / CARD_FILE).write_text(report.card(settings, shares, made), encoding="utf-8")


def load(folder: Path) -> tuple[Any, Any]:
    """Load the model in `folder`, in float32 and evaluation mode, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(str(folder))


def _build_report(model: Any, settings: WorldSettings) -> report.BuildReport:
    """Collect the statistics of a build from the stored history of its run."""
    history = history_of(settings)
    steps = len(history.losses)
    return report.BuildReport(
        parameters=sum(weight.numel() for weight in model.parameters()),
        tokens=tokens_of(settings),
        steps=steps,
        minutes=history.seconds / 60,
        losses={step: history.losses[step - 1] for step in LOSS_STEPS if step <= steps},
        last_loss=history.last_loss(),
        text_hash=text_hash(HASHED_CHUNKS),
        tokenizer_hash=vocabulary.tokenizer_hash(vocabulary.train()),
    )
