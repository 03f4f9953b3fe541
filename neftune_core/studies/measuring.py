"""Measures taken once, when a seed ends: answers to fixed prompts, and robustness of every arm.

Noise is off, except in measures of its effect. The first training and held-out rows are used, so that all arms, seeds
and records of a data set are measured on the same examples.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from neftune_core.data.batches import Batch
from neftune_core.data.chat import EncodedExample, encode
from neftune_core.data.examples import Example
from neftune_core.data.formats.starters import held_out_file
from neftune_core.engine.clean_loss import NoiseOf, row_measures
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.passes import noise_rows
from neftune_core.engine.row_measures import RowMeasures
from neftune_core.engine.settings import evaluation_batch
from neftune_core.evaluation.answers import Answer, stream_answers
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.evaluation.text_measures import (
    Reply,
    TextMeasures,
    against_references,
    memorisation,
    shape,
    with_typos,
)
from neftune_core.language import later, plural
from neftune_core.models.accelerator import accelerator, holding
from neftune_core.noise.batch import ArmNoise, BatchNoise
from neftune_core.noise.settings import NoiseSettings
from neftune_core.randomness import Purpose, stream
from neftune_core.studies.judging import has_known_answers
from neftune_core.studies.prompts import fit_rows, fitting_rows
from neftune_core.studies.trained.rows import HELD_OUT, TRAIN, TokenLosses
from neftune_core.world.scoring import score

STRENGTHS = (0.5, 1.0, 2.0)
"""Standard deviations of the Gaussian noise, relative to the root mean square of embedding coordinates."""
RATES = (0.1, 0.2)
"""Probabilities of a typing error per letter."""
ROBUSTNESS_SHARE = 0.5
"""Share of the held-out sample used for the passes with noise and typing errors."""
MEASURED_STRENGTH, MEASURED_RATE = 1.0, 0.1
"""The strength and rate shown in tables."""
DRAWN_EPOCH = 1_000_000
"""Epoch in the random keys of these draws, larger than any training epoch."""


@dataclass
class SeedMeasures:
    """Measures of a seed as stored in a record.

    Attributes:
        robustness: Strengths or rates (`amounts`), and losses and accuracies by arm, for `noise` and `typos`.
        answers: Texts and scores of each answer, by sample.
        tokens: Losses of the answer tokens of the first rows, see `TokenLosses`.
    """

    arms: dict[str, dict[str, float]]
    robustness: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)
    tokens: list[dict[str, Any]] = field(default_factory=list)


def measure_end(run: Lockstep, slots: Sequence[int], should_stop: Callable[[], bool]) -> SeedMeasures:
    """Take the measures of a completed seed.

    Args:
        run: The run.
        slots: Slots to measure, 0 for the base.
        should_stop: Polled during each pass; return true to cancel.

    Returns:
        The measures.
    """
    ending = _Ending(run, slots, should_stop)
    found = SeedMeasures({name: {} for name in ending.names})
    with accelerator.held():
        ending.noise_penalty(found)
        if run.study.measuring.robustness and run.prepared.held_out:
            ending.robustness(found)
    if run.study.measuring.prompts:
        ending.answers(found)
    losses = TokenLosses(run.stack, ending.by_slot, evaluation_batch(run.study.training), should_stop)
    for part, rows in ((HELD_OUT, run.prepared.held_out), (TRAIN, run.prepared.train)):
        found.tokens += losses.of_rows(part, rows)
    return found


@dataclass(frozen=True)
class _Ending:
    run: Lockstep
    slots: Sequence[int]
    should_stop: Callable[[], bool]

    @property
    def by_slot(self) -> dict[int, str]:
        return {slot: self.run.name(slot) for slot in self.slots}

    @property
    def names(self) -> list[str]:
        return [*self.by_slot.values()]

    def _rows(
        self, sample: Sequence[EncodedExample], slots: Sequence[int], noise: NoiseOf | None = None
    ) -> RowMeasures:
        return row_measures(
            self.run.stack,
            sample,
            slots,
            batch_size=evaluation_batch(self.run.study.training),
            noise=noise,
            should_stop=self.should_stop,
        )

    def noise_penalty(self, found: SeedMeasures) -> None:
        """Measure how much each arm's own noise increases its loss on the training sample."""
        sample = self.run.prepared.train[: self.run.sample_rows]
        own = {slot: self.run.noise.full(slot) for slot in self.slots if slot}
        noisy = [slot for slot, arm in own.items() if arm.strength]
        penalties = dict.fromkeys(own, 0.0)
        if noisy:
            without = self.run.rows_now("train", noisy, len(sample), self.should_stop)
            under = self._rows(sample, noisy, noise_on([own[slot] for slot in noisy]))
            penalties |= {slot: under.of(number).loss - without.of(number).loss for number, slot in enumerate(noisy)}
        for slot, penalty in penalties.items():
            found.arms[self.run.name(slot)]["noise_penalty"] = penalty

    def robustness(self, found: SeedMeasures) -> None:
        """Measure losses and accuracies on held-out rows with noise and with typing errors."""
        rows = math.ceil(ROBUSTNESS_SHARE * self.run.sample_rows)
        sample, slots = self.run.prepared.held_out[:rows], [slot for slot in self.slots if slot]
        if not slots:  # no arm is still in training
            return
        noisy = [noise_on([ArmNoise(gaussian(strength))] * len(slots)) for strength in STRENGTHS]
        disturbances = {
            "noise": (STRENGTHS, MEASURED_STRENGTH, [self._rows(sample, slots, noise) for noise in noisy]),
            "typos": (RATES, MEASURED_RATE, [self._rows(self._with_typos(sample, rate), slots) for rate in RATES]),
        }
        undisturbed = self.run.rows_now("held_out", slots, len(sample), self.should_stop)
        for name, (amounts, named, measured) in disturbances.items():
            arms = {}
            for number, slot in enumerate(slots):
                reached = [rows.of(number) for rows in (undisturbed, *measured)]
                losses, accuracies = [one.loss for one in reached], [one.accuracy for one in reached]
                arms[self.run.name(slot)] = {"loss": losses, "accuracy": accuracies}
                at = 1 + amounts.index(named)
                found.arms[self.run.name(slot)] |= {f"{name}_loss": losses[at], f"{name}_accuracy": accuracies[at]}
            found.robustness[name] = {"amounts": [0.0, *amounts], "arms": arms}
        found.samples["robustness"] = first_rows(len(sample), "held_out")

    def _with_typos(self, sample: Sequence[EncodedExample], rate: float) -> list[EncodedExample]:
        """Return the rows with typing errors in the user's messages; a row that no longer fits is unchanged."""
        data, loaded = self.run.study.data.within(self.run.stack.loaded.context), self.run.stack.loaded
        found = []
        for number, row in enumerate(sample):
            generator = stream(Purpose.TYPOS, number)
            messages = tuple(
                turn._replace(content=with_typos(turn.content, rate, generator)) if turn.role == "user" else turn
                for turn in row.example.messages
            )
            example = Example(messages, row.example.row)
            tokens = encode(example, loaded.tokenizer, data.maximum_length, too_long=data.too_long)
            found.append(tokens if isinstance(tokens, EncodedExample) else row)
        return found

    def answers(self, found: SeedMeasures) -> None:
        """Answer the first held-out and training prompts greedily in one batched decode, and measure the answers."""
        count, prepared = sample_prompts(self.run), self.run.prepared
        loaded, new_tokens = self.run.stack.loaded, self.run.study.measuring.new_tokens
        parts, prompts = {}, []
        for part, sample in (("held_out", prepared.held_out[:count]), ("train", prepared.train[:count])):
            parts[part], ids = fitting_rows(sample, fit_rows(sample, loaded, new_tokens))
            prompts += ids
        if not prompts:
            return
        tokenizer = loaded.tokenizer
        for name, answers in zip(self.names, self._decoded(prompts), strict=True):
            replies = (
                Reply(answer.text(tokenizer), len(answer.ids), answer.ended, tuple(answer.ids)) for answer in answers
            )
            for part, kept in parts.items():
                if kept:
                    self._scored(found, part, name, list(islice(replies, len(kept))), kept)
        listed = _prompt_numbers(len(parts["held_out"]), len(parts["train"]))
        words = later("{listed}, greedy, at most {limit} tokens, no repetition penalty")
        found.samples["answers"] = words.format(listed=listed, limit=self.run.study.measuring.new_tokens)

    def _decoded(self, prompts: list[list[int]]) -> list[list[Answer]]:
        settings = AnswerSettings(new_tokens=self.run.study.measuring.new_tokens, repetition_penalty=1.0)
        stream = stream_answers(self.run.stack, list(self.slots), prompts, settings, self.should_stop)
        return deque(holding(stream), maxlen=1).pop()

    def _scored(
        self, found: SeedMeasures, part: str, arm: str, replies: Sequence[Reply], rows: Sequence[EncodedExample]
    ) -> None:
        references = [row.example.response for row in rows]
        if part == "train":
            measures = [memorisation(replies, references)]
        else:
            measures = [against_references(replies, references), shape(replies), *self._right(replies, rows)]
        lengths = {"tokens": [reply.tokens for reply in replies]}
        scores = {name: kept.tolist() for each in measures for name, kept in each.scores.items()}
        for each in measures:
            found.arms[arm] |= each.values
            found.signatures |= each.signatures
        sample = found.answers.setdefault(part, {"texts": {}, "scores": {}})
        sample["texts"][arm] = [reply.text for reply in replies]
        sample["scores"][arm] = {**lengths, **scores}

    def _right(self, replies: Sequence[Reply], rows: Sequence[EncodedExample]) -> Iterator[TextMeasures]:
        """Yield the correctness scores of answers to held-out prompts, if the correct answers are known."""
        truths = _truths(self.run.study.data.source)
        if not truths and not has_known_answers(self.run.study, self.run.prepared):
            return
        found = TextMeasures()
        pairs = zip(replies, rows, strict=True)
        found.add("right", (score(_truth(truths, row.example), reply.text) for reply, row in pairs))
        yield found


