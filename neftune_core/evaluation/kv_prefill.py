"""Efficient prefill of many prompts, and a key-value cache that grows without copies.

Prompts of different lengths are padded on the left, so that all continue from the same column. To avoid computing
padding, the prefix that all prompts of a slot share (such as a chat template's header) is processed once per slot, and
the rest in chunks, which shorter prompts join later. Cache columns before a row's own first token belong to another row
and are masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from neftune_core.models.architecture.caches import read_on, select_rows, takes_positions

PASS_TOKENS = 64
"""Cost of an additional pass, which reads the weights from memory again, expressed as a number of tokens."""
SHORTEST_PREFIX = 8
SPARE_TOKENS = 64
"""Spare capacity of a cache, in tokens; when it is used up, the cache is copied to a larger buffer."""


def padded(
    rows: Sequence[Sequence[int]], pad: int, length: int | None = None, *, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Pad token ids to the same length.

    Args:
        rows: Token ids of each row.
        pad: Padding token id.
        length: Length to pad to; None for the length of the longest row.
        left: Whether to pad on the left.

    Returns:
        The ids and the attention mask, both `[rows, length]` int64.
    """
    length = max(map(len, rows)) if length is None else length
    gaps = [[length - len(row), 0] if left else [0, length - len(row)] for row in rows]
    ids = [[*[pad] * before, *row, *[pad] * after] for row, (before, after) in zip(rows, gaps, strict=True)]
    mask = [[*[0] * before, *[1] * len(row), *[0] * after] for row, (before, after) in zip(rows, gaps, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)


def prefill(
    tree: nn.Module,
    prompts: Sequence[Sequence[Sequence[int]]],
    *,
    first: int,
    pad: int,
    device: torch.device,
    in_chunks: bool = True,
    **source: Any,
) -> tuple[Tensor, Tensor, Any]:
    """Prefill the prompts; rows are ordered slot by slot.

    Args:
        tree: The model with all slots stacked.
        prompts: Token ids by slot; all slots have the same number of prompts.
        first: Position id of the first token.
        pad: Padding token id.
        device: Device of the model.
        in_chunks: Whether to process the prompts in chunks, which shorter prompts join later. Requires a cache of keys
            and values only; ignored with `source`, or if the model does not support it.
        **source: Encoder outputs for the decoder of an encoder-decoder.

    Returns:
        What decoding continues from: the hidden states of the last tokens, `[rows, width]`; the attention mask,
        `[rows, columns]`; and the key-value cache.
    """
    passes = _Prefill(tree, first, pad, device, source)
    in_chunks = in_chunks and _supports_chunks(tree) and not source
    shared = shared_prefix(prompts) if in_chunks else 0
    if shared:
        passes.read_prefix([by_slot[0][:shared] for by_slot in prompts])
    rest = [[prompt[shared:] for prompt in by_slot] for by_slot in prompts]
    lengths = [max(map(len, same)) for same in zip(*rest, strict=True)]
    starts = chunk_starts(lengths, len(rest)) if in_chunks else [max(lengths)]
    for start, stop in zip(starts, [*starts[1:], 0], strict=True):
        passes.read_chunk(rest, [index for index, length in enumerate(lengths) if length > stop], start, stop)
    assert passes.hidden is not None
    return passes.hidden[:, -1], passes.mask, passes.cache


def shared_prefix(prompts: Sequence[Sequence[Sequence[int]]]) -> int:
    """Return the length of the prefix shared within every slot, or 0 if a separate pass would not save time.

    At least one token of each prompt is left for the next pass.
    """
    shortest = min(len(prompt) for by_slot in prompts for prompt in by_slot)
    alike = (takewhile(lambda tokens: len(set(tokens)) == 1, zip(*by_slot, strict=False)) for by_slot in prompts)
    shared = min(shortest - 1, *(len([*tokens]) for tokens in alike))
    saved = shared * len(prompts) * (len(prompts[0]) - 1)
    return shared if shared >= SHORTEST_PREFIX and saved > PASS_TOKENS else 0


def chunk_starts(lengths: Sequence[int], slots: int) -> list[int]:
    """Compute the cheapest split of the prompts into chunks by dynamic programming.

    Args:
        lengths: Number of tokens of each prompt.
        slots: Number of slots that process each prompt.

    Returns:
        The start of each chunk, counted from the end of the prompts, in descending order.
    """
    stops = sorted({0, *lengths})
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for start in stops[1:]:
        best[start] = min(
            (
                best[stop][0] + PASS_TOKENS + slots * (start - stop) * sum(length > stop for length in lengths),
                (*best[stop][1], start),
            )
            for stop in stops
            if stop < start
        )
    return list(reversed(best[stops[-1]][1]))


def _supports_chunks(tree: nn.Module) -> bool:
    """Return whether a row may have a gap, which requires explicit positions and full attention in all layers."""
    config: Any = tree.config.get_text_config()  # type: ignore[union-attr, operator]
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return takes_positions(tree) and kinds == {"full_attention"} and getattr(config, "sliding_window", None) is None


class _Prefill:
    """The prefill passes; `indices` lists the prompts in the cache, by their index within a slot.

    Args:
        tree: The model.
        first: Position of the first token.
        pad: Id of the padding token.
        device: Device of the model.
        source: Encoder outputs for the decoder of an encoder-decoder; empty for other models.
    """

    def __init__(self, tree: nn.Module, first: int, pad: int, device: torch.device, source: dict[str, Any]) -> None:
        self.tree, self.first, self.pad, self.device = tree, first, pad, device
        self.positioned, self.source = takes_positions(tree), source
        self.cache: Any = None
        self.hidden: Tensor | None = None
        self.mask = torch.zeros(0, 0, dtype=torch.long, device=device)
        self.indices: list[int] = []
        self.shared = 0

    def read_prefix(self, prefixes: Sequence[Sequence[int]]) -> None:
        """Read the shared prefix of each slot, one row per slot."""
        ids = torch.tensor([list(one) for one in prefixes], device=self.device)
        self.shared, self.indices = ids.shape[1], [0]
        self._pass(ids, torch.ones_like(ids))

    def read_chunk(self, rest: Sequence[Sequence[Sequence[int]]], indices: list[int], start: int, stop: int) -> None:
        """Process one chunk of the prompts at `indices`, padded on the left.

        Args:
            rest: Token ids of each prompt after the shared prefix, by slot and prompt.
            indices: Prompts that are long enough for this chunk, by their index within a slot.
            start: First token of the chunk, counted from the end of the prompts.
            stop: End of the chunk (exclusive), counted in the same way; 0 for the end of the prompts.
        """
        self._select_rows(len(rest), indices)
        chunks = [_window(by_slot[index], start, stop) for by_slot in rest for index in indices]
        ids, mask = padded(chunks, self.pad, start - stop, left=True)
        self._pass(ids.to(self.device), mask.to(self.device))

    def _select_rows(self, slots: int, indices: list[int]) -> None:
        """Select a cache row for each prompt; for a new prompt, all but the shared prefix is masked."""
        if self.cache is not None and indices != self.indices:
            row_of = {index: row for row, index in enumerate(self.indices)}
            width = len(self.indices)
            rows = [slot * width + row_of.get(index, 0) for slot in range(slots) for index in indices]
            chosen = torch.tensor(rows, device=self.device)
            select_rows(self.cache, chosen)
            self.mask = self.mask[chosen]
            new = [index not in row_of for index in indices] * slots
            self.mask[torch.tensor(new, device=self.device), self.shared :] = 0
        self.indices = indices

    def _pass(self, ids: Tensor, mask: Tensor) -> None:
        self.mask = torch.cat([self.mask, mask], 1) if self.cache is not None else mask
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": self.mask}
        if self.positioned:
            inputs["position_ids"] = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :] + self.first
        self.hidden, self.cache = read_on(self.tree, self.cache, **inputs, **self.source)


