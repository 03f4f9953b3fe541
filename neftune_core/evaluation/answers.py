"""Answers of the base and of all arms to the same prompts, from one batched greedy decode.

A causal model goes on from the prompt. The encoder of an encoder-decoder reads it once for each slot, and the decoder
writes from its own start token.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neftune_core.arms.armset import ArmSet
from neftune_core.data.chat import end_ids, response_text
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.anatomy import body, encoded_source, first_position, head_logits
from neftune_core.models.decoding import Decoding, decoding
from neftune_core.models.loading import LoadedModel


@dataclass
class Answer:
    """One answer as it grows: its token ids (without the ending one), and how it ended, if it did.

    `ended` is `stop` where the model ended by itself, `limit` where the length ran out, else empty.
    """

    ids: list[int] = field(default_factory=list)
    ended: str = ""

    def text(self, tokenizer: Any) -> str:
        """The answer so far as text."""
        return response_text(self.ids, tokenizer)


Answers = list[list[Answer]]
"""Answers by slot, then by prompt."""


class _Rows:
    """The rows still being decoded, laid out slot by slot: `[slots * prompts]`.

    `source` is what an encoder-decoder's decoder is given beside its tokens, one row each; empty for a causal model.
    `positions` count from 0, for the model from `first`.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], slots: int, loaded: LoadedModel) -> None:
        self.slots = slots
        self.prompts = list(range(len(prompts)))
        self.source: dict[str, Tensor] = {}
        self.first = first_position(loaded.model)
        ids, mask = _padded_left(prompts, loaded.tokenizer.pad_token_id)
        self.ids = ids.repeat(slots, 1).to(loaded.device)
        self.mask = mask.repeat(slots, 1).to(loaded.device)
        self.positions = (self.mask.cumsum(1) - 1).clamp(min=0)

    def keep(self, prompts: list[int]) -> Tensor:
        """Go on with these of the current prompts (by place); gives the rows kept."""
        per_slot = len(self.prompts)
        rows = torch.tensor(
            [slot * per_slot + place for slot in range(self.slots) for place in prompts], device=self.mask.device
        )
        self.prompts = [self.prompts[place] for place in prompts]
        self.ids, self.mask, self.positions = self.ids[rows], self.mask[rows], self.positions[rows]
        self.source = {name: value[rows] for name, value in self.source.items()}
        return rows

    def advance(self, tokens: Tensor, context: int) -> None:
        """Append one token to every row; the position of a row that has ended stays within the context."""
        self.ids = tokens[:, None]
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)
        self.positions = (self.positions[:, -1:] + 1).clamp(max=context - 1)


