"""Decoupled weight decay (AdamW, arXiv 1711.05101); norms and biases are exempt."""

from __future__ import annotations

from neftune_core.engine.methods.method import Method
from neftune_core.language import later
from neftune_core.settings import setting

MOST_DECAY = 10.0

METHOD = Method(
    name="weight_decay",
    box="decays",
    words=later("weight decay"),
    setting=setting(None, "Decoupled weight decay, in place of the study's.", minimum=0, maximum=MOST_DECAY, step=0.01),
    example="0.05",
    formula="w <- (1 - learning rate * decay) w, before the AdamW update",
    paper="arXiv 1711.05101",
)
