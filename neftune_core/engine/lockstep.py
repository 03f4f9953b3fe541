"""The training loop, which trains all arms of a study on the same batches and yields events.

Arms share the initial adapter, the order of the rows, the adapter dropout masks and the random draws of each kind of
noise. Apart from dropout inside the model, they differ only in what the study varies.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from neftune_core.data.batches import LENGTH_STEP, collate, epoch_batches
from neftune_core.data.chat import EncodedExample
from neftune_core.data.preparing import PreparedData
from neftune_core.engine.armset import ArmSet
from neftune_core.engine.clean_loss import row_measures
from neftune_core.engine.loss import MicroBatch, losses_per_token
from neftune_core.engine.methods.registry import perturb_start, require_causal
from neftune_core.engine.optimizer import ArmOptimizer, LossScale
from neftune_core.engine.parallel import process_group
from neftune_core.engine.passes import Passes, noise_rows
from neftune_core.engine.row_measures import RowMeasures
from neftune_core.engine.scheduled_noise import ScheduledMethods, ScheduledNoise
from neftune_core.engine.settings import Plan, count_steps, evaluation_batch, evaluation_steps, rate_at
from neftune_core.models.accelerator import accelerator
from neftune_core.noise.batch import ArmNoise
from neftune_core.noise.kinds import TABLES_SITE
from neftune_core.noise.settings import NoiseSettings

Event = dict[str, Any]
Stop = Callable[[], bool]
Study = TypeVar("Study", bound=Plan)

LOSSES = ("loss", "first_draw_loss")
"""Names of the losses in `loss.Sums`."""

TIMED_STEPS = 5
"""Number of steps timed for a time budget, after one untimed warm-up step. Their median time per token is used."""


@dataclass(frozen=True)
class Step:
    """One planned step: its number, from 1; its epoch, from 0; and the indices of its rows in the training data."""

    number: int
    epoch: int
    rows: list[int]


@dataclass(frozen=True)
class _Evaluation:
    """The measures of some slots on a sample, and the number of the step after which they were taken."""

    step: int
    slots: list[int]
    measures: RowMeasures


def steps_after(done: int, total: int, lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[Step]:
    """Yield the remaining steps of a run, which depend only on the arguments.

    Args:
        done: Number of steps already done.
        total: Number of steps of the run.
        lengths: Length of each training row.
        batch_size: Rows per step.
        seed: Study seed, which determines the order of the rows.

    Yields:
        The steps in order, with number, epoch and rows.
    """
    per_epoch = math.ceil(len(lengths) / batch_size)
    for epoch in range(done // per_epoch, math.ceil(total / per_epoch)):
        for index, rows in enumerate(epoch_batches(lengths, batch_size, seed, epoch), start=1):
            number = epoch * per_epoch + index
            if done < number <= total:
                yield Step(number, epoch, rows)


class Lockstep(Generic[Study]):
    """One training run of all arms of a study.

    Attributes:
        names: Names of the arms, in slot order from slot 1.
        alive: Slots that are still training.
        stopped: Final step of each arm that the user stopped, by slot.
        done: Number of completed steps.
        total: Number of steps; 0 until a time budget has been converted to steps.
    """

    def __init__(
        self,
        study: Study,
        stack: ArmSet,
        prepared: PreparedData,
        arms: Mapping[str, NoiseSettings] | None = None,
        most_steps: int = sys.maxsize,
    ) -> None:
        """Reset the arms and prepare the run.

        Args:
            study: The plan of the study.
            stack: The arms.
            prepared: The encoded rows.
            arms: Noise by arm name, instead of the study's (for benchmarks of a single arm).
            most_steps: Upper bound on the number of steps under a time budget.

        Raises:
            InvalidSetting: If an arm has noise on a layer or an embedding table that the model does not have, or a
                method that has no effect on the model.
        """
        self.study, self.stack, self.prepared, self.most_steps = study, stack, prepared, most_steps
        self.process_group = process_group()
        chosen = study.arms if arms is None else arms
        self.names = list(chosen)
        self.alive = list(range(1, len(self.names) + 1))
        self.stopped: dict[int, int] = {}
        numbers = [site.number for site in stack.sites]
        self.noise = ScheduledNoise(chosen.values(), layers=max(numbers), tables=TABLES_SITE in numbers)
        self._methods = ScheduledMethods(dict(enumerate(map(study.method_of, self.names), start=1)))
        self._dropout, self._decay = self._methods.of("lora_dropout"), self._methods.of("weight_decay")
        require_causal(stack, self._methods.values.values())
        stack.start(study.seed)
        self.optimizer = ArmOptimizer(stack, study.training.learning_rate)
        self._perturbed_slots = perturb_start(self.optimizer.blocks, self._methods.values, study.seed)
        self.scale = LossScale(stack.loaded.precision)
        self.done = 0
        self._last_evaluation: dict[str, _Evaluation] = {}
        self.plan(count_steps(len(prepared.train), study.training))

    def plan(self, total: int) -> None:
        """Set the number of steps, and compute the schedules of noise and methods for this number."""
        self.total = total
        self.noise.plan(total, self.study.training.restarts)
        self._methods.plan(total, self.study.training.restarts)

    @property
    def sample_rows(self) -> int:
        """Number of rows in each evaluation sample."""
        return self.study.training.sample_rows(len(self.prepared.train))

    def name(self, slot: int) -> str:
        """Return the name of the arm in a slot; slot 0 is the base."""
        return self.names[slot - 1] if slot else "base"

    def stop_arm(self, slot: int, step: int) -> None:
        """Stop training an arm, which keeps its weights.

        Args:
            slot: Slot of the arm.
            step: The final step of the arm.
        """
        self.stopped[slot] = step
        self.alive = [other for other in self.alive if other != slot]
        self.optimizer.reset_momentum({slot})

    def run(
        self,
        should_stop: Stop,
        keep: Callable[[], None] = lambda: None,
        measured: Collection[int] = (),
        steer: Callable[[], Iterable[Event]] = tuple,
    ) -> Iterator[Event]:
        """Train to the final step or until no arm is left; yield `planned`, `step`, `evaluated` and `diverged` events.

        If a time budget is converted to steps, `planned` is the first event. An interrupted step leaves the state
        unchanged.

        Args:
            should_stop: Polled before every layer.
            keep: Called between steps, after the caller has received all events of step `done`.
            measured: Steps that have been evaluated before; their evaluation is skipped.
            steer: Called between steps, before `keep`; may change the run. The events that it returns are yielded.

        Yields:
            One mapping per event, with its name under `event`.
        """
        yield from self._first_events(should_stop, measured)
        all_due = evaluation_steps(self.total, self.study.training.evaluations, self.study.training.restarts)
        due = {step for step in all_due if step not in measured}
        if self.done in due:
            yield self._evaluated(self.done, self.alive, should_stop)
        for step in self.steps():
            event = self.step(step, rate_at(step.number, self.total, self.study.training), should_stop)
            self.done = step.number
            yield event
            lost = {name: dict[str, float]() for name in event["arms"] if name not in map(self.name, self.alive)}
            if lost:
                yield {"event": "diverged", "step": step.number, "arms": lost}
            if not self.alive:
                return
            if step.number in due:
                yield self._evaluated(step.number, self.alive, should_stop)
            yield from steer()
            if not self.alive:
                return
            keep()

    def _first_events(self, should_stop: Stop, measured: Collection[int]) -> Iterator[Event]:
        """Yield the events before the first step: `planned` under a time budget, and the first evaluation."""
        if self.done:
            return
        started = time.perf_counter()
        first = None if 0 in measured else self._evaluated_before(should_stop)
        if self.total == 0:
            yield self._planned(started, should_stop)
        if first is not None:
            yield {**first, "steps": self.total}

    def _planned(self, started: float, should_stop: Stop) -> Event:
        """Convert the time budget to a number of steps by timing a few steps whose gradients are discarded.

        The budget includes the time since `started` (the first evaluation) and the estimated time of the other
        evaluations.
        """
        training, lengths = self.study.training, [row.length for row in self.prepared.train]
        should_stop = self.process_group.agree_on_stop(should_stop)
        per_evaluation = (time.perf_counter() - started) * len(self.alive)  # only the base was evaluated so far
        paces = list[float]()  # seconds per token; the median ignores a single slow step
        for step in steps_after(0, TIMED_STEPS + 1, lengths, training.batch_size, self.study.seed):
            before = time.perf_counter()
            self.backward(step, self.noise.at(1, self.alive), should_stop)
            if step.number > 1:
                paces.append((time.perf_counter() - before) / sum(lengths[index] for index in step.rows))
        per_step = median(paces) * sum(lengths) / math.ceil(len(lengths) / training.batch_size)
        left = training.time_budget_seconds - (time.perf_counter() - started) - training.evaluations * per_evaluation
        self.plan(int(self.process_group.broadcast(max(1, min(int(left / per_step), self.most_steps)))))
        seconds = {"seconds_per_step": per_step, "seconds_per_evaluation": per_evaluation}
        return {"event": "planned", "step": 0, "steps": self.total, **seconds}

    def steps(self) -> Iterator[Step]:
        """Yield the remaining steps."""
        lengths = [row.length for row in self.prepared.train]
        return steps_after(self.done, self.total, lengths, self.study.training.batch_size, self.study.seed)

    def step(self, step: Step, rate: float, should_stop: Stop) -> Event:
        """Train every remaining arm on one batch.

        An arm with a non-finite loss or gradient stops training and keeps its last finite weights.

        Args:
            step: Step to train.
            rate: Learning rate.
            should_stop: Polled before every layer.

        Returns:
            The `step` event.
        """
        noise = self.noise.at(step.number, self.alive)
        arms, norms = self._gradients(step, noise, self.process_group.agree_on_stop(should_stop))
        losses = {slot: numbers["loss"] for slot, numbers in arms.items()}
        results = self.optimizer.step(
            losses,
            norms,
            learning_rate=rate,
            clip_norm=self.study.training.clip_norm,
            decay=self._decay,
            scale=self.scale.value,
        )
        self.scale.stepped()
        self.noise.follow(losses)
        self.alive = [
            slot for slot in self.alive if math.isfinite(losses[slot]) and math.isfinite(results[slot]["gradient_norm"])
        ]
        for slot, numbers in arms.items():
            numbers |= results[slot]
            if self.noise.is_scheduled(slot):
                numbers["noise_multiplier"] = noise[slot].multiplier
        return {
            "event": "step",
            "step": step.number,
            "steps": self.total,
            "epoch": step.epoch,
            "learning_rate": rate,
            "tokens": sum(self.prepared.train[index].length for index in step.rows),
            "arms": {self.name(slot): numbers for slot, numbers in arms.items()},
        }

    def _gradients(
        self, step: Step, noise: Mapping[int, ArmNoise], should_stop: Stop
    ) -> tuple[dict[int, dict[str, Any]], list[float]]:
        """Return a step's losses and gradient norms, repeating the step at a smaller loss scale after an overflow."""
        while True:
            arms = self.backward(step, noise, should_stop)
            norms = self.optimizer.norms()
            if not self.scale.overflowed([one["loss"] for one in arms.values()], [norms[slot] for slot in arms]):
                return arms, norms

    def backward(self, step: Step, noise: Mapping[int, ArmNoise], should_stop: Stop) -> dict[int, dict[str, Any]]:
        """Compute the gradients of a step, discarding earlier ones.

        Args:
            step: Step whose gradients to compute.
            noise: Noise by slot.
            should_stop: Polled before every layer.

        Returns:
            The losses by slot and name, in nats per response token.
        """
        self.optimizer.clear()
        dropout, values = self.study.training.model_dropout, self._methods.at(step.number)
        passes = Passes(self.stack, self._dropout, dropout, should_stop, self.scale.value, values)
        sums: list[tuple[int, str, Tensor]] = []
        self.process_group.working = True
        tokens = 1
        for micro_batch in self.micro_batches(step):
            accelerator.yield_turn()
            tokens = micro_batch.tokens
            of_arms = passes.backward(micro_batch, noise)
            sums += [(slot, name, total) for slot, own in of_arms.items() for name, total in own.items()]
        found = losses_per_token(noise, sums, tokens)
        if self.process_group.size > 1:
            self.process_group.sum(self.optimizer.gradients())
            found = self._summed(found)
        self.process_group.working = False
        return found

    def _summed(self, found: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """Sum the losses of a step over all processes; a process without rows contributes none."""
        values = [[[one.get(name, 0.0), float(name in one)] for name in LOSSES] for one in found.values()]
        totals = torch.tensor(values, dtype=torch.float64, device=self.process_group.device)
        self.process_group.sum([totals])
        return {
            slot: {name: total for name, (total, times) in zip(LOSSES, of_slot, strict=True) if times}
            for slot, of_slot in zip(found, totals.tolist(), strict=True)
        }

    def micro_batches(self, step: Step) -> Iterator[MicroBatch]:
        """Yield this process's share of the rows of a step, split for gradient accumulation."""
        loaded, seed = self.stack.loaded, self.study.seed
        step_rows = [self.prepared.train[index] for index in step.rows]
        tokens = max(1, sum(int(row.trained[1:].sum()) for row in step_rows))  # no target at position 0
        size = math.ceil(len(step_rows) / (self.study.training.accumulation * self.process_group.size))
        for number, start in enumerate(range(0, len(step_rows), size)):
            if number % self.process_group.size != self.process_group.rank:
                continue
            rows = step_rows[start : start + size]
            batch = collate(rows, loaded.tokenizer.pad_token_id, LENGTH_STEP, longest=loaded.context).to(loaded.device)
            keys = [(seed, step.epoch, index) for index in step.rows[start : start + size]]
            noise = noise_rows(rows, batch, keys, step_rows)
            yield MicroBatch(batch, noise, tokens, (seed, step.number, number), step_rows)

    def _evaluated_before(self, should_stop: Stop) -> Event:
        """Evaluate the base and all arms before the first step; arms that equal the base get its measures."""
        event = self._evaluated(0, [0], should_stop)
        moved = self._evaluated(0, self._perturbed_slots, should_stop)["arms"] if self._perturbed_slots else {}
        names = ("base", *map(self.name, self.alive))
        return {**event, "arms": {name: moved.get(name, dict(event["arms"]["base"])) for name in names}}

    def rows_now(self, part: str, slots: Sequence[int], count: int, should_stop: Stop) -> RowMeasures:
        """Measure arms with their current weights on the first rows of a sample.

        The latest evaluation is reused if the weights have not changed since. Otherwise (after a resume) the whole
        sample is measured again. The batches are those of the original evaluation, so the numbers are identical.

        Args:
            part: Sample, "train" or "held_out".
            slots: Slots to measure; they must still be training.
            count: Number of rows.
            should_stop: Polled before every layer.

        Returns:
            The measures of these slots and rows.
        """
        last = self._last_evaluation.get(part)
        if last is None or last.step != self.done or not set(slots) <= set(last.slots):
            last = self._measured(part, list(self.alive), should_stop)
        return last.measures.select([last.slots.index(slot) for slot in slots], count)

    def _measured(self, part: str, slots: list[int], should_stop: Stop) -> _Evaluation:
        sample = self.samples()[part]
        size = evaluation_batch(self.study.training)
        found = row_measures(self.stack, sample, slots, batch_size=size, should_stop=should_stop)
        self._last_evaluation[part] = _Evaluation(self.done, slots, found)
        return self._last_evaluation[part]

    def samples(self) -> dict[str, list[EncodedExample]]:
        """Return the evaluation samples that are not empty: "train" and "held_out"."""
        parts = {"train": self.prepared.train, "held_out": self.prepared.held_out}
        return {part: list(rows[: self.sample_rows]) for part, rows in parts.items() if rows}

    def _evaluated(self, step: int, slots: list[int], should_stop: Stop) -> Event:
        arms: dict[str, dict[str, float]] = {self.name(slot): {} for slot in slots}
        rows: dict[str, Any] = {}
        for part in self.samples():
            found = self._measured(part, slots, should_stop).measures
            for index, slot in enumerate(slots):
                arms[self.name(slot)] |= {f"{part}_{name}": value for name, value in vars(found.of(index)).items()}
            rows[part] = found.to_record([self.name(slot) for slot in slots])
        return {"event": "evaluated", "step": step, "steps": self.total, "arms": arms, "rows": rows}
