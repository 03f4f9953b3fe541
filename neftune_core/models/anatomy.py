"""Where the parts of a language model are, whatever its family calls them.

A causal model reads its prompt and writes its answer with one stack of layers, the decoder; an encoder-decoder reads
the prompt with an encoder, and its decoder writes the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from neftune_core.errors import ModelError
from neftune_core.language import say
from neftune_core.noise.sites import is_encoder_decoder, layer_stack, model_parts

if TYPE_CHECKING:
    import torch
    from torch import nn

ATTENTION_NAME = re.compile("attn|attention", re.IGNORECASE)

# What a family does to the logits after its head, by the attribute of the configuration that says so.
LOGIT_STEPS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "logits_scaling": lambda logits, factor: logits / factor,  # Granite
    "logit_scale": lambda logits, factor: logits * factor,  # Cohere
    "lm_head_multiplier": lambda logits, factor: logits * factor,  # Falcon H1
    "final_logit_softcapping": lambda logits, cap: (logits / cap).tanh() * cap,  # Gemma
}


def body(model: nn.Module) -> nn.Module:
    """The module whose `last_hidden_state` is what the head reads: of an encoder-decoder, the decoder."""
    encoder_decoder = is_encoder_decoder(model)
    found = model_parts(model)["decoder"] if encoder_decoder else getattr(model, "base_model", None)
    if found is None or found is model:
        raise ModelError(say("The parts of a {model} are not known: choose another model.", model=type(model).__name__))
    return found


def encoded_source(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the decoder of an encoder-decoder is given beside its own tokens, for the prompts `ids` `[batch, length]`.

    `mask` is 1 on true tokens and 0 on padding.
    """
    states = model_parts(model)["encoder"](input_ids=ids, attention_mask=mask).last_hidden_state
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def head_logits(model: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """The logits [..., vocabulary] that `model` gives for last hidden states [..., width]."""
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
    """The part of `model` that makes the logits: BERT and RoBERTa transform the states before they project them."""
    output: Any = model.get_output_embeddings()  # type: ignore[operator]
    if output is None:
        raise ModelError(
            say(
                "A {model} has no language modelling head: choose a model that writes text.", model=type(model).__name__
            )
        )
    parts = list(model.children())
    if any(part is output for part in parts):
        return output
    return next((part for part in parts if any(module is output for module in part.modules())), output)


def head_matches(model: nn.Module) -> bool:
    """Whether `head_logits` of the body's hidden states are the logits of the model, tried on one tiny input.

    The tolerance is one per cent of the largest logit: bfloat16 carries eight bits.
    """
    import torch

    with _trial(model) as ids:
        whole = _logits(model, ids)
        source = encoded_source(model, ids, torch.ones_like(ids)) if is_encoder_decoder(model) else {}
        hidden = body(model)(input_ids=ids, use_cache=False, **source).last_hidden_state
        parts = head_logits(model, hidden).float()
    return whole.shape == parts.shape and bool((whole - parts).abs().max() <= 0.01 * whole.abs().max())


def reads_ahead(model: nn.Module) -> bool:
    """Whether what follows a token changes what the model makes of it, tried on one tiny input.

    The engine puts padding behind a text and no mask on it; of a model that reads ahead the losses would be wrong.
    """
    import torch

    with _trial(model) as ids:
        before = _logits(model, ids)
        other = torch.cat([ids[:, :-1], ids[:, :1]], 1)
        after = _logits(model, ids, other)
    return bool((before - after)[:, :-1].abs().max() > 1e-4 * before.abs().max())


@contextmanager
def _trial(model: nn.Module) -> Iterator[torch.Tensor]:
    """Five token ids `[1, 5]` for a try in evaluation mode without gradients; the model's mode is put back."""
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
    """The model's own logits, float32, for a text `written` (`ids` where it is not given) after the prompt `ids`."""
    written = ids if written is None else written
    inputs = {"input_ids": ids, "decoder_input_ids": written} if is_encoder_decoder(model) else {"input_ids": written}
    return model(**inputs, use_cache=False).logits.float()


def all_layers(model: nn.Module) -> list[nn.Module]:
    """Every layer, from the embedding upwards; those of an encoder come before those of its decoder."""
    return [layer for part in model_parts(model) for layer in layer_stack(model, part)[1]]


def linear_maps(model: nn.Module, targets: str) -> list[str]:
    """The names of the linear maps (`nn.Linear` and transformers' `Conv1D`) inside the layers.

    `targets` is "all" or "attention", which includes a decoder's attention to its encoder; the head and the
    embeddings are in neither.
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
                "No linear maps ({targets}) were found in a {model}: choose another model.",
                targets=targets,
                model=type(model).__name__,
            )
        )
    return found


def rows_stay_apart(tree: nn.Module) -> bool:
    """Whether every linear map of `tree` reads the rows of a batch one after another; tried on one row and on two.

    Stacked adapters tell arms by their place on the first axis. A map that reads another layout (LED), or only some of
    the tokens (a mixture of experts), or is not called at all (Mamba) would give an arm the adapter of another.
    """
    import torch

    with _trial(tree) as ids:
        alone, both = _map_inputs(tree, ids), _map_inputs(tree, torch.cat([ids, ids.flip(1)]))
    if set(alone) != set(both) or set(alone) != set(linear_maps(tree, "all")):
        return False
    return all(_begins_with(both[name], alone[name]) for name in alone)


def _map_inputs(tree: nn.Module, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What every linear map of the layers reads in a pass over `ids`, as rows `[..., inputs]`, by name."""
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
    """Whether the first of two rows is what it is alone, to one per cent of its largest entry."""
    if len(both) != 2 * len(alone):
        return False
    return bool((both[: len(alone)] - alone).abs().max() <= 0.01 * alone.abs().max())


def first_position(model: nn.Module) -> int:
    """The number of a text's first position: 0, or one after the padding token in RoBERTa and its kin."""
    from torch import nn

    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return table.padding_idx + 1
    return 0


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


def dropout_rates(holder: Any) -> dict[str, float]:
    """The dropout rates that a configuration or a module keeps as plain numbers, by their names."""
    return {
        name: value
        for name, value in vars(holder).items()
        if ("drop" in name or "jitter" in name) and isinstance(value, int | float) and not isinstance(value, bool)
    }


@contextmanager
def configured(tree: Any, rates: Mapping[str, float]) -> Iterator[None]:
    """Give the configuration of `tree` these dropout rates inside the block, as it is saved with the model's own."""
    before = {name: getattr(tree.config, name) for name in rates}
    vars(tree.config).update(rates)
    try:
        yield
    finally:
        vars(tree.config).update(before)


def _set_rates(holder: Any, rate: float) -> None:
    for name in dropout_rates(holder):
        setattr(holder, name, 0.0 if "layerdrop" in name else rate)
