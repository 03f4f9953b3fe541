"""Answers of the base and of all arms to the same prompts, from one batched decode, greedy or drawn.

A causal model goes on from the prompt. The encoder of an encoder-decoder reads it once for each slot, and the decoder
writes from its own start token.
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
from neftune_core.evaluation.kv_prefill import read_prompts, takes_positions, with_room
from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.language import say
from neftune_core.models.anatomy import body, encoded_source, first_position, head_logits
from neftune_core.models.loading import LoadedModel
from neftune_core.models.tokenizing import Decoding, decoding
from neftune_core.randomness import Purpose, stream

FIRST_LOOK = 128
"""Most probable tokens looked at for top-p before all are sorted: sorting a vocabulary takes a hundred times longer."""


def next_tokens(
    logits: Tensor, seen: Tensor, draws: Sequence[float], settings: DecodingSettings, habits: Decoding
) -> Tensor:
    """The next token of each row, `[rows]`; `logits` `[rows, vocabulary]` float32 are changed in place.

    `seen` `[rows, any]` are the ids in each row so far (repetition penalty of arXiv 1909.05858). `draws` are uniform
    numbers, one a row, used where the temperature is above 0. What the model's own files forbid is never chosen.
    """
    if settings.repetition_penalty != 1.0:
        scores = logits.gather(1, seen)
        lowered = torch.where(scores > 0, scores / settings.repetition_penalty, scores * settings.repetition_penalty)
        logits.scatter_(1, seen, lowered)
    if habits.never:
        logits[:, list(habits.never)] = -torch.inf
    if settings.temperature == 0:
        return logits.argmax(-1)
    return drawn(logits / settings.temperature, torch.tensor(draws, device=logits.device), settings.top_p)


def drawn(logits: Tensor, draws: Tensor, top_p: float) -> Tensor:
    """For each row the token whose share of the kept probability, the most probable first, holds its uniform draw.

    Kept is the smallest set of most probable tokens that has `top_p` of the probability (arXiv 1904.09751).
    """
    shares = logits.softmax(-1)
    values, indices = shares.topk(min(FIRST_LOOK, shares.shape[1]))
    if top_p >= 1 or bool((values.sum(-1) < top_p).any()):
        values, indices = shares.sort(dim=-1, descending=True, stable=True)
    sums = values.cumsum(-1)
    kept = (sums < top_p).sum(-1, keepdim=True).clamp(max=sums.shape[1] - 1)  # the place of the last token kept
    wanted = draws[:, None].to(sums.dtype) * sums.gather(1, kept)
    place = torch.minimum((sums <= wanted).sum(-1, keepdim=True), kept)
    return indices.gather(1, place)[:, 0]


Stop = Callable[[], bool]


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
"""Answers by slot, then by prompt; several answers to one prompt are neighbours."""


Column = tuple[ArmSet, int]
"""A set of arms, and the slot of it that answers."""


def stream_answers(
    stack: ArmSet,
    slots: Sequence[int],
    prompts: Sequence[Sequence[int]],
    settings: DecodingSettings,
    should_stop: Stop | None = None,
) -> Iterator[Answers]:
    """Answers of every slot to every prompt (token ids), yielded after each token; see `stream_conversations`."""
    return stream_conversations([(stack, slot) for slot in slots], [prompts] * len(slots), settings, should_stop)


def stream_conversations(
    columns: Sequence[Column],
    prompts: Sequence[Sequence[Sequence[int]]],
    settings: DecodingSettings,
    should_stop: Stop | None = None,
) -> Iterator[Answers]:
    """Answers of every column to its own prompts (token ids by column, as many for each), yielded after each token.

    Columns that share a pass are one batch; slots of one set that cannot share any answer in turn. The same growing
    lists are yielded each time. An answer never depends on its neighbours in the batch: padding is masked; the
    repetition penalty sees a row's own tokens (prompt and answer, or what the decoder has written where an encoder read
    the prompt); a draw depends on the seed, the prompt and the number of the answer alone, so that arms asked the same
    share it. A row ends with `limit` where the model can read no further. Raises `DoesNotFit` for a prompt that fills
    the model's context, and `Cancelled` once `should_stop()` is true.
    """
    _require_room(prompts, columns[0][0].loaded)
    answers: Answers = [[Answer() for _ in range(len(own) * settings.answers_each)] for own in prompts]
    places: dict[int, list[int]] = {}
    for place, (arms, _) in enumerate(columns):
        places.setdefault(id(arms), []).append(place)
    streams = [_in_turn(columns, own, prompts, answers, settings, should_stop) for own in places.values()]
    while streams:
        streams = [stream for stream in streams if next(stream, None)]
        yield answers


def _in_turn(
    columns: Sequence[Column],
    places: Sequence[int],
    prompts: Sequence[Sequence[Sequence[int]]],
    answers: Answers,
    settings: DecodingSettings,
    should_stop: Stop | None,
) -> Iterator[bool]:
    """Let the answers at `places`, whose columns are of one set of arms, grow; True after each token but the last."""
    arms = columns[places[0]][0]
    place_of = {columns[place][1]: place for place in places}
    groups = arms.groups(list(place_of))
    for group in groups:
        own = [place_of[slot] for slot in group]
        batch = _Batch(arms, group, [prompts[place] for place in own], [answers[place] for place in own], settings)
        while batch.rows:
            batch.step(should_stop)
            if batch.rows or group is not groups[-1]:
                yield True


def _require_room(prompts: Sequence[Sequence[Sequence[int]]], loaded: LoadedModel) -> None:
    """Raise `DoesNotFit` for a prompt after which nothing can be written."""
    longest = max(len(prompt) for by_slot in prompts for prompt in by_slot)
    if longest > loaded.context or (longest == loaded.context and not loaded.encoder_decoder):
        raise DoesNotFit(
            say(
                "A prompt fills all the {context:,} tokens that this model can read: shorten it.",
                context=loaded.context,
            )
        )


@dataclass
class _Row:
    """One row: its answer, how many tokens its decoder was given before it, and its draws."""

    answer: Answer
    begun: int
    draws: np.random.Generator | None


class _Batch:
    """Rows that one pass takes, slot by slot, as many of each: those still written, and ended ones that fill up."""

    def __init__(
        self,
        arms: ArmSet,
        slots: Sequence[int],
        prompts: Sequence[Sequence[Sequence[int]]],
        answers: Sequence[Sequence[Answer]],
        settings: DecodingSettings,
    ) -> None:
        self.arms, self.loaded, self.slots, self.settings = arms, arms.loaded, list(slots), settings
        self.habits = decoding(self.loaded.model)
        self.ending = end_ids(self.loaded.tokenizer)
        self.first = first_position(self.loaded.model)
        self.positioned = takes_positions(self.loaded.model)
        self.prompts = prompts
        start = self.habits.start
        self.read = prompts if start is None else [[[start]] * len(by_slot) for by_slot in prompts]
        each = settings.answers_each
        self.rows = [
            _Row(answer, len(self.read[slot][place // each]), _draws(by_slot[place // each], place % each, settings))
            for slot, by_slot in enumerate(prompts)
            for place, answer in enumerate(answers[slot])
        ]
        self.written = 0
        self.seen = _own_tokens([ids for by_slot in self.read for ids in by_slot]).to(self.loaded.device)
        self.seen = self.seen.repeat_interleave(each, 0)
        self.source: dict[str, Tensor] = {}

    def step(self, should_stop: Stop | None) -> None:
        """One token more for every row that is not ended."""
        with torch.no_grad(), self.arms.running(self.slots, should_stop=should_stop) as tree:
            hidden = self._begin(tree) if self.written == 0 else self._go_on(tree)
            logits = head_logits(tree, hidden).float()
            if self.written == 0 and self.settings.answers_each > 1:
                logits = logits.repeat_interleave(self.settings.answers_each, 0)
        self.written += 1
        tokens = self._chosen(logits)
        self.ids = tokens[:, None]
        self.seen = torch.cat([self.seen, self.ids], 1)
        self._append(tokens.tolist())
        self._drop_ended()

    def _begin(self, tree: nn.Module) -> Tensor:
        """Read the prompts; each becomes as many rows as it gets answers."""
        device, pad = self.loaded.device, self.loaded.tokenizer.pad_token_id
        if self.habits.start is not None:
            self.source = _sources(tree, self.prompts, pad, device)
        found = read_prompts(tree, self.read, first=self.first, pad=pad, device=device, **self.source)
        self.mask, self.cache = found.mask, with_room(found.cache)
        each = self.settings.answers_each
        if each > 1:
            rows = torch.arange(len(self.mask), device=device).repeat_interleave(each)
            self._select(rows)
        return found.hidden

    def _go_on(self, tree: nn.Module) -> Tensor:
        model = body(tree)
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)
        inputs: dict[str, Any] = {"input_ids": self.ids, "attention_mask": self.mask, "past_key_values": self.cache}
        if self.positioned:  # that of a row which has ended stays within the context
            positions = (self.mask.sum(1, keepdim=True) - 1).clamp(max=self.loaded.context - 1)
            inputs["position_ids"] = positions + self.first
        output = model(**inputs, **self.source, use_cache=True)
        self.cache = output.past_key_values
        return output.last_hidden_state[:, -1]

    def _chosen(self, logits: Tensor) -> Tensor:
        if self.written == 1 and self.habits.first is not None:
            return torch.full_like(logits[:, 0], self.habits.first, dtype=torch.long)
        draws = [row.draws.random() if row.draws is not None else 0.0 for row in self.rows]
        return next_tokens(logits, self.seen, draws, self.settings, self.habits)

    def _append(self, tokens: Sequence[int]) -> None:
        """Give each answer its token; the last one is said and never read."""
        for row, token in zip(self.rows, tokens, strict=True):
            if row.answer.ended:
                continue
            if token in self.ending:
                row.answer.ended = "stop"
                continue
            row.answer.ids.append(token)
            if self.written == self.settings.new_tokens or row.begun + self.written > self.loaded.context:
                row.answer.ended = "limit"

    def _drop_ended(self) -> None:
        """Leave out ended rows, and whole slots of them, where what is saved is more than moving the cache costs."""
        per_slot = len(self.rows) // len(self.slots)
        numbers = [range(slot * per_slot, (slot + 1) * per_slot) for slot in range(len(self.slots))]
        going = [[number for number in own if not self.rows[number].answer.ended] for own in numbers]
        longest = max(map(len, going))
        kept = [slot for slot, rows in enumerate(going) if rows]
        dropped = len(self.rows) - longest * len(kept)
        if kept and dropped * (self.settings.new_tokens - self.written) < len(self.rows):
            return
        ended = {slot: [number for number in numbers[slot] if self.rows[number].answer.ended] for slot in kept}
        chosen = [number for slot in kept for number in (going[slot] + ended[slot])[:longest]]
        self.slots = [self.slots[slot] for slot in kept]
        self.rows = [self.rows[number] for number in chosen]
        if self.rows:
            rows = torch.tensor(chosen, device=self.mask.device)
            self.ids, self.seen = self.ids[rows], self.seen[rows]
            self._select(rows)

    def _select(self, rows: Tensor) -> None:
        self.mask = self.mask[rows]
        self.source = {name: value[rows] for name, value in self.source.items()}
        self.cache.batch_select_indices(rows)


def _draws(prompt: Sequence[int], number: int, settings: DecodingSettings) -> np.random.Generator | None:
    """The uniform draws of one answer, from the seed, the prompt's own tokens and the number of the answer."""
    if settings.temperature == 0:
        return None
    digest = hashlib.sha256(np.array(prompt, dtype=np.int64).tobytes()).digest()
    return stream(Purpose.ANSWER, settings.sampling_seed, number, int.from_bytes(digest[:8], "big"))


def _own_tokens(rows: Sequence[Sequence[int]]) -> Tensor:
    """The ids of each row, `[rows, longest]`; a shorter one repeats its first."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[row[0]] * (longest - len(row))] for row in rows])


def _sources(
    tree: nn.Module, prompts: Sequence[Sequence[Sequence[int]]], pad: int, device: torch.device
) -> dict[str, Tensor]:
    """The prompts as the encoder of every slot reads them, padded on the right as in training."""
    rows = [prompt for by_slot in prompts for prompt in by_slot]
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return encoded_source(tree, ids.to(device), mask.to(device))
