"""The loss of every arm on its response tokens, head and loss in pieces.

Logits are made only where there is a label, a piece at a time, and the gradient to the hidden states is taken
at once, so that a vocabulary's worth of logits never stays in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neftune_core.data.batches import Batch
from neftune_core.models.anatomy import body, head_logits

PIECE = 128


@dataclass(frozen=True)
class ArmLosses:
    """`sums` `[arms]`: cross-entropy in nats summed over `tokens` response tokens, the same for every arm."""

    sums: Tensor
    tokens: int

    @property
    def means(self) -> Tensor:
        """Nats a response token, `[arms]`."""
        return self.sums / max(self.tokens, 1)


def arm_losses(tree: nn.Module, batch: Batch, arms: int, *, backward_over: int = 0) -> ArmLosses:
    """The losses of `arms` active slots on one right-padded batch.

    With `backward_over` > 0 the gradient of (sum of each arm's loss) / `backward_over` is added to the adapters.
    Padding is on the right and the attention causal, so that no true token sees it and no mask is needed.
    """
    batch_size, length = batch.ids.shape
    targets, where = _targets(batch)
    with torch.set_grad_enabled(backward_over > 0):
        hidden = body(tree)(input_ids=batch.ids.repeat(arms, 1), use_cache=False).last_hidden_state
        by_arm = hidden.view(arms, batch_size * length, hidden.shape[-1])
        predicting = by_arm[:, where].reshape(arms * len(targets), -1)
    labels = targets.repeat(arms)
    losses, gradient = _in_pieces(tree, predicting.detach(), labels, backward_over)
    if gradient is not None:
        predicting.backward(gradient)
    return ArmLosses(losses.view(arms, -1).sum(1), len(targets))


def _targets(batch: Batch) -> tuple[Tensor, Tensor]:
    """The response tokens, and the flat positions `[batch * length]` of the hidden states that predict them."""
    _, length = batch.ids.shape
    rows, columns = torch.nonzero(batch.trained[:, 1:], as_tuple=True)
    return batch.ids[rows, columns + 1], rows * length + columns


def _in_pieces(tree: nn.Module, hidden: Tensor, labels: Tensor, backward_over: int) -> tuple[Tensor, Tensor | None]:
    """Cross-entropy of each position, and the gradient to `hidden` where one is asked for."""
    losses = torch.empty(len(labels), device=hidden.device)
    gradient = torch.empty_like(hidden) if backward_over else None
    for start in range(0, len(labels), PIECE):
        piece = slice(start, start + PIECE)
        leaf = hidden[piece].requires_grad_(backward_over > 0)
        with torch.set_grad_enabled(backward_over > 0):
            loss = F.cross_entropy(head_logits(tree, leaf).float(), labels[piece], reduction="none")
        if gradient is not None:
            (gradient[piece],) = torch.autograd.grad(loss.sum() / backward_over, leaf)
        losses[piece] = loss.detach()
    return losses, gradient
