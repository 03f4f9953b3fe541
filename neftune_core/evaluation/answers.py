"""Answers of the base and all arms to the same prompts, from one batched decode, greedy or sampled.

A causal model continues the prompt. In an encoder-decoder, the encoder processes the prompt once per slot, and the
decoder starts from its own start token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neftune_core.data.chat import end_ids, response_text
from neftune_core.engine.armset import ArmSet
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.kv_prefill import padded, prefill, with_spare_capacity
from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.language import say
from neftune_core.models.architecture.anatomy import body, encoded_source, first_position, head_logits
from neftune_core.models.architecture.caches import KEYS, NOTHING, read_on, select_rows, takes_positions
from neftune_core.models.loading import LoadedModel
from neftune_core.models.tokenizing import Decoding, decoding
from neftune_core.randomness import Purpose, stream

FIRST_LOOK = 128
"""Number of most probable tokens tried for top-p before a full sort, which takes about a hundred times longer."""


def next_tokens(
    logits: Tensor, seen: Tensor, draws: Sequence[float], settings: DecodingSettings, habits: Decoding
) -> Tensor:
    """Choose the next token of each row.

    Args:
        logits: `[rows, vocabulary]`, float32; changed in place.
        seen: Token ids of each row so far, `[rows, tokens]`, for the repetition penalty (arXiv 1909.05858).
        draws: One uniform random number per row, in [0, 1); only used if the temperature is above 0.
        settings: Temperature, top-p and repetition penalty.
        habits: Decoding configuration of the model; tokens in `never` are never chosen.

    Returns:
        Token ids, `[rows]`.
    """
    if settings.repetition_penalty != 1.0:
        scores = logits.gather(1, seen)
        lowered = torch.where(scores > 0, scores / settings.repetition_penalty, scores * settings.repetition_penalty)
        logits.scatter_(1, seen, lowered)
    if habits.never:
        logits[:, list(habits.never)] = -torch.inf
    if settings.temperature == 0:
        return logits.argmax(-1)
    return sample_tokens(logits / settings.temperature, torch.tensor(draws, device=logits.device), settings.top_p)


def sample_tokens(logits: Tensor, draws: Tensor, top_p: float) -> Tensor:
    """Sample one token per row from the nucleus (arXiv 1904.09751) by inverting the cumulative distribution.

    Args:
        logits: `[rows, vocabulary]`.
        draws: One uniform random number per row in [0, 1), `[rows]`.
        top_p: The nucleus is the smallest set of most probable tokens with at least this total probability.

    Returns:
        Token ids, `[rows]`.
    """
    shares = logits.softmax(-1)
    values, indices = shares.topk(min(FIRST_LOOK, shares.shape[1]))
    if top_p >= 1 or bool((values.sum(-1) < top_p).any()):
        values, indices = shares.sort(dim=-1, descending=True, stable=True)
    sums = values.cumsum(-1)
    last = (sums < top_p).sum(-1, keepdim=True).clamp(max=sums.shape[1] - 1)  # index of the last token in the nucleus
    wanted = draws[:, None].to(sums.dtype) * sums.gather(1, last)
    position = torch.minimum((sums <= wanted).sum(-1, keepdim=True), last)
    return indices.gather(1, position)[:, 0]


Stop = Callable[[], bool]


@dataclass
class Answer:
    """One answer, extended token by token.

    Attributes:
        ids: Token ids, without the token that ended the answer.
        ended: "stop" if the model ended the answer, "limit" if it reached the maximum length or the end of the context,
            otherwise "".
    """

    ids: list[int] = field(default_factory=list)
    ended: str = ""

    def text(self, tokenizer: Any) -> str:
        """Return the decoded answer so far."""
        return response_text(self.ids, tokenizer)


Answers = list[list[Answer]]
"""Answers by column, then by prompt; answers to the same prompt are adjacent."""
Column = tuple[ArmSet, int]
"""A set of arms, and the index of a slot in it."""


def stream_answers(
    stack: ArmSet,
    slots: Sequence[int],
    prompts: Sequence[Sequence[int]],
    settings: DecodingSettings,
    should_stop: Stop | None = None,
) -> Iterator[Answers]:
    """Answer every prompt with every slot, yielding after each token.

    Args:
        stack: The set of arms.
        slots: Indices of the slots.
        prompts: Token ids of each prompt.
        settings: Decoding settings.
        should_stop: Polled during each pass; returning true cancels decoding.

    Yields:
        The same lists of answers, extended in place; see `stream_conversations`.

    Raises:
        DoesNotFit: If a prompt fills the model's context.
        Cancelled: If `should_stop()` returned true.
    """
    return stream_conversations([(stack, slot) for slot in slots], [prompts] * len(slots), settings, should_stop)


def stream_conversations(
    columns: Sequence[Column],
    prompts: Sequence[Sequence[Sequence[int]]],
    settings: DecodingSettings,
    should_stop: Stop | None = None,
) -> Iterator[Answers]:
    """Answer the prompts of each column, yielding after each token.

    Slots of one set that can share a pass form one batch; the others run one after another. Different sets take turns
    after every token. An answer never depends on the other rows of its batch:

    * Padding is masked.
    * The repetition penalty uses only the row's own tokens (prompt and answer; decoder tokens for an encoder-decoder).
    * Random draws depend only on the seed, the prompt and the index of the answer, so all arms share them.

    Args:
        columns: Pairs of a set of arms and a slot in it.
        prompts: Token ids of the prompts, by column; every column has the same number of prompts.
        settings: Decoding settings.
        should_stop: Polled during each pass; returning true cancels decoding.

    Yields:
        The same lists of answers, extended in place.

    Raises:
        DoesNotFit: If a prompt fills the model's context.
        Cancelled: If `should_stop()` returned true.
    """
    _require_context_space(prompts, columns[0][0].loaded)
    answers: Answers = [[Answer() for _ in range(len(own) * settings.answers_each)] for own in prompts]
    by_set: dict[int, list[int]] = {}
    for index, (arms, _) in enumerate(columns):
        by_set.setdefault(id(arms), []).append(index)
    streams = [_extend(columns, indices, prompts, answers, settings, should_stop) for indices in by_set.values()]
    while streams:
        streams = [stream for stream in streams if next(stream, None)]
        yield answers


def _extend(
    columns: Sequence[Column],
    indices: Sequence[int],
    prompts: Sequence[Sequence[Sequence[int]]],
    answers: Answers,
    settings: DecodingSettings,
    should_stop: Stop | None,
) -> Iterator[bool]:
    """Extend the answers of the columns at `indices`, all in one set of arms; yield True while tokens remain.

    Groups of slots that cannot share a pass run one after another.
    """
    arms = columns[indices[0]][0]
    column_of = {columns[index][1]: index for index in indices}
    groups = arms.groups(list(column_of))
    for group in groups:
        own = [column_of[slot] for slot in group]
        batch = _Batch(arms, group, [prompts[index] for index in own], [answers[index] for index in own], settings)
        while batch.rows:
            batch.step(should_stop)
            if batch.rows or group is not groups[-1]:
                yield True


def _require_context_space(prompts: Sequence[Sequence[Sequence[int]]], loaded: LoadedModel) -> None:
    """Raise `DoesNotFit` if a prompt leaves no room for an answer."""
    longest = max(len(prompt) for by_slot in prompts for prompt in by_slot)
    if longest > loaded.context or (longest == loaded.context and not loaded.encoder_decoder):
        raise DoesNotFit(
            say(
                "A prompt fills the whole context of this model ({context:,} tokens): shorten the prompt.",
                context=loaded.context,
            )
        )


@dataclass
class _AnswerRow:
    """One answer to one prompt, by one slot.

    Attributes:
        read: Ids of the decoder's input tokens before the answer.
        draws: Source of the uniform random numbers; None for greedy decoding.
    """

    answer: Answer
    read: Sequence[int]
    draws: np.random.Generator | None


class _Batch:
    """The rows of one pass, ordered by slot.

    All slots have the same number of rows, so slots with fewer unfinished answers keep some ended rows.

    Args:
        arms: The loaded arms.
        slots: Indices of the slots in `arms`, in the order of the pass.
        prompts: Token ids of each prompt, by slot.
        answers: The answers to extend, by slot; `settings.answers_each` per prompt.
        settings: The decoding settings.

    Raises:
        ModelError: If the model cannot generate text.
    """

    def __init__(
        self,
        arms: ArmSet,
        slots: Sequence[int],
        prompts: Sequence[Sequence[Sequence[int]]],
        answers: Sequence[Sequence[Answer]],
        settings: DecodingSettings,
    ) -> None:
        self.arms, self.loaded, self.slots, self.settings = arms, arms.loaded, list(slots), settings
        self.device, self.pad, self.each = arms.loaded.device, arms.loaded.tokenizer.pad_token_id, settings.answers_each
        self.habits = decoding(self.loaded.model)
        self.ending = end_ids(self.loaded.tokenizer)
        self.first = first_position(self.loaded.model)
        self.positioned = takes_positions(self.loaded.model)
        self.prompts = prompts
        start = self.habits.start
        self.read = prompts if start is None else [[[start]] * len(by_slot) for by_slot in prompts]
        each = self.each
        self.rows = [
            _AnswerRow(
                answer, self.read[slot][position // each], _draws(by_slot[position // each], position % each, settings)
            )
            for slot, by_slot in enumerate(prompts)
            for position, answer in enumerate(answers[slot])
        ]
        self.written = 0
        read = [ids for by_slot in self.read for ids in by_slot]
        longest = max(map(len, read))
        seen = torch.tensor([[*ids, *[ids[0]] * (longest - len(ids))] for ids in read])  # repeats the first token
        self.seen = seen.to(self.device).repeat_interleave(each, 0)
        self.source: dict[str, Tensor] = {}
        self.rereads = self.loaded.memory == NOTHING

    def step(self, should_stop: Stop | None) -> None:
        """Append one token to every row that has not ended."""
        with torch.no_grad(), self.arms.running(self.slots, should_stop=should_stop) as tree:
            hidden = self._last_states(tree)
            logits = head_logits(tree, hidden).float()
            if self.written == 0 and not self.rereads and self.each > 1:
                logits = logits.repeat_interleave(self.each, 0)
        self.written += 1
        tokens = self._chosen(logits)
        self.ids = tokens[:, None]
        self.seen = torch.cat([self.seen, self.ids], 1)
        self._append(tokens.tolist())
        self._drop_ended()

    def _last_states(self, tree: nn.Module) -> Tensor:
        """Return the hidden states that predict the next token of each row."""
        if self.written == 0 and self.habits.start is not None:
            ids, mask = padded([prompt for by_slot in self.prompts for prompt in by_slot], self.pad)  # as in training
            self.source = encoded_source(tree, ids.to(self.device), mask.to(self.device))
        if self.rereads:
            return self._read_again(tree)
        return self._prefill(tree) if self.written == 0 else self._decode_step(tree)

    def _read_again(self, tree: nn.Module) -> Tensor:
        """Process every row from its beginning, padded on the right, for models without a usable cache."""
        texts = [[*row.read, *row.answer.ids][: self.loaded.context] for row in self.rows]
        if self.written == 0 and self.source:
            self.source = {name: value.repeat_interleave(self.each, 0) for name, value in self.source.items()}
        ids = padded(texts, self.pad)[0].to(self.device)
        hidden = body(tree)(input_ids=ids, use_cache=False, **self.source).last_hidden_state
        return hidden[range(len(texts)), [len(text) - 1 for text in texts]]

    def _prefill(self, tree: nn.Module) -> Tensor:
        """Prefill the prompts, and repeat each row once per answer."""
        in_chunks = self.loaded.memory == KEYS
        hidden, self.mask, cache = prefill(
            tree, self.read, first=self.first, pad=self.pad, device=self.device, in_chunks=in_chunks, **self.source
        )
        self.cache = with_spare_capacity(cache)
        if self.each > 1:
            self._select(torch.arange(len(self.mask), device=self.device).repeat_interleave(self.each))
        return hidden

    def _decode_step(self, tree: nn.Module) -> Tensor:
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)
        inputs: dict[str, Any] = {"input_ids": self.ids, "attention_mask": self.mask}
        if self.positioned:  # positions of ended rows are clamped to the context
            positions = (self.mask.sum(1, keepdim=True) - 1).clamp(max=self.loaded.context - 1)
            inputs["position_ids"] = positions + self.first
        hidden, self.cache = read_on(tree, self.cache, **inputs, **self.source)
        return hidden[:, -1]

    def _chosen(self, logits: Tensor) -> Tensor:
        if self.written == 1 and self.habits.first is not None:
            return torch.full_like(logits[:, 0], self.habits.first, dtype=torch.long)
        draws = [row.draws.random() if row.draws is not None else 0.0 for row in self.rows]
        return next_tokens(logits, self.seen, draws, self.settings, self.habits)

    def _append(self, tokens: Sequence[int]) -> None:
        """Append each token to its answer, and mark the answers that have ended."""
        for row, token in zip(self.rows, tokens, strict=True):
            if row.answer.ended:
                continue
            if token in self.ending:
                row.answer.ended = "stop"
                continue
            row.answer.ids.append(token)
            if self.written == self.settings.new_tokens or len(row.read) + self.written > self.loaded.context:
                row.answer.ended = "limit"

    def _drop_ended(self) -> None:
        """Remove ended rows and slots if this saves more time than copying the cache costs."""
        per_slot = len(self.rows) // len(self.slots)
        # the rows of each slot, unfinished ones first
        ordered = [
            sorted(range(slot * per_slot, (slot + 1) * per_slot), key=lambda row: bool(self.rows[row].answer.ended))
            for slot in range(len(self.slots))
        ]
        unfinished = [sum(not self.rows[row].answer.ended for row in rows) for rows in ordered]
        longest, kept = max(unfinished), [slot for slot, count in enumerate(unfinished) if count]
        dropped = len(self.rows) - longest * len(kept)
        if kept and dropped * (self.settings.new_tokens - self.written) < len(self.rows):
            return
        chosen = [row for slot in kept for row in ordered[slot][:longest]]
        self.slots = [self.slots[slot] for slot in kept]
        self.rows = [self.rows[row] for row in chosen]
        if self.rows:
            rows = torch.tensor(chosen, device=self.ids.device)
            self.ids, self.seen = self.ids[rows], self.seen[rows]
            self._select(rows)

    def _select(self, rows: Tensor) -> None:
        self.source = {name: value[rows] for name, value in self.source.items()}
        if not self.rereads:
            self.mask = self.mask[rows]
            select_rows(self.cache, rows)


def _draws(prompt: Sequence[int], index: int, settings: DecodingSettings) -> np.random.Generator | None:
    """Return the random stream of one answer, keyed by the seed, the prompt tokens and the index of the answer."""
    if settings.temperature == 0:
        return None
    digest = hashlib.sha256(np.array(prompt, dtype=np.int64).tobytes()).digest()
    return stream(Purpose.ANSWER, settings.sampling_seed, index, int.from_bytes(digest[:8], "big"))
