"""Consistency between a clean and a noisy pass (R3F, arXiv 2008.03156)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from neftune_core.engine.methods.method import Method
from neftune_core.engine.methods.several_passes import train_on_several
from neftune_core.language import later
from neftune_core.settings import setting

if TYPE_CHECKING:
    from torch import Tensor

    from neftune_core.engine.loss import MicroBatch, Sums
    from neftune_core.engine.methods.method import StepPasses
    from neftune_core.noise.batch import ArmNoise


def _clean_and_noisy(
    passes: StepPasses, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise], values: Mapping[int, float]
) -> dict[int, Sums]:
    """Train on the clean loss plus the symmetric KL divergence of the two predictions; `values` are its weights."""

    def weights(trained: Tensor, response: Tensor) -> list[Tensor]:
        """Return the weights of the terms, as described by `Weights`.

        Args:
            trained: Weights of the trained tokens, `[arms, positions]`.
            response: Whether each token belongs to the response, `[positions]`.

        Returns:
            `[arms, positions]`, for the clean loss and the divergence.
        """
        return [trained, trained.new_tensor([[values[slot]] for slot in arms]) * response]

    return train_on_several(passes, micro_batch, arms, [micro_batch], terms=_loss_and_divergence, weights=weights)


def _loss_and_divergence(loss: Tensor, logs: Sequence[Tensor]) -> list[Tensor]:
    """Return the loss, and KL(clean || noisy) + KL(noisy || clean)."""
    clean, noisy = logs
    return [loss, ((clean.exp() - noisy.exp()) * (clean - noisy)).sum(1)]


METHOD = Method(
    name="consistency",
    words=later("consistency"),
    setting=setting(
        None,
        "Weight of the symmetric KL divergence between the clean and the noisy prediction of each response token, "
        "added to the loss of the clean pass (R3F). Each step takes two passes.",
        minimum=0,
        maximum=100,
        step=0.1,
        label="Consistency of clean and noisy passes",
    ),
    example="0.1, 1",
    formula="loss(clean) + s * mean over response tokens of [KL(clean || noisy) + KL(noisy || clean)], with weight s",
    paper="arXiv 2008.03156",
    needs_noise=True,
    pass_count=2,
    passes=_clean_and_noisy,
)
