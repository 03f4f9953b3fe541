"""Check that noise changes a model's output, by running the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neftune_core.errors import NoEffect
from neftune_core.language import say
from neftune_core.noise.kinds import EMBEDDING_SITE
from neftune_core.noise.sites import Site, family_of, hooks_on, is_encoder_decoder

FIRST_ID, TOKENS = 3, 4
"""First token id and number of tokens: small ids that every vocabulary has, after the usual special tokens."""


def require_effect(model: nn.Module, sites: Sequence[Site]) -> None:
    """Check that noise at each site changes the model's output.

    The model runs on four tokens without noise, with strong noise at each embedding, and with strong noise at all
    layers together.

    Args:
        model: Model to run; the modes of its modules are restored.
        sites: The sites to check.

    Raises:
        NoEffect: If a site is never run or its noise does not change the output; the message names the module.
    """
    embeddings = [[site] for site in sites if site.number <= EMBEDDING_SITE]
    layers = [site for site in sites if site.number > EMBEDDING_SITE]
    clean = _output(model)
    for group in [*embeddings, layers] if layers else embeddings:
        reached: set[nn.Module] = set()
        loud, modules = _loud(reached), {site.module: None for site in group}
        with hooks_on(module.register_forward_hook(loud) for module in modules):
            noisy = _output(model)
        silent = [site for site in group if site.module not in reached]
        if silent or torch.equal(clean, noisy):
            site = (silent or group)[0]
            raise NoEffect(
                say(
                    "Noise on the {module} of the {part} would not reach the output of {model}: its forward pass "
                    "does not use this module. Choose another model.",
                    module=say("embedding") if site.number <= EMBEDDING_SITE else say("layers"),
                    part=site.part,
                    model=family_of(model),
                )
            )


def _loud(reached: set[nn.Module]) -> Callable[[nn.Module, Any, Any], Any]:
    """Return a hook that adds noise with standard deviation 1 and records which modules ran."""
    generator = torch.Generator().manual_seed(0)

    def add(module: nn.Module, args: Any, output: Any) -> Any:
        reached.add(module)
        vectors = output[0] if isinstance(output, tuple) else output
        loud = vectors + torch.randn(vectors.shape, generator=generator).to(vectors)
        return (loud, *output[1:]) if isinstance(output, tuple) else loud

    return add


def _output(model: nn.Module) -> Tensor:
    """Return the output for four tokens in evaluation mode; the mode of each module is restored."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = next(model.parameters()).device
    ids = torch.arange(FIRST_ID, FIRST_ID + TOKENS, device=device).unsqueeze(0)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if is_encoder_decoder(model):
        inputs["decoder_input_ids"] = ids
    try:
        with torch.no_grad():
            output = model(**inputs)
        return (output if isinstance(output, Tensor) else output[0]).float()
    finally:
        for module, mode in modes.items():
            module.training = mode
