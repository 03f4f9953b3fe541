"""Gaussian noise on the weights in every training step (Flat-LoRA, arXiv 2409.14396)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neftune_core.engine.methods.method import Method
from neftune_core.language import later
from neftune_core.randomness import Purpose, stream
from neftune_core.settings import setting

if TYPE_CHECKING:
    from torch import Tensor


def _draw_filters(sigma: float, weight: Tensor, key: tuple[int, ...]) -> Tensor:
    """Return Gaussian noise for a weight `[out, in]`, with standard deviation `sigma * |row| / sqrt(in)` per row."""
    import numpy as np
    import torch

    draw = stream(Purpose.WEIGHT_NOISE, *key).standard_normal(tuple(weight.shape), dtype=np.float32)
    scale = sigma * torch.linalg.vector_norm(weight, dim=1, keepdim=True) / weight.shape[1] ** 0.5
    return torch.from_numpy(draw).to(weight.device) * scale


METHOD = Method(
    name="weight_noise",
    words=later("weight noise"),
    setting=setting(
        None,
        "Gaussian noise on the weights in every step (Flat-LoRA). Its norm in each row is this multiple of the norm "
        "of that row of the merged weights (base plus adapter). The noise is removed before the update.",
        minimum=0,
        maximum=10,
        step=0.01,
        label="Noise on the weights",
    ),
    example="0.05",
    formula="gradient of the loss at W' + e, with W' = W + (alpha / r) B A and e_ij ~ N(0, sigma^2 |W'_i|^2 / inputs)",
    paper="arXiv 2409.14396",
    scheduled=True,
    perturbation=_draw_filters,
)
