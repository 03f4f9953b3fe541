"""Caches of models: keys and values, recurrent states, or no usable cache.

transformers names the cache differently by version and family; `cache_name` finds the name. `memory_of` runs the model
to test whether its cache gives the same logits as processing the whole text again.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from neftune_core.models.architecture.anatomy import body, encoded_source, first_position, head_logits
from neftune_core.noise.sites import is_encoder_decoder

if TYPE_CHECKING:
    import torch
    from torch import nn

CACHE_NAMES = ("cache", "past_key_values", "cache_params")
"""Names of the cache in transformers: since 5.24; before 5.24; and before 5.24 in state space models."""

KEYS, STATES, NOTHING = "keys", "states", "nothing"
"""Kinds of cache: keys and values of every token only; other states as well; or no usable cache."""

TOLERANCE, TOLERANCE_IN_16_BITS = 0.01, 0.1
"""Maximum difference between logits with and without the cache, relative to the largest logit."""


def cache_name(model: nn.Module) -> str:
    """Return the name of the cache in the arguments of the body of `model`; "" if it has none.

    Raises:
        ModelError: If the structure of the model is not supported.
    """
    return next((name for name in CACHE_NAMES if name in inspect.signature(body(model).forward).parameters), "")


def takes_positions(model: nn.Module) -> bool:
    """Return whether the model accepts `position_ids`.

    Raises:
        ModelError: If the structure of the model is not supported.
    """
    return "position_ids" in inspect.signature(body(model).forward).parameters


def read_on(model: nn.Module, cache: Any, **inputs: Any) -> tuple[torch.Tensor, Any]:
    """Run the body of `model` on the next tokens.

    Args:
        model: A model with a cache.
        cache: Its cache of the preceding tokens; None at the start.
        inputs: Token ids, attention mask and other arguments of the body.

    Returns:
        Last hidden states `[batch, length, width]`, and the cache.

    Raises:
        ModelError: If the structure of the model is not supported.
    """
    name = cache_name(model)
    output = body(model)(**inputs, **{name: cache}, use_cache=True)
    return output.last_hidden_state, getattr(output, name)


def select_rows(cache: Any, rows: torch.Tensor) -> None:
    """Select rows of a cache in place, in the given order.

    Args:
        cache: A cache of transformers.
        rows: Row numbers, `[rows]`.
    """
    for one in (getattr(cache, name, None) for name in ("self_attention_cache", "cross_attention_cache")):
        if one is not None:
            select_rows(one, rows)
    for layer in getattr(cache, "layers", ()):
        if hasattr(layer, "conv_states"):  # `batch_select_indices` of these layers ignores the states
            layer.reorder_cache(rows)
        else:
            layer.batch_select_indices(rows)


def memory_of(model: nn.Module, pad: int) -> str:
    """Return the kind of cache of `model`; with `NOTHING`, the whole text must be processed for every token.

    Two rows of different lengths are processed with the cache, swapped and continued, as in the generation of answers.
    Their logits are compared with those of each row processed as a whole.

    Args:
        model: The model, in evaluation mode and without gradients.
        pad: Id of the padding token.

    Returns:
        `KEYS`, `STATES` or `NOTHING`.
    """
    import torch

    if not cache_name(model):
        return NOTHING
    try:
        with torch.no_grad():
            found, cache = _continue(model, pad)
            expected = torch.stack([_whole(model, row) for row in _texts(model)])
    except (AttributeError, TypeError, RuntimeError, ValueError, NotImplementedError, KeyError, IndexError):
        return NOTHING
    tolerance = TOLERANCE if found.dtype == torch.float32 else TOLERANCE_IN_16_BITS
    if not bool((found - expected).abs().max() <= tolerance * expected.abs().max()):
        return NOTHING
    return KEYS if _has_only_keys(cache) else STATES


def _texts(model: nn.Module) -> list[list[int]]:
    """Return the token ids of two short texts of different lengths."""
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    return [[number % rows for number in range(3, 10)], [number % rows for number in range(12, 16)]]


WRITTEN = 2
"""Number of tokens of each text that are processed one at a time."""


def _continue(model: nn.Module, pad: int) -> tuple[torch.Tensor, Any]:
    """Return the logits after both texts, computed with the cache, and the cache."""
    import torch

    texts = _texts(model)
    device = next(model.parameters()).device
    beginnings = [text[:-WRITTEN] for text in texts]
    longest = max(map(len, beginnings))
    ids = torch.tensor([[pad] * (longest - len(text)) + text for text in beginnings], device=device)
    mask = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in beginnings], device=device)
    source = _source(model, device, rows=len(texts))
    hidden, cache = read_on(model, None, input_ids=ids, **_positions(model, mask, longest), **source)
    order = torch.tensor([1, 0], device=device)
    select_rows(cache, order)
    mask = mask[order]
    for number in range(WRITTEN):
        ids = torch.tensor([[text[len(text) - WRITTEN + number]] for text in reversed(texts)], device=device)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        hidden, cache = read_on(model, cache, input_ids=ids, **_positions(model, mask, 1), **source)
    return head_logits(model, hidden[:, -1])[order], cache


def _positions(model: nn.Module, mask: torch.Tensor, length: int) -> dict[str, torch.Tensor]:
    """Return the mask, and the positions of the last `length` tokens if the model takes them, as arguments by name."""
    inputs = {"attention_mask": mask}
    if takes_positions(model):
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -length:] + first_position(model)
    return inputs


def _whole(model: nn.Module, text: list[int]) -> torch.Tensor:
    """Return the logits after one text that is processed as a whole."""
    import torch

    ids = torch.tensor([text], device=next(model.parameters()).device)
    hidden = body(model)(input_ids=ids, use_cache=False, **_source(model, ids.device, rows=1)).last_hidden_state
    return head_logits(model, hidden[0, -1])


def _source(model: nn.Module, device: torch.device, rows: int) -> dict[str, torch.Tensor]:
    """Return the decoder's extra inputs, the same for every row; empty for a causal model."""
    import torch

    if not is_encoder_decoder(model):
        return {}
    ids = torch.tensor([_texts(model)[0]] * rows, device=device)
    return encoded_source(model, ids, torch.ones_like(ids))


def _has_only_keys(cache: Any) -> bool:
    """Return whether every layer of a cache stores the keys and values of all tokens, and nothing else."""
    from transformers.cache_utils import DynamicLayer

    layers = getattr(getattr(cache, "self_attention_cache", cache), "layers", ())
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
