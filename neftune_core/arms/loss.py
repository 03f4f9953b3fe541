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
    """The cross-entropy and the hits of each arm on one batch.

    `sums` `[arms]`: nats summed over `tokens` response tokens, the same ones for every arm. `hits` `[arms, tokens]`:
    whether the most probable token, after the true ones before it, was the true one. `rows` `[tokens]`: the row of the
    batch that each token belongs to.
    """

    sums: Tensor
    tokens: int
    hits: Tensor
    rows: Tensor

    @property
    def means(self) -> Tensor:
        """Nats a response token, `[arms]`."""
        return self.sums / max(self.tokens, 1)

    @property
    def exact_rows(self) -> Tensor:
        """How many rows have all their response tokens right, `[arms]`: greedy answers would be exact."""
        misses = torch.zeros(len(self.sums), int(self.rows.max()) + 1 if self.tokens else 0, device=self.hits.device)
        misses.index_add_(1, self.rows, (~self.hits).float())
        present = torch.bincount(self.rows, minlength=misses.shape[1]) > 0
        return ((misses == 0) & present).sum(1)


def arm_losses(tree: nn.Module, batch: Batch, arms: int, *, backward_over: int = 0) -> ArmLosses:
    """The losses of `arms` active slots on one right-padded batch.

    With `backward_over` > 0 the gradient of (sum of each arm's loss) / `backward_over` is added to the adapters.
    Padding is on the right and the attention causal, so that no true token sees it and no mask is needed.
    """
    batch_size, length = batch.ids.shape
    targets, rows, where = _targets(batch)
    with torch.set_grad_enabled(backward_over > 0):
        hidden = body(tree)(input_ids=batch.ids.repeat(arms, 1), use_cache=False).last_hidden_state
        by_arm = hidden.view(arms, batch_size * length, hidden.shape[-1])
        predicting = by_arm[:, where].reshape(arms * len(targets), -1)
    labels = targets.repeat(arms)
    losses, hits, gradient = _in_pieces(tree, predicting.detach(), labels, backward_over)
    if gradient is not None:
        predicting.backward(gradient)
    return ArmLosses(losses.view(arms, -1).sum(1), len(targets), hits.view(arms, -1), rows)


def _targets(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The response tokens, their rows, and the flat places `[batch * length]` of the states that predict them."""
    _, length = batch.ids.shape
    rows, columns = torch.nonzero(batch.trained[:, 1:], as_tuple=True)
    return batch.ids[rows, columns + 1], rows, rows * length + columns


def _in_pieces(
    tree: nn.Module, hidden: Tensor, labels: Tensor, backward_over: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cross-entropy and hit of each position, and the gradient to `hidden` where one is asked for."""
    losses = torch.empty(len(labels), device=hidden.device)
    hits = torch.empty(len(labels), dtype=torch.bool, device=hidden.device)
    gradient = torch.empty_like(hidden) if backward_over else None
    for start in range(0, len(labels), PIECE):
        piece = slice(start, start + PIECE)
        leaf = hidden[piece].requires_grad_(backward_over > 0)
        with torch.set_grad_enabled(backward_over > 0):
            logits = head_logits(tree, leaf).float()
            loss = F.cross_entropy(logits, labels[piece], reduction="none")
        if gradient is not None:
            (gradient[piece],) = torch.autograd.grad(loss.sum() / backward_over, leaf)
        losses[piece] = loss.detach()
        hits[piece] = logits.detach().argmax(-1) == labels[piece]
    return losses, hits, gradient
