"""The components of a language model, found by structure for every family.

A causal model reads its prompt and writes its answer with one stack of layers, the decoder. An encoder-decoder reads
the prompt with an encoder and writes the answer with a decoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from neftune_core.errors import ModelError
from neftune_core.language import say
from neftune_core.noise.sites import family_of, is_encoder_decoder, layer_stack, model_parts

if TYPE_CHECKING:
    import torch
    from torch import nn

ATTENTION_NAME = re.compile("attn|attention", re.IGNORECASE)

# Post-processing of the logits in some families, by the configuration attribute that enables it.
LOGIT_STEPS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "logits_scaling": lambda logits, factor: logits / factor,  # Granite
    "logit_scale": lambda logits, factor: logits * factor,  # Cohere
    "lm_head_multiplier": lambda logits, factor: logits * factor,  # Falcon H1
    "final_logit_softcapping": lambda logits, cap: (logits / cap).tanh() * cap,  # Gemma
}


def body(model: nn.Module) -> nn.Module:
    """Return the module whose `last_hidden_state` the head reads; for an encoder-decoder, the decoder.

    Raises:
        ModelError: If the model has no such module.
    """
    encoder_decoder = is_encoder_decoder(model)
    found = model_parts(model)["decoder"] if encoder_decoder else getattr(model, "base_model", None)
    if found is None or found is model:
        raise ModelError(
            say("The structure of {model} is not supported: choose another model.", model=family_of(model))
        )
    return found


def encoded_source(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run the encoder and return the decoder's extra inputs.

    Args:
        model: An encoder-decoder.
        ids: Prompt token ids, `[batch, length]`.
        mask: 1 on real tokens and 0 on padding, `[batch, length]`.
    """
    states = model_parts(model)["encoder"](input_ids=ids, attention_mask=mask).last_hidden_state
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def head_logits(model: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Return the logits for last hidden states.

    Args:
        model: The model.
        hidden: Last hidden states, `[..., width]`.

    Returns:
        `[..., vocabulary]`, after the scaling that some families apply.

    Raises:
        ModelError: If the model has no language modelling head.
    """
    config: Any = model.config
    if getattr(config, "scale_decoder_outputs", False):  # T5 with a head that is tied to the embedding
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
    """Return the module that computes the logits; BERT and RoBERTa transform the states before the projection."""
    output: Any = model.get_output_embeddings()  # type: ignore[operator]
    if output is None:
        raise ModelError(
            say(
                "{model} has no language modelling head: choose a model that generates text.",
                model=family_of(model),
            )
        )
    parts = list(model.children())
    if any(part is output for part in parts):
        return output
    return next((part for part in parts if any(module is output for module in part.modules())), output)


def head_matches(model: nn.Module) -> bool:
    """Return whether `head_logits` of the body's hidden states equals the model's logits, tested on a tiny input.

    The tolerance is 1% of the largest logit, since bfloat16 has eight significant bits.
    """
    import torch

    with _trial(model) as ids:
        whole = _logits(model, ids)
        source = encoded_source(model, ids, torch.ones_like(ids)) if is_encoder_decoder(model) else {}
        hidden = body(model)(input_ids=ids, use_cache=False, **source).last_hidden_state
        parts = head_logits(model, hidden).float()
    return whole.shape == parts.shape and bool((whole - parts).abs().max() <= 0.01 * whole.abs().max())


def reads_ahead(model: nn.Module) -> bool:
    """Return whether later tokens change the logits of earlier ones, tested on a tiny input.

    The engine pads on the right without an attention mask, so the losses of such a model would be wrong.
    """
    import torch

    with _trial(model) as ids:
        before = _logits(model, ids)
        other = torch.cat([ids[:, :-1], ids[:, :1]], 1)
        after = _logits(model, ids, other)
    return bool((before - after)[:, :-1].abs().max() > 1e-4 * before.abs().max())


@contextmanager
def _trial(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield five token ids, `[1, 5]`, in evaluation mode without gradients; the model's mode is restored."""
    import torch

    embedding = model.get_input_embeddings()  # type: ignore[operator]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield torch.arange(3, 8, device=embedding.weight.device).unsqueeze(0) % embedding.weight.shape[0]
    finally:
        model.train(was_training)


def _logits(model: nn.Module, ids: torch.Tensor, written: torch.Tensor | None = None) -> torch.Tensor:
    """Return the model's logits in float32 for the text `written` (default `ids`) after the prompt `ids`."""
    written = ids if written is None else written
    inputs = {"input_ids": ids, "decoder_input_ids": written} if is_encoder_decoder(model) else {"input_ids": written}
    return model(**inputs, use_cache=False).logits.float()


def all_layers(model: nn.Module) -> list[nn.Module]:
    """Return every layer, from the embedding upwards; those of an encoder precede those of its decoder."""
    return [layer for part in model_parts(model) for layer in layer_stack(model, part)[1]]


def linear_maps(model: nn.Module, targets: str) -> list[str]:
    """Return the names of the linear modules (`nn.Linear` and transformers' `Conv1D`) inside the layers.

    Args:
        model: The model.
        targets: "all", or "attention", which includes cross-attention. Neither includes the head or embeddings.

    Raises:
        ModelError: If there are none.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    stacks = [layer_stack(model, part)[0] + "." for part in model_parts(model)]
    found = []
    for name, module in model.named_modules():
        stack = next((stack for stack in stacks if name.startswith(stack)), None)
        if stack is None or not isinstance(module, nn.Linear | Conv1D):
            continue
        if targets != "attention" or ATTENTION_NAME.search(name.removeprefix(stack)):
            found.append(name)
    if not found:
        raise ModelError(
            say(
                "No linear layers ({targets}) were found in {model}: choose another model.",
                targets=targets,
                model=family_of(model),
            )
        )
    return found


def keeps_rows_separate(tree: nn.Module) -> bool:
    """Return whether every linear module keeps the rows of a batch separate and in order, tested on one row and on two.

    Stacked adapters identify arms by their position on the first axis. A module that gets another layout (LED) or only
    some of the tokens (mixture of experts), or that is never called (Mamba), would apply the adapter of the wrong arm.
    """
    import torch

    with _trial(tree) as ids:
        alone, both = _map_inputs(tree, ids), _map_inputs(tree, torch.cat([ids, ids.flip(1)]))
    if set(alone) != set(both) or set(alone) != set(linear_maps(tree, "all")):
        return False
    return all(_begins_with(both[name], alone[name]) for name in alone)


def _map_inputs(tree: nn.Module, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the input of every linear module in a pass over `ids`, as rows `[..., inputs]`, by name."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        found[name] = args[0].reshape(-1, args[0].shape[-1]).float()

    handles = [
        tree.get_submodule(name).register_forward_pre_hook(partial(keep, name)) for name in linear_maps(tree, "all")
    ]
    try:
        _logits(tree, ids)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _begins_with(both: torch.Tensor, alone: torch.Tensor) -> bool:
    """Return whether the first of two rows equals the row run alone, within 1% of its largest entry."""
    if len(both) != 2 * len(alone):
        return False
    return bool((both[: len(alone)] - alone).abs().max() <= 0.01 * alone.abs().max())


def first_position(model: nn.Module) -> int:
    """Return the position id of the first token: 0, or one after the padding id in RoBERTa and related models."""
    from torch import nn

    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return table.padding_idx + 1
    return 0


def set_model_dropout(tree: nn.Module, rate: float) -> None:
    """Set every dropout rate of `tree`; with 0, training mode computes the same as evaluation mode.

    This covers dropout modules, rates stored as plain numbers on modules (OPT, GPT-NeoX), and rates read from the
    configuration at each call. Layer dropout is always disabled.

    Args:
        tree: The model.
        rate: The dropout rate.
    """
    from torch import nn

    for module in tree.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = rate
        _set_rates(module, rate)
    if hasattr(tree, "config"):
        _set_rates(tree.config, rate)


def dropout_rates(holder: Any) -> dict[str, float]:
    """Return the dropout rates that a configuration or a module stores as plain numbers, by name."""
    return {
        name: value
        for name, value in vars(holder).items()
        if ("drop" in name or "jitter" in name) and isinstance(value, int | float) and not isinstance(value, bool)
    }


@contextmanager
def configured(tree: Any, rates: Mapping[str, float]) -> Iterator[None]:
    """Set dropout rates in a model's configuration inside the block, so that they are saved with it.

    Args:
        tree: The model.
        rates: Rates by name.
    """
    before = {name: getattr(tree.config, name) for name in rates}
    vars(tree.config).update(rates)
    try:
        yield
    finally:
        vars(tree.config).update(before)


def _set_rates(holder: Any, rate: float) -> None:
    for name in dropout_rates(holder):
        setattr(holder, name, 0.0 if "layerdrop" in name else rate)
