"""Prompts into keys and values without waste, and a cache that grows without copies.

Prompts of one length would be one pass. Others are padded on the left, so that all go on from the same column, and
padding is work: so what all prompts of a slot begin with (a chat template's first words) is read once for each slot,
and the rest in parts, into which the shorter prompts come later. What a cache holds of a row before its own first token
is of another row, and masked.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from neftune_core.models.anatomy import body

PASS_TOKENS = 64
"""What a further pass costs, in tokens: the weights are read from memory once more."""
LEAST_SHARED = 8
ROOM = 64
"""Tokens that a cache has room for before it is copied to a larger place."""


@dataclass
class Read:
    """What the decode goes on from: hidden states `[rows, width]` of the last tokens, mask `[rows, columns]`, cache."""

    hidden: Tensor
    mask: Tensor
    cache: Any


def takes_positions(model: nn.Module) -> bool:
    """Whether the model is told the positions of its tokens."""
    return "position_ids" in inspect.signature(body(model).forward).parameters


def read_prompts(
    tree: nn.Module,
    prompts: Sequence[Sequence[Sequence[int]]],
    *,
    first: int,
    pad: int,
    device: torch.device,
    **source: Any,
) -> Read:
    """Read `prompts` (by slot, as many for each; token ids); rows lie slot by slot.

    `first` is the number of the model's first position, `source` what an encoder-decoder's decoder is given beside.
    """
    reader = _Reader(tree, first, pad, device, source)
    shared = shared_beginning(prompts) if _reads_in_parts(tree) and not source else 0
    if shared:
        reader.begin([by_slot[0][:shared] for by_slot in prompts])
    rest = [[prompt[shared:] for prompt in by_slot] for by_slot in prompts]
    lengths = [max(len(by_slot[place]) for by_slot in rest) for place in range(len(rest[0]))]
    starts = parts(lengths, len(rest)) if _reads_in_parts(tree) and not source else [max(lengths)]
    for start, stop in zip(starts, [*starts[1:], 0], strict=True):
        reader.go_on(rest, [place for place, length in enumerate(lengths) if length > stop], start, stop)
    assert reader.hidden is not None
    return Read(reader.hidden[:, -1], reader.mask, reader.cache)


def shared_beginning(prompts: Sequence[Sequence[Sequence[int]]]) -> int:
    """How many tokens all prompts of each slot begin with alike; 0 where that is not worth a pass. Each keeps one."""
    if len(prompts[0]) == 1:
        return 0
    longest = min(len(prompt) for by_slot in prompts for prompt in by_slot) - 1
    alike = (
        all(prompt[place] == by_slot[0][place] for by_slot in prompts for prompt in by_slot) for place in range(longest)
    )
    shared = next((place for place, same in enumerate(alike) if not same), longest)
    saved = shared * len(prompts) * (len(prompts[0]) - 1)
    return shared if shared >= LEAST_SHARED and saved > PASS_TOKENS else 0


def parts(lengths: Sequence[int], slots: int) -> list[int]:
    """Where parts begin, counted from the end of the prompts, the longest first: the cheapest way to read them all."""
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


def _reads_in_parts(tree: nn.Module) -> bool:
    """Whether a row may have a gap, and be read bit by bit: positions are told, and every layer looks at all before."""
    config: Any = tree.config.get_text_config()  # type: ignore[union-attr, operator]
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return takes_positions(tree) and kinds == {"full_attention"} and getattr(config, "sliding_window", None) is None


class _Reader:
    """The passes over the prompts; `places` are those of each slot whose rows the cache holds, in this order."""

    def __init__(self, tree: nn.Module, first: int, pad: int, device: torch.device, source: dict[str, Any]) -> None:
        self.model, self.first, self.pad, self.device = body(tree), first, pad, device
        self.positioned, self.source = takes_positions(tree), source
        self.cache: Any = None
        self.hidden: Tensor | None = None
        self.mask = torch.zeros(0, 0, dtype=torch.long, device=device)
        self.places: list[int] = []
        self.shared = 0

    def begin(self, beginnings: Sequence[Sequence[int]]) -> None:
        """Read what all prompts of a slot begin with, one row a slot."""
        ids = torch.tensor([list(one) for one in beginnings], device=self.device)
        self.shared, self.places = ids.shape[1], [0]
        self._pass(ids, torch.ones_like(ids))

    def go_on(self, rest: Sequence[Sequence[Sequence[int]]], places: list[int], start: int, stop: int) -> None:
        """Read the tokens of these places from `start` to `stop` before the end, with padding where there are none."""
        self._make_rows(len(rest), places)
        chunks = [_window(by_slot[place], start, stop) for by_slot in rest for place in places]
        ids = torch.tensor([[self.pad] * (start - stop - len(chunk)) + list(chunk) for chunk in chunks])
        shown = torch.tensor([[0] * (start - stop - len(chunk)) + [1] * len(chunk) for chunk in chunks])
        self._pass(ids.to(self.device), shown.to(self.device))

    def _make_rows(self, slots: int, places: list[int]) -> None:
        """A row of the cache for each of `places`; one that comes new is given any of its slot, of which it sees only
        what all of them share."""
        if self.cache is not None and places != self.places:
            known = {place: number for number, place in enumerate(self.places)}
            width = len(self.places)
            rows = [slot * width + known.get(place, 0) for slot in range(slots) for place in places]
            index = torch.tensor(rows, device=self.device)
            self.cache.batch_select_indices(index)
            self.mask = self.mask[index]
            new = [place not in known for _ in range(slots) for place in places]
            self.mask[torch.tensor(new, device=self.device), self.shared :] = 0
        self.places = places

    def _pass(self, ids: Tensor, shown: Tensor) -> None:
        self.mask = torch.cat([self.mask, shown], 1) if self.cache is not None else shown
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": self.mask, "past_key_values": self.cache}
        if self.positioned:
            inputs["position_ids"] = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :] + self.first
        output = self.model(**inputs, **self.source, use_cache=True)
        self.hidden, self.cache = output.last_hidden_state, output.past_key_values


def _window(prompt: Sequence[int], start: int, stop: int) -> Sequence[int]:
    """The tokens of a prompt from `start` to `stop` before its end."""
    return prompt[max(0, len(prompt) - start) : max(0, len(prompt) - stop)]


class _Roomy(DynamicLayer):
    """Keys and values in a place larger than they are, so that a token more is no copy of all before it."""

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self.is_initialized, self.dtype, self.device = True, layer.dtype, layer.device
        self._move(layer.keys, layer.values)

    def _move(self, *held: Tensor) -> None:
        length = held[0].shape[-2]
        self._places = []
        for one in held:
            place = one.new_empty(*one.shape[:-2], length + ROOM, one.shape[-1])
            place[..., :length, :] = one
            self._places.append(place)
        self.keys, self.values = (place[..., :length, :] for place in self._places)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The keys and values with those of the new tokens behind them."""
        start = self.keys.shape[-2]
        stop = start + key_states.shape[-2]
        if stop > self._places[0].shape[-2]:
            self._move(self.keys, self.values)
        for place, new in zip(self._places, (key_states, value_states), strict=True):
            place[..., start:stop, :] = new
        self.keys, self.values = (place[..., :stop, :] for place in self._places)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with these rows alone."""
        self._move(self.keys[indices], self.values[indices])


def with_room(cache: Any) -> Any:
    """The same cache, whose plain layers grow without copies; others, such as sliding windows, stay as they are."""
    layers = getattr(getattr(cache, "self_attention_cache", cache), "layers", [])
    for number, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.is_initialized and layer.keys.dim() == 4:
            layers[number] = _Roomy(layer)
    return cache
