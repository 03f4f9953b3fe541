"""The loss of every arm on the response tokens, with head and loss computed in chunks.

Logits are computed only at labelled positions, one chunk at a time, together with the gradient with respect to the
hidden states. The full logits are never in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from neftune_core.data.batches import Batch
from neftune_core.data.chat import EncodedExample
from neftune_core.engine.armset import ArmSet
from neftune_core.models.architecture.anatomy import body, encoded_source, head_logits
from neftune_core.noise.batch import BatchNoise, Rows, to_device

PIECE_BYTES = 2**25
"""Bytes of logits per chunk. For larger chunks, the CPU allocator requests new memory from the system each time."""
LEAST_PIECE, MOST_PIECE = 64, 256
"""Bounds on the number of positions per chunk. Smaller chunks slow down the product with the head, and larger ones do
not speed it up."""
TRAINED_PIECE = 512
"""Positions per chunk if the head is trained, since each chunk then computes a gradient of the size of the head."""
CHUNK, CHUNK_NUMBERS = 32, 2**20
"""Bounds on the positions and on the float32 log-probabilities that a CPU computes at once, so that they fit in its
cache. The bound that allows more positions applies."""


Sums = dict[str, Tensor]
"""Losses of one arm summed over the response tokens: `loss`, and for adversarial noise also `first_draw_loss`, the loss
before the ascent."""


def losses_per_token(
    slots: Iterable[int], sums: Sequence[tuple[int, str, Tensor]], tokens: int
) -> dict[int, dict[str, Any]]:
    """Return the losses per token.

    All sums are transferred at once, so that the device is synchronised only once.

    Args:
        slots: Slots to report; a slot without sums has no losses.
        sums: Sums of losses as `(slot, name in Sums, sum)`; entries of the same slot and name are added.
        tokens: Number of tokens.

    Returns:
        The losses by slot and name.
    """
    found: dict[int, dict[str, Any]] = {slot: {} for slot in slots}
    read = torch.stack([total for _, _, total in sums]).tolist() if sums else []
    for (slot, name, _), total in zip(sums, read, strict=True):
        found[slot][name] = found[slot].get(name, 0.0) + total / tokens
    return found


@dataclass(frozen=True)
class MicroBatch:
    """All or some of the rows of a step, which go through the model together.

    Attributes:
        rows: Properties of the rows that noise depends on, by component.
        tokens: Number of response tokens in the whole step, the divisor of the gradient.
        seed: `(study seed, step, number of the micro-batch)`, the key of the dropout masks.
        step_rows: All rows of the step, including those of its other micro-batches.
    """

    batch: Batch
    rows: Mapping[str, Rows]
    tokens: int
    seed: tuple[int, ...]
    step_rows: Sequence[EncodedExample] = ()

    @cached_property
    def prompt_tokens(self) -> int:
        """Number of untrained tokens in the whole step, excluding special tokens and the first token of each row."""
        return sum(int((~row.trained[1:] & ~np.isin(row.ids[1:], list(row.special))).sum()) for row in self.step_rows)


@dataclass(frozen=True)
class ArmLosses:
    """Cross-entropy and accuracy of each arm on one batch.

    Attributes:
        sums: Nats summed over the response tokens, `[arms]`.
        tokens: Number of response tokens, equal for all arms.
        hits: Whether the target token was the most probable, bool `[arms, tokens]`.
        rows: Row index of each token, `[tokens]`.
        each: Cross-entropy of each token in nats, `[arms, tokens]`.
        gradients: The requested gradients, in the order of the request.
    """

    sums: Tensor
    tokens: int
    hits: Tensor
    rows: Tensor
    each: Tensor
    gradients: tuple[Tensor, ...] = ()

    @property
    def means(self) -> Tensor:
        """Nats per response token, `[arms]`."""
        return self.sums / max(self.tokens, 1)

    def by_row(self, values: Tensor, rows: int) -> Tensor:
        """Sum values per row of the batch.

        Args:
            values: One value per token, `[arms, tokens]`.
            rows: Number of rows.

        Returns:
            `[arms, rows]` float64.
        """
        found = torch.zeros(len(values), rows, dtype=torch.float64, device=values.device)
        return found.index_add_(1, self.rows, values.double())


@dataclass(frozen=True)
class Labels:
    """The tokens to train on and their weights, if these differ from the response tokens at weight 1.

    Attributes:
        predicting: Positions in `[batch * length]` whose next token is trained on, `[targets]` int64.
        weights: Weight of each token in the summed loss, `[arms, targets]` (for one arm, `[targets]`) float32.
    """

    predicting: Tensor
    weights: Tensor


def arm_losses(
    tree: nn.Module,
    batch: Batch,
    arms: int,
    *,
    backward_over: float = 0,
    weights: Sequence[float] | None = None,
    gradients_of: Sequence[Tensor] = (),
    labels: Labels | None = None,
) -> ArmLosses:
    """Compute the losses of the active slots on one right-padded batch, and optionally gradients.

    Causal attention never reaches the padding on the right, so only encoders get an attention mask.

    Args:
        tree: The module tree, with the slots active.
        batch: The collated rows.
        arms: Number of active slots.
        backward_over: The gradient is that of the summed losses divided by this number; if 0, no gradient is computed.
        weights: Weight of each arm's loss in the gradient; None for 1.
        gradients_of: Tensors to differentiate with respect to. Their gradients are returned, and trained tensors get
            none. If empty, gradients accumulate on the trained tensors.
        labels: Tokens to train on; None for the response tokens. The returned losses only cover response tokens.

    Returns:
        The losses, and the gradients if `gradients_of` is given.

    Raises:
        ModelError: If the structure of the model is not supported.
    """
    where = batch.predicting if labels is None else labels.predicting
    targets, rows = batch.ids.flatten()[where + 1], where // batch.ids.shape[1]
    with torch.set_grad_enabled(backward_over > 0):
        predicting = predicting_states(tree, batch, arms, where)
    shares = None if weights is None else to_device(torch.tensor(weights, dtype=torch.float32), targets.device)[:, None]
    if labels is not None:
        shares = labels.weights if shares is None else shares * labels.weights
    flat_shares = None if shares is None else shares.expand(-1, len(targets)).flatten()
    losses, hits, gradient = _in_pieces(
        tree, predicting.detach(), targets.repeat(arms), backward_over, flat_shares, into_head=not gradients_of
    )
    found: tuple[Tensor, ...] = ()
    if gradient is not None and gradients_of:
        found = torch.autograd.grad(predicting, list(gradients_of), gradient)
    elif gradient is not None:
        predicting.backward(gradient)
    each, hit = losses.view(arms, -1), hits.view(arms, -1)
    if labels is not None:
        response = batch.trained.flatten()[where + 1]
        each, hit, rows = each[:, response], hit[:, response], rows[response]
    return ArmLosses(each.sum(1), len(rows), hit, rows, each, found)


def predicting_states(tree: nn.Module, batch: Batch, arms: int, where: Tensor) -> Tensor:
    """Run the layers and return the hidden states at the given positions.

    Args:
        tree: The module tree, with the slots active.
        batch: The collated rows.
        arms: Number of active slots.
        where: Positions in `[batch * length]`, `[targets]` int64.

    Returns:
        `[arms * targets, width]`, arm by arm.

    Raises:
        ModelError: If the structure of the model is not supported.
    """
    source = _source(tree, batch, arms)
    hidden = body(tree)(input_ids=batch.ids.repeat(arms, 1), use_cache=False, **source).last_hidden_state
    by_arm = hidden.view(arms, batch.ids.numel(), hidden.shape[-1])
    return by_arm[:, where].reshape(arms * len(where), -1)


def _source(tree: nn.Module, batch: Batch, arms: int) -> dict[str, Tensor]:
    """Return the decoder's extra inputs: the encoder states of every arm, or nothing for a causal model."""
    if batch.source is None or batch.source_lengths is None:
        return {}
    positions = torch.arange(batch.source.shape[1], device=batch.source.device)
    mask = (positions < batch.source_lengths[:, None]).long()
    return encoded_source(tree, batch.source.repeat(arms, 1), mask.repeat(arms, 1))


