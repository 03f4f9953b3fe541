"""Adapter dropout (arXiv 2106.09685): dropout on the input of the adapters."""

from __future__ import annotations

from neftune_core.engine.methods.method import Method
from neftune_core.language import later
from neftune_core.settings import setting

MOST_DROPOUT = 0.95

METHOD = Method(
    name="lora_dropout",
    box="dropouts",
    words=later("adapter dropout"),
    setting=setting(
        None,
        "Dropout on the adapters' input, in place of the study's; all arms share the same masks.",
        minimum=0,
        maximum=MOST_DROPOUT,
        step=0.05,
        label="Adapter dropout",
    ),
    example="0.1, 0.3",
    formula="W x + (alpha / r) B A (x * mask / (1 - p)), mask ~ Bernoulli(1 - p)",
    paper="arXiv 2106.09685",
    needs_adapters=True,
)
