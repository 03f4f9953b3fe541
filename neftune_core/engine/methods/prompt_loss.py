"""Weighted loss on the prompt. Weight 1 is instruction modelling (arXiv 2405.14394)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neftune_core.engine.methods.method import Method
from neftune_core.language import later
from neftune_core.settings import setting

if TYPE_CHECKING:
    from neftune_core.engine.loss import Labels, MicroBatch


def _prompt_weights(weight: float, micro_batch: MicroBatch) -> Labels:
    """Return the targets of a weighted mean, in which response tokens have weight 1 and prompt tokens `weight`.

    Prompt tokens are all untrained tokens except special tokens, padding and the first token of a row. The engine
    divides by the number of response tokens in the step, and the returned weights compensate for that.
    """
    import torch

    from neftune_core.engine.loss import Labels

    batch, tokens = micro_batch.batch, micro_batch.tokens
    positions = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    prompt = (positions < batch.lengths[:, None]) & ~batch.trained & ~batch.special
    targets = prompt | batch.trained
    targets[:, 0] = False
    predicting = targets.flatten().nonzero()[:, 0] - 1
    is_prompt = prompt.flatten()[predicting + 1]
    share = tokens / (tokens + weight * micro_batch.prompt_tokens)
    return Labels(predicting, torch.where(is_prompt, weight * share, share).float())


METHOD = Method(
    name="prompt_loss",
    words=later("prompt loss"),
    setting=setting(
        None,
        "Weight of the loss on prompt tokens, which are otherwise not trained on; 1 is instruction modelling.",
        minimum=0,
        maximum=10,
        step=0.05,
        label="Loss on the prompt",
    ),
    example="0.1, 1",
    formula="(response loss + s * prompt loss) / (response tokens + s * prompt tokens), with weight s; losses are sums",
    paper="arXiv 2405.14394",
    causal_only=True,
    token_weights=_prompt_weights,
)