def _in_pieces(
    tree: nn.Module, hidden: Tensor, labels: Tensor, over: float, shares: Tensor | None, *, into_head: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return per position the cross-entropy and whether the label is ranked first, and the gradient of `hidden`.

    The gradient is that of the summed losses, weighted by `shares` and divided by `over`; None if `over` is 0.
    With `into_head`, the gradient of a trained head accumulates. The gradient with respect to the logits is written by
    hand, because autograd would allocate three more tensors of the size of the logits.
    """
    losses = torch.empty(len(labels), device=hidden.device)
    hits = torch.empty(len(labels), dtype=torch.bool, device=hidden.device)
    gradient = torch.empty_like(hidden) if over else None
    size = _piece_size(tree, hidden, is_backward=over > 0)
    for start in range(0, len(labels), size):
        piece = slice(start, start + size)
        leaf = hidden[piece].detach().requires_grad_(over > 0)
        with torch.set_grad_enabled(over > 0):
            logits = head_logits(tree, leaf)
        into_logits = None if gradient is None else torch.empty_like(logits)
        chunk = max(CHUNK, CHUNK_NUMBERS // logits.shape[-1]) if hidden.device.type == "cpu" else size
        for first in range(0, len(logits), chunk):
            part = slice(first, first + chunk)
            here = slice(start + first, start + min(first + chunk, len(logits)))
            scores, at = torch.log_softmax(logits.detach()[part].float(), dim=-1), labels[here, None]
            losses[here], hits[here] = -scores.gather(1, at)[:, 0], scores.argmax(-1) == labels[here]
            if into_logits is not None:  # probabilities minus the one-hot label
                weight = 1 / over if shares is None else shares[here, None] / over
                into_logits[part] = (
                    scores.exp_().scatter_add_(1, at, -torch.ones_like(at, dtype=scores.dtype)).mul_(weight)
                )
        if gradient is None or into_logits is None:
            continue
        if into_head:
            logits.backward(into_logits)
            gradient[piece] = cast(Tensor, leaf.grad)
        else:
            gradient[piece] = torch.autograd.grad(logits, leaf, into_logits)[0]
    return losses, hits, gradient


def _piece_size(tree: nn.Module, hidden: Tensor, *, is_backward: bool) -> int:
    head: Tensor = tree.get_output_embeddings().weight  # type: ignore[operator]
    if is_backward and head.requires_grad:
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
    """Compute losses without gradients or dropout, in as few passes as `ArmSet.groups` allows.

    Args:
        arms: The set of arms.
        batch: The collated rows.
        slots: The slots to measure.
        noise: Noise of each slot, in the order of `slots`.
        should_stop: Polled before every layer.

    Returns:
        The losses of every slot.

    Raises:
        ModelError: If the structure of the model is not supported.
    """
    found = []
    for group in arms.groups(slots, batch.ids.numel()):
        own = noise and replace(noise, arms=[noise.arms[slots.index(slot)] for slot in group])
        with torch.no_grad(), arms.running(group, noise=own, should_stop=should_stop) as tree:
            found.append(arm_losses(tree, batch, len(group)))
    sums, hits, each = (torch.cat([getattr(losses, name) for losses in found]) for name in ("sums", "hits", "each"))
    return replace(found[0], sums=sums, hits=hits, each=each)