def _padded_left(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids and mask `[prompts, longest]`, padded on the left, so that all rows go on from the same column."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), pad_id)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


def stream_answers(
    stack: ArmSet,
    slots: Sequence[int],
    prompts: Sequence[Sequence[int]],
    settings: AnswerSettings,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Answers]:
    """Greedy answers of every slot to every prompt (token ids), yielded after each token; slots that cannot share a
    pass answer in turn.

    The same growing lists are yielded each time. An answer never depends on its neighbours in the batch: padding is
    masked, and the repetition penalty (arXiv 1909.05858) sees a row's own tokens: prompt and answer, or what the
    decoder has written where an encoder read the prompt. A row ends with `limit` where the model can read no further.
    Raises `DoesNotFit` for a prompt that fills the model's context, and `Cancelled` once `should_stop()` is true.
    """
    _require_room(prompts, stack.loaded)
    by_slot = {slot: [Answer() for _ in prompts] for slot in slots}
    for group in stack.groups(slots):
        for _ in _together(stack, group, prompts, settings, [by_slot[slot] for slot in group], should_stop):
            yield list(by_slot.values())


def _together(
    stack: ArmSet,
    slots: Sequence[int],
    prompts: Sequence[Sequence[int]],
    settings: AnswerSettings,
    answers: Answers,
    should_stop: Callable[[], bool] | None,
) -> Iterator[None]:
    """Let `answers` of slots that share their passes grow, a token at a time."""
    loaded = stack.loaded
    habits = decoding(loaded.model)
    ending = end_ids(loaded.tokenizer)
    read = prompts if habits.start is None else [[habits.start]] * len(prompts)
    rows = _Rows(read, len(slots), loaded)
    seen = _seen(rows, loaded)
    cache: Any = None
    for count in range(1, settings.new_tokens + 1):
        with torch.no_grad(), stack.running(slots, should_stop=should_stop) as tree:
            if count == 1 and habits.start is not None:
                rows.source = _sources(tree, prompts, len(slots), loaded)
            logits, cache = _next_logits(tree, rows, cache)
        tokens = _greedy(logits, seen, settings.repetition_penalty, habits, first=count == 1)
        seen[torch.arange(len(tokens), device=tokens.device), tokens] = True
        full = rows.positions[:, -1] + 2 > loaded.context if count < settings.new_tokens else rows.positions[:, -1] >= 0
        _append(answers, rows, tokens.tolist(), ending, full.tolist())
        yield
        going = [
            place for place, prompt in enumerate(rows.prompts) if any(not by_slot[prompt].ended for by_slot in answers)
        ]
        if not going:
            return
        rows.advance(tokens, loaded.context)
        if len(going) < len(rows.prompts):
            kept = rows.keep(going)
            seen = seen[kept]
            cache.batch_select_indices(kept)


def _require_room(prompts: Sequence[Sequence[int]], loaded: LoadedModel) -> None:
    """Raise `DoesNotFit` for a prompt after which nothing can be written."""
    longest = max(len(prompt) for prompt in prompts)
    if longest > loaded.context or (longest == loaded.context and not loaded.encoder_decoder):
        raise DoesNotFit(f"A prompt fills all the {loaded.context:,} tokens that this model can read: shorten it.")


def _sources(tree: nn.Module, prompts: Sequence[Sequence[int]], slots: int, loaded: LoadedModel) -> dict[str, Tensor]:
    """The prompts as the encoder of every slot reads them, padded on the right as in training."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), loaded.tokenizer.pad_token_id)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return encoded_source(tree, ids.repeat(slots, 1).to(loaded.device), mask.repeat(slots, 1).to(loaded.device))


def _next_logits(tree: nn.Module, rows: _Rows, cache: Any) -> tuple[Tensor, Any]:
    """Logits `[rows, vocabulary]` of the next token, and the cache of keys and values."""
    model = body(tree)
    inputs: dict[str, Any] = {"input_ids": rows.ids, "attention_mask": rows.mask, "past_key_values": cache}
    if "position_ids" in inspect.signature(model.forward).parameters:
        inputs["position_ids"] = rows.positions + rows.first
    output = model(**inputs, **rows.source, use_cache=True)
    return head_logits(tree, output.last_hidden_state[:, -1]).float(), output.past_key_values


def _seen(rows: _Rows, loaded: LoadedModel) -> Tensor:
    """Which tokens each row holds so far, `[rows, vocabulary]`."""
    vocabulary = loaded.model.get_output_embeddings().weight.shape[0]  # of the decoder, where it has its own
    seen = torch.zeros(len(rows.ids), vocabulary, dtype=torch.bool, device=rows.ids.device)
    for row, (ids, mask) in enumerate(zip(rows.ids, rows.mask, strict=True)):
        seen[row, ids[mask.bool()]] = True
    return seen


def _greedy(logits: Tensor, seen: Tensor, penalty: float, habits: Decoding, *, first: bool) -> Tensor:
    """The most probable token of each row; what the model's own files force or forbid comes before the scores."""
    if first and habits.first is not None:
        return torch.full_like(logits[:, 0], habits.first, dtype=torch.long)
    if penalty != 1.0:
        lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
        logits = torch.where(seen, lowered, logits)
    logits[:, list(habits.never)] = -torch.inf
    return logits.argmax(-1)


def _append(answers: Answers, rows: _Rows, tokens: list[int], ending: set[int], full: list[bool]) -> None:
    per_slot = len(rows.prompts)
    for row, token in enumerate(tokens):
        answer = answers[row // per_slot][rows.prompts[row % per_slot]]
        if answer.ended:
            continue
        if token in ending:
            answer.ended = "stop"
            continue
        answer.ids.append(token)
        if full[row]:
            answer.ended = "limit"
