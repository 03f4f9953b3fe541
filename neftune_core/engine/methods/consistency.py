"""Consistency between a clean and a noisy pass (R3F, arXiv 2008.03156)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from neftune_core.engine.methods.method import Method
from neftune_core.language import later
from neftune_core.settings import setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neftune_core.engine.loss import MicroBatch, Sums
    from neftune_core.engine.methods.method import StepPasses
    from neftune_core.noise.batch import ArmNoise

PIECE = 128
"""Positions whose logits of all passes are in memory at once."""

Objective = Callable[["Tensor", Sequence["Tensor"], slice], "Tensor"]
"""Gets the clean cross-entropy, the log-probabilities of each pass, and the positions of both among all."""


def clean_and_noisy(
    passes: StepPasses, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise], weights: Mapping[int, float]
) -> dict[int, Sums]:
    """Train on the clean pass, and on the symmetric KL divergence between the clean and the noisy prediction.

    Both passes have the same dropout masks, and both get gradients.

    Args:
        passes: Runs the passes.
        micro_batch: The rows.
        arms: Noise by slot.
        weights: Weight of the divergence by slot.

    Returns:
        The cross-entropy of the clean pass by slot.
    """
    import torch

    from neftune_core.engine.loss import Labels, predicting_states

    batch, count = micro_batch.batch, len(arms)
    ones = torch.ones(count, len(batch.predicting), device=batch.ids.device)
    labels = passes.labels(micro_batch, list(arms)) or Labels(batch.predicting, ones)
    silent = {slot: replace(arm, multiplier=0.0) for slot, arm in arms.items()}
    with passes.running(micro_batch, silent) as tree:
        clean = predicting_states(tree, batch, count, labels.predicting)
    with passes.running(micro_batch, arms) as tree:
        noisy = predicting_states(tree, batch, count, labels.predicting)
        response = batch.trained.flatten()[labels.predicting + 1]
        divergence = torch.tensor([[weights[slot]] for slot in arms], device=response.device) * response
        shares = torch.stack([labels.weights, divergence]).flatten(1) * (passes.scale / micro_batch.tokens)
        targets = batch.ids.flatten()[labels.predicting + 1].repeat(count)
        losses, gradients = in_pieces(tree, (clean, noisy), targets, partial(_loss_and_divergence, shares))
        torch.autograd.backward([clean, noisy], gradients)
    sums = losses.view(count, -1)[:, response].sum(1)
    return {slot: {"loss": total} for slot, total in zip(arms, sums, strict=True)}


def _loss_and_divergence(shares: Tensor, loss: Tensor, logs: Sequence[Tensor], piece: slice) -> Tensor:
    """Return the loss plus KL(clean | noisy) + KL(noisy | clean), each times its share."""
    clean, noisy = logs
    divergence = ((clean.exp() - noisy.exp()) * (clean - noisy)).sum(1)
    return shares[0, piece] * loss + shares[1, piece] * divergence


def in_pieces(
    tree: nn.Module, states: Sequence[Tensor], targets: Tensor, objective: Objective
) -> tuple[Tensor, list[Tensor]]:
    """Compute the gradients to the hidden states of several passes; a trained head gets its own.

    Args:
        tree: The module tree, with the slots active.
        states: Hidden states of the passes, the clean one first, each `[positions, width]`.
        targets: The next token of each position.
        objective: What each position adds to the gradient.

    Returns:
        The clean cross-entropy of each position, and the gradient to each of the states.
    """
    import torch

    from neftune_core.models.architecture.anatomy import head_logits

    losses, gradients = torch.empty(len(targets), device=targets.device), [torch.empty_like(one) for one in states]
    for start in range(0, len(targets), PIECE):
        piece = slice(start, start + PIECE)
        leaves = [one[piece].detach().requires_grad_() for one in states]
        logs = [torch.log_softmax(head_logits(tree, leaf).float(), dim=-1) for leaf in leaves]
        loss = -logs[0].gather(1, targets[piece, None])[:, 0]
        objective(loss, logs, piece).sum().backward()
        losses[piece] = loss.detach()
        for gradient, leaf in zip(gradients, leaves, strict=True):
            gradient[piece] = cast("Tensor", leaf.grad)
    return losses, gradients


METHOD = Method(
    name="consistency",
    words=later("consistency"),
    setting=setting(
        None,
        "Weight of the symmetric KL divergence between the clean and the noisy prediction of each response token, "
        "added to the loss of the clean pass (R3F). It takes two passes.",
        minimum=0,
        maximum=100,
        step=0.1,
        label="Consistency of clean and noisy passes",
    ),
    example="0.1, 1",
    formula="loss(clean) + weight * mean over response tokens of KL(clean | noisy) + KL(noisy | clean)",
    paper="arXiv 2008.03156",
    needs_noise=True,
    pass_count=2,
    passes=clean_and_noisy,
)
