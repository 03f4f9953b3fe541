"""The loss of every arm on its response tokens, head and loss in pieces.

Logits are made only where there is a label, a piece at a time, and the gradient to the hidden states is taken
at once, so that a vocabulary's worth of logits never stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from neftune_core.data.batches import Batch
from neftune_core.engine.armset import ArmSet
from neftune_core.models.anatomy import body, encoded_source, head_logits
from neftune_core.noise.batch import BatchNoise

PIECE_BYTES = 2**25
"""Logits that are in memory at once: in larger pieces a processor asks the system for fresh memory each time."""
LEAST_PIECE, MOST_PIECE = 64, 256
"""Positions: the product with the head is slow with fewer, and no faster with more."""
TRAINED_PIECE = 512
"""The same for a head that is trained: each piece adds a gradient as large as the head."""
CHUNK = 32
"""Positions whose float32 scores are in memory at once on a processor: they stay in its cache."""


@dataclass(frozen=True)
class ArmLosses:
    """The cross-entropy and the hits of each arm on one batch.

    `sums` `[arms]`: nats summed over `tokens` response tokens, the same ones for every arm. `hits` `[arms, tokens]`:
    whether the most probable token, after the true ones before it, was the true one. `rows` `[tokens]`: the row of the
    batch that each token belongs to. `each` `[arms, tokens]`: the cross-entropy of each token. `gradients`: those that
    were asked for, in their order.
    """

    sums: Tensor
    tokens: int
    hits: Tensor
    rows: Tensor
    each: Tensor
    gradients: tuple[Tensor, ...] = ()

    @property
    def means(self) -> Tensor:
        """Nats a response token, `[arms]`."""
        return self.sums / max(self.tokens, 1)

    def by_row(self, values: Tensor, rows: int) -> Tensor:
        """`values` `[arms, tokens]` summed over the tokens of each of the batch's `rows`, `[arms, rows]` float64."""
        found = torch.zeros(len(values), rows, dtype=torch.float64, device=values.device)
        return found.index_add_(1, self.rows, values.double())


def arm_losses(
    tree: nn.Module,
    batch: Batch,
    arms: int,
    *,
    backward_over: float = 0,
    weights: Sequence[float] | None = None,
    gradients_of: Sequence[Tensor] = (),
) -> ArmLosses:
    """The losses of `arms` active slots on one right-padded batch.

    With `backward_over` > 0 the gradient of (sum of each arm's loss, times its weight where there are `weights`) /
    `backward_over` is added to all that is trained. Where `gradients_of` names tensors that the pass goes through, the
    gradients to them come back instead and what is trained gets none.
    Padding is on the right and the attention causal, so that no true token sees it and no mask is needed; only an
    encoder, which looks both ways, gets one.
    """
    batch_size, length = batch.ids.shape
    targets, rows, where = _targets(batch)
    with torch.set_grad_enabled(backward_over > 0):
        source = _source(tree, batch, arms)
        hidden = body(tree)(input_ids=batch.ids.repeat(arms, 1), use_cache=False, **source).last_hidden_state
        by_arm = hidden.view(arms, batch_size * length, hidden.shape[-1])
        predicting = by_arm[:, where].reshape(arms * len(targets), -1)
    labels = targets.repeat(arms)
    shares = (
        None if weights is None else labels.new_tensor(weights, dtype=torch.float32).repeat_interleave(len(targets))
    )
    losses, hits, gradient = _in_pieces(
        tree, predicting.detach(), labels, _Backward(backward_over, shares, into_head=not gradients_of)
    )
    found: tuple[Tensor, ...] = ()
    if gradient is not None and gradients_of:
        found = torch.autograd.grad(predicting, list(gradients_of), gradient)
    elif gradient is not None:
        predicting.backward(gradient)
    each = losses.view(arms, -1)
    return ArmLosses(each.sum(1), len(targets), hits.view(arms, -1), rows, each, found)


def _source(tree: nn.Module, batch: Batch, arms: int) -> dict[str, Tensor]:
    """What the decoder reads beside its own tokens: nothing, or the encoder's states of every arm."""
    if batch.source is None or batch.source_lengths is None:
        return {}
    places = torch.arange(batch.source.shape[1], device=batch.source.device)
    mask = (places < batch.source_lengths[:, None]).long()
    return encoded_source(tree, batch.source.repeat(arms, 1), mask.repeat(arms, 1))


