"""Measure the loss of every arm at every answer token, for rows of the data and for answers that the arms generated.

This takes one pass per arm, without noise, when a seed ends or later with the stored adapters. The loss of a generated
answer ignores the repetition penalty used in decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neftune_core.data.batches import LENGTH_STEP, collate
from neftune_core.data.chat import EncodedExample
from neftune_core.data.examples import Example, Message
from neftune_core.data.preparing import PreparedData
from neftune_core.engine.armset import ArmSet
from neftune_core.engine.clean_loss import batches_by_length
from neftune_core.engine.loss import clean_losses
from neftune_core.models.accelerator import accelerator
from neftune_core.models.token_text import token_texts
from neftune_core.models.tokenizing import decoding
from neftune_core.studies.records.tokens import WRITTEN
from neftune_core.studies.trained.token_kinds import kinds_of

MOST_ROWS = 32
"""Maximum number of rows per part; always the first ones, so that all arms, seeds and records use the same rows."""

Line = dict[str, Any]


@dataclass(frozen=True)
class TokenLosses:
    """Measures the loss of each answer token.

    Attributes:
        stack: The set of arms.
        names: Names of the measured arms, by slot of `stack`.
        batch_size: Rows per batch.
        should_stop: Polled during each pass.
    """

    stack: ArmSet
    names: Mapping[int, str]
    batch_size: int
    should_stop: Callable[[], bool] | None = None

    def of_data(self, prepared: PreparedData) -> list[Line]:
        """Measure the first held-out rows and the first training rows; see `of_rows`."""
        return [*self.of_rows("held_out", prepared.held_out), *self.of_rows("train", prepared.train)]

    def of_rows(self, part: str, rows: Sequence[EncodedExample]) -> list[Line]:
        """Measure the first rows of one part.

        Args:
            part: "held_out" or "train".
            rows: All rows of the part; the first `MOST_ROWS` are measured.

        Returns:
            One line per row, as stored, with the losses of every arm.
        """
        chosen = list(rows[:MOST_ROWS]) if self.names else []  # empty if all arms diverged
        by_row = self._measure(chosen, list(self.names))
        return [
            self._line(part, row, dict(zip(self.names.values(), losses, strict=True)))
            for row, losses in zip(chosen, by_row, strict=True)
        ]

    def of_answers(self, prompts: Sequence[Sequence[int]], lines: Sequence[Mapping[str, Any]]) -> list[Line]:
        """Measure generated answers.

        Args:
            prompts: Token ids of each prompt.
            lines: The prompts with their answers, from `answer_lines`; several answers to one prompt are adjacent.

        Returns:
            One line per answer, as stored, with the losses of the arm that generated it.
        """
        each = max(1, len(lines) // max(1, len(prompts)))
        found = []
        for slot, name in self.names.items():
            texts = [line["arms"].get(name, {}).get("text", "") for line in lines]
            every = (self._encode(prompts[n // each], lines[n]["prompt"], texts[n], n) for n in range(len(lines)))
            rows = [row for row in every if row is not None]
            for row, losses in zip(rows, self._measure(rows, [slot]), strict=True):
                found.append({**self._line(WRITTEN, row, {name: losses[0]}), "arm": name})
        return found

    def _encode(self, prompt: Sequence[int], asked: str, text: str, index: int) -> EncodedExample | None:
        """Return a prompt and its answer as a row; None if the answer is empty or does not fit."""
        loaded = self.stack.loaded
        answer = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        before, source = list(prompt), None
        if loaded.encoder_decoder:
            rules = decoding(loaded.model)
            before = [token for token in (rules.start, rules.first) if token is not None]
            source = np.array(prompt, dtype=np.int32)
        ids = np.array([*before, *answer], dtype=np.int32)
        if not answer or (loaded.context and len(ids) > loaded.context):
            return None
        example = Example((Message("user", asked), Message("assistant", text)), index + 1)
        return EncodedExample(ids, np.arange(len(ids)) >= len(before), example, source=source)

    def _measure(self, rows: Sequence[EncodedExample], slots: Sequence[int]) -> list[NDArray[np.float32]]:
        """Return the losses of each row's answer tokens in nats, `[slots, tokens]`."""
        loaded, found = self.stack.loaded, dict[int, NDArray[np.float32]]()
        for indices in batches_by_length([row.length for row in rows], self.batch_size):
            own = [rows[index] for index in indices]
            batch = collate(own, loaded.tokenizer.pad_token_id, LENGTH_STEP, longest=loaded.context).to(loaded.device)
            with accelerator.held():
                losses = clean_losses(self.stack, batch, slots, should_stop=self.should_stop)
            each, of_row = losses.each.float().cpu().numpy(), losses.rows.cpu().numpy()
            found |= {index: each[:, of_row == place] for place, index in enumerate(indices)}
        return [found[index] for index in range(len(rows))]

    def _line(self, part: str, row: EncodedExample, losses: Mapping[str, NDArray[np.float32]]) -> Line:
        tokenizer, targets = self.stack.loaded.tokenizer, row.trained[1:]
        ids = row.ids[1:][targets].tolist()
        texts = token_texts(ids, tokenizer)
        special = set(tokenizer.all_special_ids)
        starts = (targets & ~row.trained[:-1])[targets].tolist()
        return {
            "part": part,
            "row": row.example.row,
            "prompt": row.example.messages[-2].content if len(row.example.messages) > 1 else "",
            "tokens": texts,
            "kinds": kinds_of(_spaced(texts, ids, tokenizer), starts, [one in special for one in ids]),
            "losses": {name: [round(float(loss), 4) for loss in own] for name, own in losses.items()},
        }


def _spaced(texts: Sequence[str], ids: Sequence[int], tokenizer: Any) -> list[str]:
    """Restore the leading spaces that some tokenizers drop when decoding single tokens."""
    names = map(str, tokenizer.convert_ids_to_tokens(list(ids)))
    return [
        f" {text}" if name.startswith("▁") and not text.startswith(" ") else text
        for text, name in zip(texts, names, strict=True)
    ]
