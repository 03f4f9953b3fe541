"""The loop: all arms of a study on the same batch at the same time, as a generator of events.

Arms share the initial adapter, the order of the rows, dropout masks and the unit draw of their noise; only the
strength and kind of the noise differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neftune_core.arms.loss import arm_losses
from neftune_core.arms.stack import AdapterStack
from neftune_core.data.batches import LENGTH_STEP, Batch, collate, epoch_batches
from neftune_core.data.chat import Encoded
from neftune_core.data.preparing import Prepared
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.clean import clean_measures
from neftune_core.noise.batch import draw_batch
from neftune_core.noise.kinds import noise_key
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.training.settings import StudySettings, TrainingSettings

Event = dict[str, Any]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Step:
    """One planned step: its number from 1, its epoch, and the places of its rows in the training list."""

    number: int
    epoch: int
    rows: list[int]


def count_steps(rows: int, training: TrainingSettings) -> int:
    """How many steps a run over `rows` training rows has."""
    return max(1, round(math.ceil(rows / training.batch_size) * training.epochs))


def steps_after(done: int, lengths: Sequence[int], training: TrainingSettings, seed: int) -> Iterator[Step]:
    """The steps of a run after its first `done`; they depend on the lengths, the settings and `seed` alone."""
    total, per_epoch = count_steps(len(lengths), training), math.ceil(len(lengths) / training.batch_size)
    for epoch in range(done // per_epoch, math.ceil(total / per_epoch)):
        for place, rows in enumerate(epoch_batches(lengths, training.batch_size, seed, epoch), start=1):
            number = epoch * per_epoch + place
            if done < number <= total:
                yield Step(number, epoch, rows)


def check_length(rows: int, training: TrainingSettings, limits: Limits) -> None:
    """Raise `DoesNotFit` where a run over `rows` training rows is longer than this server allows."""
    steps = count_steps(rows, training)
    if steps > limits.steps:
        raise DoesNotFit(
            f"This study needs {steps:,} steps and this server allows {limits.steps:,}: use fewer epochs, fewer "
            "rows or a larger batch."
        )


def rate_at(step: int, total: int, training: TrainingSettings) -> float:
    """The learning rate of step `step` (from 1) of `total`."""
    warm = round(training.warmup * total)
    if step <= warm:
        return training.learning_rate * step / max(warm, 1)
    progress = (step - 1 - warm) / max(total - warm, 1)
    shares = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return training.learning_rate * shares[training.schedule]


def evaluation_steps(total: int, times: int) -> set[int]:
    """The steps after which the losses are measured with noise off, evenly spaced, the last included."""
    return {max(1, round(total * part / times)) for part in range(1, times + 1)}


class Lockstep:
    """The state of one run: the stacked adapters, their optimizer, the last whole step, and which arms take part.

    `arms` are those of the study unless others are given, as for a benchmark of one arm alone.
    """

    def __init__(
        self,
        study: StudySettings,
        stack: AdapterStack,
        prepared: Prepared,
        arms: Mapping[str, NoiseSettings] | None = None,
    ) -> None:
        self.study, self.stack, self.prepared = study, stack, prepared
        chosen = study.arms if arms is None else arms
        self.names, self.noise = list(chosen), list(chosen.values())
        self.alive = list(range(1, len(self.names) + 1))
        self.done = 0
        self.total = count_steps(len(prepared.train), study.training)
        stack.start(study.seed)
        self.optimizer = torch.optim.AdamW(
            stack.parameters(),
            lr=study.training.learning_rate,
            weight_decay=study.training.weight_decay,
            fused=stack.loaded.device.type in ("cpu", "cuda"),
        )

    def name(self, slot: int) -> str:
        """The arm in a slot; slot 0 is the base."""
        return self.names[slot - 1] if slot else "base"

    def run(
        self, should_stop: Stop, keep: Callable[[], None] = lambda: None, measured: Collection[int] = ()
    ) -> Iterator[Event]:
        """Events `step`, `evaluated` and `diverged` from step `done` on; those `measured` already are not again.

        Raises `Cancelled` within a layer of `should_stop()`; a step that is cut short changes nothing. `keep` is called
        between two steps, when all that belongs to `done` has been taken by the caller.
        """
        due = {0, *evaluation_steps(self.total, self.study.training.evaluations)}
        if self.done in due - set(measured):
            yield self._evaluated(self.done, [0, *self.alive] if self.done == 0 else self.alive, should_stop)
        for step in self.steps():
            event = self.step(step, rate_at(step.number, self.total, self.study.training), should_stop)
            self.done = step.number
            yield event
            lost: dict[str, dict[str, float]] = {
                name: {} for name in event["arms"] if name not in map(self.name, self.alive)
            }
            if lost:
                yield {"event": "diverged", "step": step.number, "arms": lost}
            if not self.alive:
                return
            if step.number in due:
                yield self._evaluated(step.number, self.alive, should_stop)
            keep()

    def steps(self) -> Iterator[Step]:
        """The steps that are still to be done."""
        lengths = [len(row.ids) for row in self.prepared.train]
        return steps_after(self.done, lengths, self.study.training, self.study.seed)

    def step(self, step: Step, rate: float, should_stop: Stop) -> Event:
        """Train every living arm on one batch; gives the event `step`.

        An arm whose loss or gradient is no longer finite takes no further part, and keeps its last finite adapter.
        """
        rows = [self.prepared.train[place] for place in step.rows]
        batch = self._collate(rows)
        self.optimizer.zero_grad(set_to_none=True)
        with self._taking_part(step, rows, batch, should_stop) as tree:
            losses = arm_losses(tree, batch, len(self.alive), backward_over=_count(batch))
        taking_part, means = self.alive, losses.means.tolist()
        norms = self._clip(means)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.alive:
            self.optimizer.step()
        arms = {
            self.name(slot): {"loss": loss, "gradient_norm": norm}
            for slot, loss, norm in zip(taking_part, means, norms, strict=True)
        }
        tokens = int(batch.lengths.sum())
        return {
            "event": "step",
            "step": step.number,
            "steps": self.total,
            "epoch": step.epoch,
            "learning_rate": rate,
            "tokens": tokens,
            "arms": arms,
        }

    def _taking_part(self, step: Step, rows: Sequence[Encoded], batch: Batch, should_stop: Stop) -> Any:
        keys = [noise_key(self.study.seed, step.epoch, place) for place in step.rows]
        alive = [self.noise[slot - 1] for slot in self.alive]
        noise = None
        if any(not arm.is_silent for arm in alive):
            lengths = [len(row.ids) for row in rows]
            drawn = draw_batch(alive, keys, lengths, batch.ids.shape[1], self.stack.loaded.width)
            noise = drawn.to(self.stack.loaded.device)
        dropout = (self.study.training.lora_dropout, (self.study.seed, step.number))
        return self.stack.training(self.alive, noise=noise, dropout=dropout, should_stop=should_stop)

    def _collate(self, rows: Sequence[Encoded]) -> Batch:
        loaded = self.stack.loaded
        return collate(rows, loaded.tokenizer.pad_token_id, LENGTH_STEP, longest=loaded.context).to(loaded.device)

    def _clip(self, losses: Sequence[float]) -> list[float]:
        """Clip the gradient of each arm by its own norm, and take out the arms that diverged; the norms before that."""
        gradients = [parameter.grad for parameter in self.stack.parameters() if parameter.grad is not None]
        norms = slot_norms(gradients)
        factors = torch.zeros_like(norms)
        largest = self.study.training.clip_norm
        taking_part, self.alive = self.alive, []
        found = [float(norm) for norm in norms[taking_part]]
        for slot, loss, norm in zip(taking_part, losses, found, strict=True):
            if math.isfinite(loss) and math.isfinite(norm):
                self.alive.append(slot)
                factors[slot] = min(1.0, largest / (norm + 1e-6)) if largest > 0 else 1.0
        for gradient in gradients:
            gradient *= factors[:, None, None]
            gradient[~norms.isfinite()] = 0.0  # 0 times NaN is NaN
        return found

    def _evaluated(self, step: int, slots: list[int], should_stop: Stop) -> Event:
        rows, size = self.study.training.evaluation_rows, self.study.training.batch_size
        samples = {"train": self.prepared.train[:rows], "held_out": self.prepared.held_out[:rows]}
        arms: dict[str, dict[str, float]] = {self.name(slot): {} for slot in slots}
        for part, sample in samples.items():
            if not sample:
                continue
            found = clean_measures(self.stack, sample, slots, batch_size=size, should_stop=should_stop)
            for slot, measures in zip(slots, found, strict=True):
                arms[self.name(slot)] |= {f"{part}_{name}": value for name, value in vars(measures).items()}
        return {"event": "evaluated", "step": step, "steps": self.total, "arms": arms}


def slot_norms(stacked: Sequence[Tensor]) -> Tensor:
    """The norm over all tensors for each entry of their first axis, `[slots]`."""
    squares = torch.stack([tensor.float().pow(2).sum(dim=(1, 2)) for tensor in stacked])
    return squares.sum(0).sqrt()


def _count(batch: Batch) -> int:
    """Response tokens of a batch that are predicted (the first token of a row never is)."""
    return max(1, int(batch.trained[:, 1:].sum()))


def count_parameters(stack: AdapterStack) -> int:
    """Trained parameters of one arm."""
    return sum(parameter[0].numel() for parameter in stack.parameters())
