"""Uniform noise added to the weights once, before training (NoisyTune, arXiv 2202.12024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neftune_core.engine.methods.method import Method
from neftune_core.language import later
from neftune_core.randomness import Purpose, stream
from neftune_core.settings import setting

if TYPE_CHECKING:
    from torch import Tensor


def _draw_relative(intensity: float, tensor: Tensor, key: tuple[int, ...]) -> Tensor:
    """Return `U(-intensity / 2, intensity / 2) * std(tensor)`, shaped like `tensor`.

    A constant tensor, such as the initial `B` of an adapter, gets no noise.
    """
    import numpy as np
    import torch

    draw = stream(Purpose.START_NOISE, *key).random(tuple(tensor.shape), dtype=np.float32) - np.float32(0.5)
    deviation = tensor.float().std() if tensor.numel() > 1 else tensor.new_zeros(())
    return torch.from_numpy(np.asarray(draw)).to(tensor.device) * (intensity * deviation)


METHOD = Method(
    name="start_noise",
    words=later("noise at the start"),
    setting=setting(
        None,
        "Uniform noise added once to the trainable weights before training starts (NoisyTune), as a multiple of the "
        "standard deviation of each matrix. Of an adapter's matrices A and B, only A changes, because B starts at 0.",
        minimum=0,
        maximum=10,
        step=0.05,
        label="Noise at the start",
    ),
    example="0.15",
    formula="W <- W + U(-lambda / 2, lambda / 2) * std(W), for every trained matrix",
    paper="arXiv 2202.12024",
    start=_draw_relative,
)
