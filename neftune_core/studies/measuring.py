"""Measures taken once, when a seed ends: answers to fixed prompts, robustness to noise and typos, effect of rounding.

Noise is off, except in measures of its effect. The measures use the first training and held-out rows, so that they
cover the same examples for all arms, seeds and records of a data set.
"""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch

from neftune_core.data.batches import Batch
from neftune_core.data.chat import EncodedExample, encode
from neftune_core.data.examples import Example
from neftune_core.data.formats.starters import held_out_file
from neftune_core.data.preparing import PreparedData
from neftune_core.engine.clean_loss import NoiseOf, row_measures
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.passes import noise_rows
from neftune_core.engine.row_measures import RowMeasures
from neftune_core.engine.settings import evaluation_batch
from neftune_core.evaluation.answers import stream_answers
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
from neftune_core.models.device import BYTES, available_memory
from neftune_core.noise.batch import ArmNoise, BatchNoise
from neftune_core.noise.settings import NoiseSettings
from neftune_core.randomness import Purpose, stream
from neftune_core.studies.judging import has_known_answers, measures_of
from neftune_core.studies.prompts import fit_rows, fitting_rows
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.trained.rows import TokenLosses
from neftune_core.world.scoring import score

STRENGTHS = (0.5, 1.0, 2.0)
"""Standard deviations of the Gaussian noise, relative to the root mean square of embedding coordinates."""
RATES = (0.1, 0.2)
"""Probabilities of a typing error per letter."""
ROBUSTNESS_SHARE = 0.5
"""Share of the held-out sample that is used with noise and with typing errors."""
MEASURED_STRENGTH, MEASURED_RATE = 1.0, 0.1
"""The strength and rate shown in tables."""
DRAWN_EPOCH = 1_000_000
"""Epoch number in the random keys of the noise in these measures; larger than the number of any training epoch."""
FREE_SHARE = 1.5
"""Free memory required for a float32 copy of the weights, as a multiple of its size."""

logger = logging.getLogger(__name__)


def measure_end(run: Lockstep, slots: Sequence[int], should_stop: Callable[[], bool]) -> SeedMeasures:
    """Compute the measures of a completed seed.

    The noise penalty and the token losses are always computed; robustness and answers only if the study asks for them.

    Args:
        run: The training run of the seed, after its last step.
        slots: Slots to measure; 0 is the base.
        should_stop: Polled during each pass; return true to cancel.

    Returns:
        The measures of each slot, by name.

    Raises:
        Cancelled: If `should_stop()` returned true.
    """
    names = {slot: run.name(slot) for slot in slots}
    found = SeedMeasures(run, names, should_stop, {name: {} for name in names.values()})
    with accelerator.held():
        found.measure_noise_penalty()
        if run.study.measuring.robustness and run.prepared.held_out:
            found.measure_robustness()
    if run.study.measuring.prompts:
        found.measure_answers()
    losses = TokenLosses(run.stack, names, evaluation_batch(run.study.training), should_stop)
    found.tokens = losses.of_data(run.prepared)
    return found


