"""The components of a language model, found by structure for every family.

A causal model reads its prompt and writes its answer with one stack of layers, the decoder. An encoder-decoder reads
the prompt with an encoder and writes the answer with a decoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from neftune_core.errors import ModelError
from neftune_core.language import later, say
from neftune_core.noise.sites import family_of, is_encoder_decoder, layer_stack, model_parts

if TYPE_CHECKING:
    import torch
    from torch import nn

LEFT_OUT = "_linear_maps_left_out"
ATTENTION_NAME = re.compile("attn|attention", re.IGNORECASE)


def _cap(logits: torch.Tensor, cap: float) -> torch.Tensor:
    return (logits / cap).tanh() * cap


# Post-processing of the logits in some families, by the configuration attribute that enables it.
LOGIT_STEPS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "logits_scaling": lambda logits, factor: logits / factor,  # Granite
    "logit_scale": lambda logits, factor: logits * factor,  # Cohere
    "lm_head_multiplier": lambda logits, factor: logits * factor,  # Falcon H1
    "final_logit_softcapping": _cap,  # Gemma
    "logits_soft_cap": _cap,  # RecurrentGemma
    "output_logit_soft_cap": _cap,  # xLSTM
}


def body(model: nn.Module) -> nn.Module:
    """Return the module that computes the input of the head; for an encoder-decoder, the decoder.

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

    Returns:
        Arguments of the decoder by name.
    """
    states = model_parts(model)["encoder"](input_ids=ids, attention_mask=mask).last_hidden_state
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def head_logits(model: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Return the logits for last hidden states.

    Args:
        model: A model with a language modelling head.
        hidden: Last hidden states, `[..., width]`.

    Returns:
        `[..., vocabulary]`, after the scaling that some families apply.

    Raises:
        ModelError: If the model has no language modelling head.
    """
    config: Any = model.config
    if getattr(config, "scale_decoder_outputs", False):  # T5 with a head tied to the embedding
        hidden = hidden * config.d_model**-0.5
    logits = hidden
    for part in _head(model):
        logits = part(logits)
    bias = getattr(model, "final_logits_bias", None)  # BART, Marian
    if bias is not None:
        logits = logits + bias
    for attribute, step in LOGIT_STEPS.items():
        factor = getattr(config, attribute, None)
        if factor is not None:
            logits = step(logits, float(factor))
    return logits


def _head(model: nn.Module) -> list[nn.Module]:
    """Return the modules that compute the logits, in order.

    BERT and RoBERTa transform the states inside the module of the projection, ModernBERT in a module before it.

    Raises:
        ModelError: If the model has no language modelling head.
    """
    output: Any = model.get_output_embeddings()  # type: ignore[operator]
    if output is None:
        words = later("{model} has no language modelling head: choose a model that generates text.")
        raise ModelError(say(words, model=family_of(model)))
    parts = list(model.children())
    last = next((number for number, part in enumerate(parts) if any(one is output for one in part.modules())), None)
    if last is None:
        return [output]
    first = last
    if not is_encoder_decoder(model):
        first = next((number + 1 for number, part in enumerate(parts[:last]) if part is body(model)), last)
    return [part for part in parts[first : last + 1] if any(True for _ in part.parameters())]


def head_matches(model: nn.Module) -> bool:
    """Return whether `head_logits` of the body's hidden states equals the model's logits, tested on a tiny input.

    The tolerance is 1% of the largest logit, since bfloat16 has eight significant bits.

    Raises:
        ModelError: If the model has no supported body or no language modelling head.
    """
    import torch

    with trial_ids(model) as ids:
        whole = trial_logits(model, ids)
        source = encoded_source(model, ids, torch.ones_like(ids)) if is_encoder_decoder(model) else {}
        hidden = body(model)(input_ids=ids, use_cache=False, **source).last_hidden_state
        parts = head_logits(model, hidden).float()
    return whole.shape == parts.shape and bool((whole - parts).abs().max() <= 0.01 * whole.abs().max())


