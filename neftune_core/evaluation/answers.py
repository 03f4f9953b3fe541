"""Answers of the base and of all arms to the same prompts, from one batched greedy decode."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neftune_core.arms.stack import AdapterStack
from neftune_core.data.chat import end_ids, response_text
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.anatomy import body, head_logits


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
    """The rows still being decoded, laid out slot by slot: `[slots * prompts]`."""

    def __init__(self, prompts: Sequence[Sequence[int]], slots: int, pad_id: int, device: torch.device) -> None:
        self.slots = slots
        self.prompts = list(range(len(prompts)))
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.full((len(prompts), longest), pad_id)
        mask = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):  # on the left, so that all rows go on from the same column
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        self.ids = ids.repeat(slots, 1).to(device)
        self.mask = mask.repeat(slots, 1).to(device)
        self.positions = (self.mask.cumsum(1) - 1).clamp(min=0)

    def keep(self, prompts: list[int]) -> Tensor:
        """Go on with these of the current prompts (by place); gives the rows kept."""
        per_slot = len(self.prompts)
        rows = torch.tensor(
            [slot * per_slot + place for slot in range(self.slots) for place in prompts], device=self.mask.device
        )
        self.prompts = [self.prompts[place] for place in prompts]
        self.mask, self.positions = self.mask[rows], self.positions[rows]
        return rows

    def advance(self, tokens: Tensor, context: int) -> None:
        """Append one token to every row; the position of a row that has ended stays within the context."""
        self.ids = tokens[:, None]
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)
        self.positions = (self.positions[:, -1:] + 1).clamp(max=context - 1)


def stream_answers(
    stack: AdapterStack,
    slots: Sequence[int],
    prompts: Sequence[Sequence[int]],
    settings: AnswerSettings,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Answers]:
    """Greedy answers of every slot to every prompt (token ids), yielded after each token.

    The same growing lists are yielded each time. An answer never depends on its neighbours in the batch: the
    repetition penalty (arXiv 1909.05858) sees a row's own tokens, prompt included, and padding is masked.
    A row ends with `limit` where the model can read no further. Raises `DoesNotFit` for a prompt that fills the
    model's context, and `Cancelled` once `should_stop()` is true.
    """
    loaded = stack.loaded
    if any(len(prompt) >= loaded.context for prompt in prompts):
        raise DoesNotFit(f"A prompt fills all the {loaded.context:,} tokens that this model can read: shorten it.")
    answers: Answers = [[Answer() for _ in prompts] for _ in slots]
    ending = end_ids(loaded.tokenizer)
    rows = _Rows(prompts, len(slots), loaded.tokenizer.pad_token_id, loaded.device)
    seen = _seen(rows, loaded.vocabulary)
    cache: Any = None
    for count in range(1, settings.new_tokens + 1):
        with torch.no_grad(), stack.running(slots, should_stop=should_stop) as tree:
            logits, cache = _next_logits(tree, rows, cache)
            tokens = _penalised(logits, seen, settings.repetition_penalty).argmax(-1)
        seen[torch.arange(len(tokens), device=tokens.device), tokens] = True
        full = rows.positions[:, -1] + 2 > loaded.context if count < settings.new_tokens else rows.positions[:, -1] >= 0
        _append(answers, rows, tokens.tolist(), ending, full.tolist())
        yield answers
        going = [
            place for place, prompt in enumerate(rows.prompts) if any(not by_slot[prompt].ended for by_slot in answers)
        ]
        if not going:
            return
        rows.advance(tokens, loaded.context)
        if len(going) < len(rows.prompts):
            kept = rows.keep(going)
            rows.ids, seen = rows.ids[kept], seen[kept]
            cache.batch_select_indices(kept)


def _next_logits(tree: nn.Module, rows: _Rows, cache: Any) -> tuple[Tensor, Any]:
    """Logits `[rows, vocabulary]` of the next token, and the cache of keys and values."""
    model = body(tree)
    inputs: dict[str, Any] = {"input_ids": rows.ids, "attention_mask": rows.mask, "past_key_values": cache}
    if "position_ids" in inspect.signature(model.forward).parameters:
        inputs["position_ids"] = rows.positions
    output = model(**inputs, use_cache=True)
    return head_logits(tree, output.last_hidden_state[:, -1]).float(), output.past_key_values


def _seen(rows: _Rows, vocabulary: int) -> Tensor:
    """Which tokens each row's own prompt holds, `[rows, vocabulary]`."""
    seen = torch.zeros(len(rows.ids), vocabulary, dtype=torch.bool, device=rows.ids.device)
    for row, (ids, mask) in enumerate(zip(rows.ids, rows.mask, strict=True)):
        seen[row, ids[mask.bool()]] = True
    return seen


def _penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    if penalty == 1.0:
        return logits
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lowered, logits)


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