def _window(prompt: Sequence[int], start: int, stop: int) -> Sequence[int]:
    """Return the tokens of a prompt from `start` to `stop`, which count backwards from its end."""
    return prompt[max(0, len(prompt) - start) : max(0, len(prompt) - stop)]


class _PreallocatedLayer(DynamicLayer):
    """Keys and values in buffers with spare capacity, so that appending a token does not copy the cache."""

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self.is_initialized, self.dtype, self.device = True, layer.keys.dtype, layer.keys.device
        self._move(layer.keys, layer.values)

    def _move(self, *tensors: Tensor) -> None:
        length = tensors[0].shape[-2]
        self._buffers = []
        for tensor in tensors:
            buffer = tensor.new_empty(*tensor.shape[:-2], length + SPARE_TOKENS, tensor.shape[-1])
            buffer[..., :length, :] = tensor
            self._buffers.append(buffer)
        self.keys, self.values = (buffer[..., :length, :] for buffer in self._buffers)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new tokens.

        Args:
            key_states: `[rows, heads, new tokens, width]`.
            value_states: `[rows, heads, new tokens, width]`.
            *_: Other arguments of the interface of transformers; not used.
            **__: Other arguments of the interface of transformers; not used.

        Returns:
            The keys and the values of all tokens, as views of the buffers.
        """
        start = self.keys.shape[-2]
        stop = start + key_states.shape[-2]
        if stop > self._buffers[0].shape[-2]:
            self._move(self.keys, self.values)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., start:stop, :] = new
        self.keys, self.values = (buffer[..., :stop, :] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only the rows at `indices`."""
        self._move(self.keys[indices], self.values[indices])


def with_spare_capacity(cache: Any) -> Any:
    """Give the plain layers of a cache spare capacity; other layers, such as sliding windows, are unchanged."""
    layers = getattr(getattr(cache, "self_attention_cache", cache), "layers", [])
    for number, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.is_initialized and layer.keys.dim() == 4:
            layers[number] = _PreallocatedLayer(layer)
    return cache