def noise_on(arms: Sequence[ArmNoise]) -> NoiseOf:
    """Return a function that draws noise once per row and uses the same draw for all slots and strengths."""

    def of(rows: Sequence[EncodedExample], batch: Batch, indices: Sequence[int]) -> BatchNoise:
        return BatchNoise(arms, noise_rows(rows, batch, [(0, DRAWN_EPOCH, number) for number in indices], rows))

    return of


def gaussian(strength: float) -> NoiseSettings:
    """Return the Gaussian noise settings of the robustness measure, with a strength relative to the embeddings."""
    return NoiseSettings(kind="gaussian", unit="relative", strength=strength)


def _truths(source: str) -> list[Mapping[str, Any]]:
    """Return the held-out rows of a set from the bundled world, which define the correct answers; [] for other data."""
    if not source.startswith("starter:world-"):
        return []
    file = held_out_file(source.partition(":")[2])
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file else []


def _truth(truths: Sequence[Mapping[str, Any]], example: Example) -> Mapping[str, Any]:
    """Return the row that defines the correct answer: the matching row of `truths`, otherwise the response."""
    at = example.row - 1
    known = at < len(truths) and truths[at]["output"] == example.response
    return truths[at] if known else {"output": example.response}


def sample_prompts(run: Lockstep) -> int:
    """Return the number of prompts to measure from the held-out rows, and likewise from the training rows.

    The number is limited to the number of sampled rows, unless `evaluation_rows` is set.
    """
    asked: int = run.study.measuring.prompts
    return asked if run.study.training.evaluation_rows else min(asked, run.sample_rows)


def first_rows(count: int, part: str) -> str:
    """Return the stored description of a sample.

    Args:
        count: Number of rows.
        part: "train" or "held_out".

    Returns:
        The description.
    """
    if part == "train":
        return plural(count, "the first training row", "the first {count} training rows").format(count=count)
    return plural(count, "the first held-out row", "the first {count} held-out rows").format(count=count)


def _prompt_numbers(held_out: int, train: int) -> str:
    """Return the stored description of the answered prompts; one of the two numbers may be 0."""
    words = plural(
        train,
        plural(
            held_out,
            "the first held-out prompt and the first training prompt",
            "the first {held_out} held-out prompts and the first training prompt",
        ),
        plural(
            held_out,
            "the first held-out prompt and the first {train} training prompts",
            "the first {held_out} held-out prompts and the first {train} training prompts",
        ),
    )
    if not train:
        words = plural(held_out, "the first held-out prompt", "the first {held_out} held-out prompts")
    if not held_out:
        words = plural(train, "the first training prompt", "the first {train} training prompts")
    return words.format(held_out=held_out, train=train)
