"""Causal attention for short rows on a CPU, as batched matrix products; torch's kernel takes twice as long.

Query heads that share a KV head are batched in one product. Probabilities are recomputed in the backward pass, so that
no `[tokens, tokens]` tensor is stored, except for rows of a single block. In bfloat16, scores are rounded before
the softmax, as in the eager attention of `transformers`. All other cases fall back to torch's kernel.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

NAME = "causal_rows"
LONGEST_ROW = 1024
"""Longest row in tokens; beyond it torch's kernel is faster in float32."""
BLOCK = 64
"""Query tokens per block; each block multiplies only the keys up to its last token."""


def install(model: Any) -> None:
    """Make a `transformers` model on a CPU use this attention in place of torch's kernel."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.device.type != "cpu" or getattr(model.config, "_attn_implementation", "") != "sdpa":
        return
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Compute attention with the interface of transformers' attention functions.

    Args:
        module: The attention module.
        query: `[batch, heads, tokens, width]`.
        key: `[batch, KV heads, tokens, width]`.
        value: `[batch, KV heads, tokens, width]`.
        attention_mask: A mask; if given, torch's kernel is used.
        options: Other options of the interface.

    Returns:
        `[batch, tokens, heads, width]`, and None for the weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is not None or not _is_plain(module, query, key, options):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    return causal_rows(query, key, value, scale).transpose(1, 2).contiguous(), None


def _is_plain(module: Any, query: Tensor, key: Tensor, options: dict[str, Any]) -> bool:
    """Return whether this is causal attention over whole rows on a CPU, without options that `causal_rows` lacks."""
    causal = options.get("is_causal")
    special = any(options.get(name) is not None for name in ("position_bias", "cache", "softcap"))
    return (
        (getattr(module, "is_causal", True) if causal is None else causal)
        and 1 < query.shape[2] == key.shape[2] <= LONGEST_ROW
        and not options.get("dropout")
        and not special
        and not options.get("output_attentions")
        and query.device.type == "cpu"
        and not torch.compiler.is_compiling()
    )


def causal_rows(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Compute causal attention.

    Args:
        query: `[batch, heads, tokens, width]`.
        key: `[batch, KV heads, tokens, width]`.
        value: `[batch, KV heads, tokens, width]`.
        scale: Factor on the scores.

    Returns:
        `[batch, heads, tokens, width]`.
    """
    rows, heads, tokens, width = query.shape
    groups = heads // key.shape[1]
    folded = query.reshape(-1, groups, tokens, width)
    output = _CausalRows.apply(
        folded, key.reshape(-1, tokens, width), value.reshape(-1, tokens, value.shape[-1]), scale
    )
    return output.view(rows, heads, tokens, value.shape[-1])


class _CausalRows(torch.autograd.Function):
    """Causal softmax attention of queries over keys and values."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Compute the attention, block by block.

        Args:
            ctx: Context of the autograd operation.
            query: `[batch * KV heads, groups, tokens, width]`.
            key: `[batch * KV heads, tokens, width]`.
            value: `[batch * KV heads, tokens, width]`.
            scale: Factor on the scores.

        Returns:
            `[batch * KV heads, groups, tokens, width]`.
        """
        blocks, ctx.scale = _blocks(query.shape[2]), scale
        if len(blocks) == 1:
            probabilities = block_probabilities(query, key, blocks[0], scale)
            ctx.save_for_backward(query, key, value, probabilities)
            return torch.bmm(probabilities, value).view(*query.shape[:3], value.shape[-1])
        ctx.save_for_backward(query, key, value)
        output = query.new_empty(*query.shape[:3], value.shape[-1])
        for block in blocks:
            probabilities = block_probabilities(query, key, block, scale)
            output[:, :, block] = torch.bmm(probabilities, value[:, : block.stop]).view_as(output[:, :, block])
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Compute the gradients; the probabilities are computed again unless there is only one block.

        Args:
            ctx: Context of the autograd operation.
            gradient: Gradient of the output, `[batch * KV heads, groups, tokens, width]`.

        Returns:
            The gradients of `query`, `key` and `value`, and None for `scale`.
        """
        query, key, value, *stored = ctx.saved_tensors
        blocks = _blocks(query.shape[2])
        if stored:
            gradients = _block_gradients(query, key, value, gradient, blocks[0], stored[0], ctx.scale)
            return gradients[0].view_as(query), *gradients[1:], None
        d_query, d_key, d_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for block in blocks:
            keys = slice(block.stop)
            probabilities = block_probabilities(query, key, block, ctx.scale)
            gradients = _block_gradients(query, key[:, keys], value[:, keys], gradient, block, probabilities, ctx.scale)
            d_query[:, :, block] = gradients[0].view_as(d_query[:, :, block])
            d_key[:, keys] += gradients[1]
            d_value[:, keys] += gradients[2]
        return d_query, d_key, d_value, None


def _block_gradients(
    query: Tensor, key: Tensor, value: Tensor, gradient: Tensor, block: slice, probabilities: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of one block with respect to its queries, and to the keys and values that they attend to."""
    d_output = _flat(gradient, block)
    d_probabilities = torch.bmm(d_output, value.transpose(1, 2))
    d_scores = torch._softmax_backward_data(d_probabilities, probabilities, -1, probabilities.dtype).mul_(scale)
    d_key = torch.bmm(d_scores.transpose(1, 2), _flat(query, block))
    return torch.bmm(d_scores, key), d_key, torch.bmm(probabilities.transpose(1, 2), d_output)


def _blocks(tokens: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, tokens)) for start in range(0, tokens, BLOCK)]


def _flat(tensor: Tensor, block: slice) -> Tensor:
    """Return a block of `[rows, groups, tokens, width]` as `[rows, groups * tokens, width]`."""
    return tensor[:, :, block].reshape(len(tensor), -1, tensor.shape[-1])


def block_probabilities(query: Tensor, key: Tensor, block: slice, scale: float) -> Tensor:
    """Compute the attention probabilities of one block of queries over the keys up to its last token.

    Args:
        query: `[batch * KV heads, groups, tokens, width]`.
        key: `[batch * KV heads, tokens, width]`.
        block: Query tokens of the block.
        scale: Factor on the scores.

    Returns:
        `[batch * KV heads, groups * block tokens, keys up to the end of the block]`.
    """
    mask = _causal_mask(block.start, block.stop, query.shape[1], query.dtype)
    keys = key[:, : block.stop].transpose(1, 2)
    return torch.softmax(torch.baddbmm(mask, _flat(query, block), keys, alpha=scale), dim=-1)


@functools.lru_cache(maxsize=128)
def _causal_mask(start: int, stop: int, groups: int, dtype: torch.dtype) -> Tensor:
    """Return the additive causal mask: minus infinity for every key after the query."""
    mask = torch.full((stop - start, stop), float("-inf"), dtype=dtype).triu(1 + start)
    return mask.repeat(groups, 1)[None]
