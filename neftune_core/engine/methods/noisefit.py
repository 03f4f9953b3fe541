"""The loss of NoiseFiT (arXiv 2504.03302): one clean and two noisy passes, as in the authors' code.

The noise of the paper (Gaussian, on a few layers chosen by signal-to-noise ratio, scaled per token) is not implemented.
The noise of the arm is used instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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

BETWEEN = 0.1
"""Weight of the divergence between the two noisy passes, as in the authors' code."""
SECOND_DRAW = 1 << 20
"""Offset of the epoch in the key of the second draw, larger than the number of epochs in any run."""


def _clean_and_two_noisy(
    passes: StepPasses, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise], values: Mapping[int, float]
) -> dict[int, Sums]:
    """Train on a weighted sum of the clean cross-entropy and two divergences.

    The clean cross-entropy has weight `1 - s`, with `s` from `values`. The mean KL divergence between the clean pass
    and each noisy pass has weight `s`. The KL divergence between the two noisy passes, whose noise is drawn
    independently, has weight `BETWEEN`.
    """

    def weights(trained: Tensor, response: Tensor) -> list[Tensor]:
        """Return the weights of the terms, as described by `Weights`.

        Args:
            trained: Weights of the trained tokens, `[arms, positions]`.
            response: Whether each token belongs to the response, `[positions]`.

        Returns:
            One weight per term, each of a shape that expands to `[arms, positions]`.
        """
        share = trained.new_tensor([[values[slot]] for slot in arms])
        return [(1 - share) * trained, share * response, BETWEEN * response]

    noisy = [micro_batch, _redrawn(micro_batch)]
    return train_on_several(passes, micro_batch, arms, noisy, terms=_divergences, weights=weights)


def _redrawn(micro_batch: MicroBatch) -> MicroBatch:
    """Return the rows with the keys of a second, independent draw."""
    rows = {
        part: replace(found, keys=[(seed, epoch + SECOND_DRAW, example) for seed, epoch, example in found.keys])
        for part, found in micro_batch.rows.items()
    }
    return replace(micro_batch, rows=rows)


def _divergences(loss: Tensor, logs: Sequence[Tensor]) -> list[Tensor]:
    """Return the loss, the mean of KL(clean || first) and KL(clean || second), and KL(second || first)."""
    clean, first, second = logs
    soft = (clean.exp() * (clean - 0.5 * (first + second))).sum(1)
    return [loss, soft, (second.exp() * (second - first)).sum(1)]


METHOD = Method(
    name="noisefit",
    words=later("NoiseFiT loss"),
    setting=setting(
        None,
        "Weight of the mean KL divergence between the clean and two noisy predictions (NoiseFiT). The clean loss gets "
        "the remaining weight, and 0.1 times the divergence between the noisy predictions is added. Each step takes "
        "three passes.",
        minimum=0,
        maximum=1,
        step=0.05,
        label="NoiseFiT loss",
    ),
    example="0.5",
    formula="(1 - s) loss(clean) + s [KL(clean || noisy_1) + KL(clean || noisy_2)] / 2 + 0.1 KL(noisy_2 || noisy_1), "
    "with weight s; loss and KL are means over response tokens",
    paper="arXiv 2504.03302",
    needs_noise=True,
    pass_count=3,
    passes=_clean_and_two_noisy,
)
