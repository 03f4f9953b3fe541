"""Training on a clean pass and noisy passes at once, for methods that compare their predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from neftune_core.models.architecture.anatomy import head_logits

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neftune_core.engine.loss import MicroBatch, Sums
    from neftune_core.engine.methods.method import StepPasses
    from neftune_core.noise.batch import ArmNoise

PIECE = 128
"""Number of positions whose logits, in all passes, are in memory at once."""

Terms = Callable[["Tensor", Sequence["Tensor"]], Sequence["Tensor"]]
"""Computes the loss terms, `[positions]` each. The arguments are the clean cross-entropy, `[positions]`, and the
log-probabilities of each pass, `[positions, vocabulary]`."""
Weights = Callable[["Tensor", "Tensor"], Sequence["Tensor"]]
"""Computes the weights of each term, `[arms, positions]` or a shape that expands to it. The arguments are the weights
of the trained tokens, `[arms, positions]`, and whether each token belongs to the response, `[positions]`."""


def train_on_several(
    passes: StepPasses,
    micro_batch: MicroBatch,
    arms: Mapping[int, ArmNoise],
    noisy: Sequence[MicroBatch],
    *,
    terms: Terms,
    weights: Weights,
) -> dict[int, Sums]:
    """Run the clean and the noisy passes, and accumulate the gradients of a weighted sum of loss terms.

    All passes have the same dropout masks, and gradients flow through all of them.

    Args:
        passes: Runs the passes.
        micro_batch: The rows.
        arms: Noise by slot.
        noisy: The rows of each noisy pass; the keys of these rows determine the draw of that pass.
        terms: Computes the loss terms.
        weights: Computes the weights of the terms.

    Returns:
        The cross-entropy of the clean pass by slot.
    """
    import torch

    from neftune_core.engine.loss import Labels, predicting_states

    batch, count = micro_batch.batch, len(arms)
    ones = torch.ones(count, len(batch.predicting), device=batch.ids.device)
    labels = passes.labels(micro_batch, list(arms)) or Labels(batch.predicting, ones)
    response = batch.trained.flatten()[labels.predicting + 1]
    targets = batch.ids.flatten()[labels.predicting + 1].repeat(count)
    shares = torch.stack([term.expand(count, -1) for term in weights(labels.weights, response)]).flatten(1)
    shares *= passes.scale / micro_batch.tokens
    silent = {slot: replace(arm, multiplier=0.0) for slot, arm in arms.items()}
    states = []
    for rows, noise in [(micro_batch, silent), *((rows, arms) for rows in noisy)]:
        with passes.running(rows, noise) as tree:
            states.append(predicting_states(tree, batch, count, labels.predicting))
            if len(states) > len(noisy):
                losses, gradients = _in_pieces(tree, states, targets, shares, terms)
                torch.autograd.backward(states, gradients)
    sums = losses.view(count, -1)[:, response].sum(1)
    return {slot: {"loss": total} for slot, total in zip(arms, sums, strict=True)}


def _in_pieces(
    tree: nn.Module, states: Sequence[Tensor], targets: Tensor, shares: Tensor, terms: Terms
) -> tuple[Tensor, list[Tensor]]:
    """Return the clean cross-entropy of each position and the gradients of `states`.

    The gradient of a trained head accumulates.
    """
    import torch

    losses, gradients = torch.empty(len(targets), device=targets.device), [torch.empty_like(one) for one in states]
    for start in range(0, len(targets), PIECE):
        piece = slice(start, start + PIECE)
        leaves = [one[piece].detach().requires_grad_() for one in states]
        logs = [torch.log_softmax(head_logits(tree, leaf).float(), dim=-1) for leaf in leaves]
        loss = -logs[0].gather(1, targets[piece, None])[:, 0]
        weighted = [share[piece] * term for share, term in zip(shares, terms(loss, logs), strict=True)]
        sum(weighted[1:], start=weighted[0]).sum().backward()
        losses[piece] = loss.detach()
        for gradient, leaf in zip(gradients, leaves, strict=True):
            gradient[piece] = cast("Tensor", leaf.grad)
    return losses, gradients