def reads_ahead(model: nn.Module) -> bool:
    """Return whether later tokens change the logits of earlier ones, tested on a tiny input.

    The engine pads on the right without an attention mask, so the losses of such a model would be wrong.
    """
    import torch

    with trial_ids(model) as ids:
        before = trial_logits(model, ids)
        other = torch.cat([ids[:, :-1], ids[:, :1]], 1)
        after = trial_logits(model, ids, other)
    return bool((before - after)[:, :-1].abs().max() > 1e-4 * before.abs().max())


@contextmanager
def trial_ids(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield five token ids, `[1, 5]`, with gradients off and the model in evaluation mode; its mode is restored."""
    import torch

    embedding = model.get_input_embeddings()  # type: ignore[operator]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield torch.arange(3, 8, device=embedding.weight.device).unsqueeze(0) % embedding.weight.shape[0]
    finally:
        model.train(was_training)


def trial_logits(model: nn.Module, ids: torch.Tensor, written: torch.Tensor | None = None) -> torch.Tensor:
    """Return the model's logits in float32 for the tokens `written`.

    Args:
        model: A causal model or an encoder-decoder.
        ids: Token ids, `[batch, length]`: the input of the encoder; ignored by a causal model if `written` is given.
        written: Token ids that the decoder or causal model reads, `[batch, length]`; `ids` if None.

    Returns:
        `[batch, length, vocabulary]` float32.
    """
    written = ids if written is None else written
    inputs = {"input_ids": ids, "decoder_input_ids": written} if is_encoder_decoder(model) else {"input_ids": written}
    return model(**inputs, use_cache=False).logits.float()


def all_layers(model: nn.Module) -> list[nn.Module]:
    """Return every layer, from the embedding upwards; encoder layers precede decoder layers.

    Raises:
        NoEffect: If a component has no stack of layers.
    """
    return [layer for part in model_parts(model) for layer in layer_stack(model, part)[1]]


def linear_maps(model: nn.Module, targets: str) -> list[str]:
    """Return the names of the linear modules (`nn.Linear` and transformers' `Conv1D`) inside the layers.

    Modules passed to `leave_out` are omitted.

    Args:
        model: Model to search.
        targets: "all", or "attention", which includes cross-attention. Neither includes the head or embeddings.

    Returns:
        Qualified names, in the order of `named_modules`.

    Raises:
        ModelError: If there are none.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    stacks = tuple(layer_stack(model, part)[0] + "." for part in model_parts(model))
    left_out: Collection[str] = vars(model).get(LEFT_OUT, ())
    linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D))
    found = [name for name in linear if name.startswith(stacks) and name not in left_out]
    words = later("No linear layers ({targets}) were found in {model}: choose another model.")
    if targets == "attention":
        found = [name for name in found if _is_attention(model, name, stacks)]
        words = later("The layers of {model} have no attention to adapt: choose all linear layers as the target.")
    if not found:
        raise ModelError(say(words, targets=targets, model=family_of(model)))
    return found


def _is_attention(model: nn.Module, name: str, stacks: Sequence[str]) -> bool:
    """Return whether a module of a layer belongs to attention, by its name or by the class of its parent module."""
    stack = next(stack for stack in stacks if name.startswith(stack))
    parent = type(model.get_submodule(name.rpartition(".")[0])).__name__
    return any(map(ATTENTION_NAME.search, (name.removeprefix(stack), parent)))


def leave_out(model: nn.Module, names: Collection[str]) -> None:
    """Exclude linear modules from `linear_maps`, because adapters cannot reach them; see `unreached_maps`.

    Args:
        model: The model, on which the names are stored.
        names: Qualified names of the modules.
    """
    vars(model)[LEFT_OUT] = frozenset(names)


def first_position(model: nn.Module) -> int:
    """Return the position id of the first token: 0, or the padding id plus 1 in RoBERTa and related models."""
    from torch import nn

    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return table.padding_idx + 1
    return 0


def set_model_dropout(tree: nn.Module, rate: float) -> None:
    """Set every dropout rate of `tree`; at 0, training mode computes the same as evaluation mode.

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
def configured_dropout(tree: Any, rates: Mapping[str, float]) -> Iterator[None]:
    """Set dropout rates in a model's configuration inside the block, so that they are saved with the model.

    Args:
        tree: The model.
        rates: Rates by name.

    Yields:
        Nothing.
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