def _targets(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The response tokens, their rows, and the flat places `[batch * length]` of the states that predict them."""
    _, length = batch.ids.shape
    rows, columns = torch.nonzero(batch.trained[:, 1:], as_tuple=True)
    return batch.ids[rows, columns + 1], rows, rows * length + columns


@dataclass(frozen=True)
class _Backward:
    """The gradient to take: by what the loss is divided (0 takes none), the weight of each position's loss, if any,
    and whether a head that is trained gets its share."""

    over: float
    shares: Tensor | None
    into_head: bool

    def of(self, piece: slice) -> Tensor | float:
        """The gradient to the losses of the positions in `piece`: `[positions, 1]`, or one number for all."""
        return 1 / self.over if self.shares is None else self.shares[piece, None] / self.over

    def take(self, logits: Tensor, gradient: Tensor, leaf: Tensor) -> Tensor:
        """From the gradient to `logits` to the one to `leaf`; one into the head is added to what is there."""
        if not self.into_head:
            return torch.autograd.grad(logits, leaf, gradient)[0]
        logits.backward(gradient)
        return cast(Tensor, leaf.grad)


def _in_pieces(
    tree: nn.Module, hidden: Tensor, labels: Tensor, backward: _Backward
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cross-entropy and hit of each position, and the gradient to `hidden` where one is asked for.

    The gradient to the logits is written by hand: the general way fills and reads three more tensors of their size.
    """
    losses = torch.empty(len(labels), device=hidden.device)
    hits = torch.empty(len(labels), dtype=torch.bool, device=hidden.device)
    gradient = torch.empty_like(hidden) if backward.over else None
    size = _piece_of(tree, hidden, is_backward=backward.over > 0)
    for start in range(0, len(labels), size):
        piece = slice(start, start + size)
        leaf = hidden[piece].detach().requires_grad_(backward.over > 0)
        with torch.set_grad_enabled(backward.over > 0):
            logits = head_logits(tree, leaf)
        into_logits = None if gradient is None else torch.empty_like(logits)
        chunk = CHUNK if hidden.device.type == "cpu" else size
        for first in range(0, len(logits), chunk):
            part = slice(first, first + chunk)
            here = slice(start + first, start + min(first + chunk, len(logits)))
            scores, at = torch.log_softmax(logits.detach()[part].float(), dim=-1), labels[here, None]
            losses[here], hits[here] = -scores.gather(1, at)[:, 0], scores.argmax(-1) == labels[here]
            if into_logits is not None:  # probabilities, less one at the label
                into_logits[part] = (
                    scores.exp_().scatter_add_(1, at, -torch.ones_like(at, dtype=scores.dtype)).mul_(backward.of(here))
                )
        if gradient is not None and into_logits is not None:
            gradient[piece] = backward.take(logits, into_logits, leaf)
    return losses, hits, gradient


def _piece_of(tree: nn.Module, hidden: Tensor, *, is_backward: bool) -> int:
    """How many positions go through the head at once."""
    head: Tensor = tree.get_output_embeddings().weight  # type: ignore[operator]
    if is_backward and head.requires_grad:  # it is trained
        return TRAINED_PIECE
    return min(max(PIECE_BYTES // (head.shape[0] * hidden.element_size()), LEAST_PIECE), MOST_PIECE)


def clean_losses(
    arms: ArmSet,
    batch: Batch,
    slots: Sequence[int],
    *,
    noise: BatchNoise | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ArmLosses:
    """The losses of `slots` without gradients or dropout, as many at once as `arms` takes; with `noise` where given."""
    found = []
    for group in arms.groups(slots, batch.ids.numel()):
        own = noise and replace(noise, arms=[noise.arms[slots.index(slot)] for slot in group])
        with torch.no_grad(), arms.running(group, noise=own, should_stop=should_stop) as tree:
            found.append(arm_losses(tree, batch, len(group)))
    sums, hits, each = (torch.cat([getattr(losses, name) for losses in found]) for name in ("sums", "hits", "each"))
    return replace(found[0], sums=sums, hits=hits, each=each)
