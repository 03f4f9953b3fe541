"""A batch, and the noise that is added while a model processes it."""

from __future__ import annotations

from typing import Any

import torch

from neftune_core import NoiseSettings, noisy_embeddings
from neftune_core.noise.sites import noise_sites

IDS = torch.tensor([[5, 6, 7, 8, 9, 0, 0, 0], [0, 0, 5, 6, 7, 8, 9, 10]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1]])
BATCH = {"input_ids": IDS, "attention_mask": MASK}
LENGTHS = (5, 6)
ALPHA5 = NoiseSettings(strength=5)
LABELS = torch.tensor([[-100, -100, 7, 8, 9, -100, -100, -100], [-100, -100, -100, 6, 7, 8, 9, 10]])


def site_of(model: Any, number: int = 0, part: str = "decoder") -> torch.nn.Module:
    return next(site.module for site in noise_sites(model) if (site.number, site.part) == (number, part))


def noise_at(
    model: Any, settings: NoiseSettings, batch: dict[str, Any], *, module: Any = None, calls: int = 1, **options: Any
) -> list[torch.Tensor]:
    """Return the noise that `noisy_embeddings` adds to the output of a module in each call.

    Args:
        model: The model.
        settings: Noise settings.
        batch: Arguments of the forward pass.
        module: Module whose output is compared; None for the token embedding.
        calls: Number of forward passes.
        options: Further arguments of `noisy_embeddings`.
    """
    module = site_of(model) if module is None else module
    before: list[torch.Tensor] = []
    after: list[torch.Tensor] = []

    def note(seen: list[torch.Tensor]) -> Any:
        return lambda _, args, output: seen.append((output[0] if isinstance(output, tuple) else output).detach())

    first = module.register_forward_hook(note(before))
    try:
        with noisy_embeddings(model, settings, **options):
            last = module.register_forward_hook(note(after))
            before.clear()  # recorded during the initial check that noise has an effect
            for _ in range(calls):
                model(**batch)
            last.remove()
    finally:
        first.remove()
    return [noisy - clean for clean, noisy in zip(before, after, strict=True)]


def assert_bounded(noise: torch.Tensor, bound: float) -> None:
    assert 0.8 * bound < noise.abs().max() <= bound * (1 + 1e-4)  # float32 rounding of the sum
