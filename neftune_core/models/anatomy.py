"""Where the parts of a causal language model are, whatever its family calls them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neftune_core.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

ATTENTION_NAME = re.compile("attn|attention")

# What a family does to the logits after its head, by the attribute of the configuration that says so.
LOGIT_STEPS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "logits_scaling": lambda logits, factor: logits / factor,  # Granite
    "logit_scale": lambda logits, factor: logits * factor,  # Cohere
    "lm_head_multiplier": lambda logits, factor: logits * factor,  # Falcon H1
    "final_logit_softcapping": lambda logits, cap: (logits / cap).tanh() * cap,  # Gemma
}


def is_encoder_decoder(model: nn.Module) -> bool:
    """Whether `model` reads its prompt with an encoder and writes with a decoder."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def body(model: nn.Module) -> nn.Module:
    """The module whose `last_hidden_state` is what the head reads: of an encoder-decoder, the decoder."""
    found = model.get_decoder() if is_encoder_decoder(model) else getattr(model, "base_model", None)  # type: ignore[operator]
    if found is None or found is model:
        raise ModelError(f"The parts of a {type(model).__name__} are not known: choose another model.")
    return found


def encoded_source(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the decoder of an encoder-decoder is given beside its own tokens, for a prompt `ids` `[batch, length]`.

    `mask` is 1 on true tokens and 0 on padding.
    """
    states = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state  # type: ignore[operator]
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def head_logits(model: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """The logits [..., vocabulary] that `model` gives for last hidden states [..., width]."""
    config: Any = model.config
    if getattr(config, "scale_decoder_outputs", False):  # T5 with a head tied to its embedding
        hidden = hidden * config.d_model**-0.5
    logits = _head(model)(hidden)
    bias = getattr(model, "final_logits_bias", None)  # BART, Marian
    if bias is not None:
        logits = logits + bias
    for attribute, step in LOGIT_STEPS.items():
        factor = getattr(config, attribute, None)
        if factor is not None:
            logits = step(logits, float(factor))
    return logits


def _head(model: nn.Module) -> nn.Module:
    """The part of `model` beside its body that makes the logits; BERT and RoBERTa transform before they project."""
    output: Any = model.get_output_embeddings()  # type: ignore[operator]
    if output is None:
        raise ModelError(f"A {type(model).__name__} has no language modelling head: choose a model that writes text.")
    parts = list(model.children())
    if any(part is output for part in parts):
        return output
    return next((part for part in parts if any(module is output for module in part.modules())), output)


def head_matches(model: nn.Module) -> bool:
    """Whether `head_logits` of the body's hidden states are the logits of the model, tried on one tiny input.

    The tolerance is one per cent of the largest logit: bfloat16 carries eight bits.
    """
    import torch

    embedding = model.get_input_embeddings()  # type: ignore[operator]
    ids = torch.arange(3, 8, device=embedding.weight.device).unsqueeze(0) % embedding.weight.shape[0]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            whole = model(input_ids=ids, use_cache=False).logits.float()
            hidden = body(model)(input_ids=ids, use_cache=False).last_hidden_state
            parts = head_logits(model, hidden).float()
    finally:
        model.train(was_training)
    return whole.shape == parts.shape and bool((whole - parts).abs().max() <= 0.01 * whole.abs().max())


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The stack of layers, from the embedding upwards."""
    return list(_stack(model)[1])


def _stack(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The name and the module of the stack: the outermost list with as many members as the model has layers."""
    from torch import nn

    count = model.config.get_text_config().num_hidden_layers  # type: ignore[union-attr, operator]
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise ModelError(f"The layers of a {type(model).__name__} were not found: choose another model.")


def linear_maps(model: nn.Module, targets: str) -> list[str]:
    """The names of the linear maps (`nn.Linear` and transformers' `Conv1D`) inside the layers.

    `targets` is "all" or "attention"; the head and the embeddings are in neither.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    stack = _stack(model)[0] + "."
    found = [
        name
        for name, module in model.named_modules()
        if name.startswith(stack) and isinstance(module, nn.Linear | Conv1D)
    ]
    if targets == "attention":
        found = [name for name in found if ATTENTION_NAME.search(name.removeprefix(stack))]
    if not found:
        raise ModelError(f"No linear maps ({targets}) were found in a {type(model).__name__}: choose another model.")
    return found


def set_model_dropout(tree: nn.Module, rate: float) -> None:
    """Set every dropout of `tree` to `rate`; with 0 its training mode computes what its evaluation mode does.

    Covers dropout modules, rates that families keep as plain numbers on their modules (OPT, GPT-NeoX), and
    rates read from the configuration at each call. Skipping whole layers at random is always switched off.
    """
    from torch import nn

    for module in tree.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = rate
        _set_rates(module, rate)
    if hasattr(tree, "config"):
        _set_rates(tree.config, rate)


def _set_rates(holder: Any, rate: float) -> None:
    for name, value in vars(holder).items():
        if ("drop" in name or "jitter" in name) and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(holder, name, 0.0 if "layerdrop" in name else rate)