@dataclass
class SeedMeasures:
    """Measures of a seed, as stored in a record.

    Attributes:
        names: Measured arms by slot; slot 0 is the base.
        arms: Measures by arm and name.
        robustness: Strengths or rates (`amounts`), and losses and accuracies by arm, for `noise` and `typos`.
        answers: Texts and scores of each answer, by sample.
        signatures: Signatures of the text measures, by name.
        samples, sample_sizes: Descriptions of the samples and, for samples of rows, their sizes, by name.
        tokens: Losses of the answer tokens of the first rows, see `TokenLosses`.
    """

    run: Lockstep
    names: Mapping[int, str]
    should_stop: Callable[[], bool]
    arms: dict[str, dict[str, float]]
    robustness: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)
    sample_sizes: dict[str, int] = field(default_factory=dict)
    tokens: list[dict[str, Any]] = field(default_factory=list)

    def _rows(
        self, sample: Sequence[EncodedExample], slots: Sequence[int], noise: NoiseOf | None = None
    ) -> RowMeasures:
        size, stop = evaluation_batch(self.run.study.training), self.should_stop
        return row_measures(self.run.stack, sample, slots, batch_size=size, noise=noise, should_stop=stop)

    def measure_noise_penalty(self) -> None:
        """Measure how much each arm's own noise increases its loss on the training sample."""
        sample = self.run.prepared.train[: self.run.sample_rows]
        own = {slot: self.run.noise.full(slot) for slot in self.names if slot}
        noisy = [slot for slot, arm in own.items() if arm.strength]
        penalties = dict.fromkeys(own, 0.0)
        if noisy:
            without = self.run.rows_now("train", noisy, len(sample), self.should_stop)
            under = self._rows(sample, noisy, noise_on([own[slot] for slot in noisy]))
            penalties |= {slot: under.of(number).loss - without.of(number).loss for number, slot in enumerate(noisy)}
        for slot, penalty in penalties.items():
            self.arms[self.names[slot]]["noise_penalty"] = penalty

    def measure_robustness(self) -> None:
        """Measure losses and accuracies on held-out rows with noise and with typing errors."""
        rows = math.ceil(ROBUSTNESS_SHARE * self.run.sample_rows)
        sample, slots = self.run.prepared.held_out[:rows], [slot for slot in self.names if slot]
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
                arms[self.names[slot]] = {"loss": losses, "accuracy": accuracies}
                at = 1 + amounts.index(named)
                self.arms[self.names[slot]] |= {f"{name}_loss": losses[at], f"{name}_accuracy": accuracies[at]}
            self.robustness[name] = {"amounts": [0.0, *amounts], "arms": arms}
        self.samples["robustness"] = first_rows(len(sample), "held_out")
        self.sample_sizes["robustness"] = len(sample)

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

    def measure_answers(self) -> None:
        """Answer the first held-out and training prompts greedily in one batched decode, and measure the answers.

        Raises:
            Cancelled: If `should_stop()` returned true.
        """
        prepared, count = self.run.prepared, sample_prompts(self.run.study, self.run.prepared)
        loaded, new_tokens = self.run.stack.loaded, self.run.study.measuring.new_tokens
        parts, prompts = {}, []
        for part, sample in (("held_out", prepared.held_out[:count]), ("train", prepared.train[:count])):
            parts[part], ids = fitting_rows(sample, fit_rows(sample, loaded, new_tokens))
            prompts += ids
        if not prompts:
            return
        settings = AnswerSettings(new_tokens=new_tokens, repetition_penalty=1.0)
        stream = stream_answers(self.run.stack, list(self.names), prompts, settings, self.should_stop)
        for name, answers in zip(self.names.values(), deque(holding(stream), maxlen=1).pop(), strict=True):
            replies = (
                Reply(answer.text(loaded.tokenizer), len(answer.ids), answer.ended, tuple(answer.ids))
                for answer in answers
            )
            for part, kept in parts.items():
                if kept:
                    self._score_answers(part, name, list(islice(replies, len(kept))), kept)
        listed = _list_prompts(len(parts["held_out"]), len(parts["train"]))
        words = later("{listed}, greedy, at most {limit} tokens, no repetition penalty")
        self.samples["answers"] = words.format(listed=listed, limit=new_tokens)

    def _score_answers(self, part: str, arm: str, replies: Sequence[Reply], rows: Sequence[EncodedExample]) -> None:
        references = [row.example.response for row in rows]
        if part == "train":
            measures = [memorisation(replies, references)]
        else:
            measures = [against_references(replies, references), shape(replies), *self._correctness(replies, rows)]
        scores = {name: kept.tolist() for each in measures for name, kept in each.scores.items()}
        for each in measures:
            self.arms[arm] |= each.values
            self.signatures |= each.signatures
        sample = self.answers.setdefault(part, {"texts": {}, "scores": {}})
        sample["texts"][arm] = [reply.text for reply in replies]
        sample["scores"][arm] = {"tokens": [reply.tokens for reply in replies], **scores}

    def _correctness(self, replies: Sequence[Reply], rows: Sequence[EncodedExample]) -> Iterator[TextMeasures]:
        """Yield the correctness scores of answers to held-out prompts, if the correct answers are known."""
        known = _correct_answers(self.run.study.data.source)
        if known or has_known_answers(self.run.study, self.run.prepared):
            found = TextMeasures()
            pairs = zip(replies, rows, strict=True)
            found.add("right", (score(_correct_answer(known, row.example), reply.text) for reply, row in pairs))
            yield found

    def about(self) -> dict[str, Any]:
        """Return robustness, signatures and samples, which `metrics.json` stores in addition to the measures by arm."""
        samples = {"samples": self.samples, "sample_sizes": self.sample_sizes}
        return {"robustness": self.robustness, "signatures": self.signatures, **samples}


def noise_on(arms: Sequence[ArmNoise]) -> NoiseOf:
    """Return a function that draws noise once per row, with the same draw for all slots and strengths."""

    def of(rows: Sequence[EncodedExample], batch: Batch, indices: Sequence[int]) -> BatchNoise:
        """Draw the noise of a batch.

        Args:
            rows: The rows.
            batch: The collated rows.
            indices: Index of each row, which determines its draw.

        Returns:
            The noise.
        """
        return BatchNoise(arms, noise_rows(rows, batch, [(0, DRAWN_EPOCH, number) for number in indices], rows))

    return of


def gaussian(strength: float) -> NoiseSettings:
    """Return the noise settings of the robustness measure: Gaussian, with a strength relative to the embeddings."""
    return NoiseSettings(kind="gaussian", unit="relative", strength=strength)


def _correct_answers(source: str) -> list[Mapping[str, Any]]:
    """Return the held-out rows of a set from the bundled world, which define the correct answers; [] for other data."""
    if not source.startswith("starter:world-"):
        return []
    file = held_out_file(source.partition(":")[2])
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file else []


def _correct_answer(known: Sequence[Mapping[str, Any]], example: Example) -> Mapping[str, Any]:
    """Return the row that defines the correct answer: the matching row of `known`, otherwise the response."""
    at = example.row - 1
    is_known = at < len(known) and known[at]["output"] == example.response
    return known[at] if is_known else {"output": example.response}


def sample_prompts(study: StudySettings, prepared: PreparedData) -> int:
    """Return the number of measured prompts of each kind, held-out and training.

    Args:
        study: Settings of the study.
        prepared: The tokenised rows.

    Returns:
        The number; at most the number of sampled rows, unless `evaluation_rows` is set.
    """
    asked, training = study.measuring.prompts, study.training
    return asked if training.evaluation_rows else min(asked, training.sample_rows(len(prepared.train)))


def first_rows(count: int, part: str) -> str:
    """Return the stored description of a sample.

    Args:
        count: Number of rows.
        part: "train" or "held_out".

    Returns:
        The description, such as "the first 64 training rows".
    """
    if part == "train":
        return plural(count, "the first training row", "the first {count} training rows").format(count=count)
    return plural(count, "the first held-out row", "the first {count} held-out rows").format(count=count)


def _list_prompts(held_out: int, train: int) -> str:
    """Return the stored description of the answered prompts; one of the two numbers may be 0."""
    one = later("the first held-out prompt and the first training prompt")
    some = later("the first {held_out} held-out prompts and the first training prompt")
    one_and_many = later("the first held-out prompt and the first {train} training prompts")
    many = later("the first {held_out} held-out prompts and the first {train} training prompts")
    words = plural(train, plural(held_out, one, some), plural(held_out, one_and_many, many))
    if not train:
        words = plural(held_out, "the first held-out prompt", "the first {held_out} held-out prompts")
    if not held_out:
        words = plural(train, "the first training prompt", "the first {train} training prompts")
    return words.format(held_out=held_out, train=train)


def measure_rounding(run: Lockstep, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Measure the effect of rounding at the end of a run, by evaluating the same arms a second time.

    For bfloat16 and float16, the second evaluation uses the same weights in float32. For float32, it uses another batch
    size, which changes the order of summation.

    Args:
        run: A run at its last step.
        should_stop: Polled between layers; return true to cancel.

    Returns:
        `precision` of the study, `against` (the second evaluation), and by measure the `largest` and `typical` (root
        mean square) difference over the arms still in training. Empty if no arm is still in training, if a float32
        copy of the weights does not fit in memory, or if the model does not support one.
    """
    precision = run.stack.loaded.precision
    is_wide = precision == "float32"
    if not run.alive or not (is_wide or _fits(run)):
        return {}
    size, samples = evaluation_batch(run.study.training), run.samples()
    sizes = {part: max(1, min(size, len(rows)) // 2) if is_wide else size for part, rows in samples.items()}
    try:
        with accelerator.held(), nullcontext() if is_wide else run.stack.in_precision(torch.float32):
            again = {
                part: row_measures(run.stack, rows, run.alive, batch_size=sizes[part], should_stop=should_stop)
                for part, rows in samples.items()
            }
    except (RuntimeError, TypeError, ValueError):  # some model code only accepts weights in their original precision
        logger.warning("the effect of rounding to %s could not be measured", precision, exc_info=True)
        return {}
    with accelerator.held():
        before = {part: run.rows_now(part, run.alive, len(rows.tokens), should_stop) for part, rows in again.items()}
    pairs = [(_measures(before, index), _measures(again, index)) for index in range(len(run.alive))]
    known = [name for name in pairs[0][0] if all(name in one for pair in pairs for one in pair)]
    found = {name: np.array([abs(one[name] - other[name]) for one, other in pairs]) for name in known}
    words, values = run.stack.loaded.vocabulary, pairs[0][0]
    least = {name: _resolution(name, values[name], words) if is_wide else 0.0 for name in found}
    return {
        "precision": precision,
        "against": "batches of a different size" if is_wide else "float32",
        "largest": {name: max(float(differences.max()), least[name]) for name, differences in found.items()},
        "typical": {name: math.sqrt(float((differences**2).mean())) for name, differences in found.items()},
    }


def _fits(run: Lockstep) -> bool:
    loaded = run.stack.loaded
    return available_memory(str(loaded.device)) > FREE_SHARE * loaded.parameters * BYTES["float32"]


def _measures(rows: Mapping[str, RowMeasures], index: int) -> dict[str, float]:
    return measures_of(
        {f"{part}_{name}": value for part, found in rows.items() for name, value in vars(found.of(index)).items()}
    )


def _resolution(measure: str, value: float, words: int) -> float:
    """Return the float32 resolution of a loss: machine epsilon times `log(words)`, with the vocabulary size `words`.

    `log(words)` is the loss of uniform guessing. The resolution is a lower bound on the effect of rounding, because the
    results of two batch sizes can agree bit for bit by chance. It is 0 for other measures.
    """
    if not measure.endswith(("loss", "gap", "perplexity")):
        return 0.0
    return float(np.finfo(np.float32).eps) * math.log(words) * (value if measure == "perplexity" else 1.0)
