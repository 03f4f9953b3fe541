"""Estimate the memory, time and disk space of a study, suggest smaller studies that fit, and time its steps."""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from neftune_core.data.batches import LENGTH_STEP
from neftune_core.data.fitting import FittedPrompt
from neftune_core.data.preparing import PreparedData
from neftune_core.engine.lockstep import Event, Lockstep
from neftune_core.engine.methods.registry import METHODS
from neftune_core.engine.passes import pass_strategy
from neftune_core.engine.settings import TrainingSettings, count_steps, evaluation_batch
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.statistics import Floats
from neftune_core.home import folder_bytes
from neftune_core.language import later, say
from neftune_core.models.architecture.anatomy import linear_maps
from neftune_core.models.estimates import (
    Estimate,
    TimeCalibration,
    Workload,
    estimate,
    gigabytes,
    machine_seconds,
    store_calibration,
    stored_calibration,
    training_key,
)
from neftune_core.models.loading import LoadedModel
from neftune_core.models.stopwatch import without_waiting
from neftune_core.noise.batch import ArmNoise
from neftune_core.noise.kinds import STEP_MODES
from neftune_core.settings import Limits
from neftune_core.studies.measuring import RATES, ROBUSTNESS_SHARE, STRENGTHS, sample_prompts
from neftune_core.studies.prompts import fit_rows, tokenised_study_prompts
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.trained.rows import MOST_ROWS

# Bytes per trained parameter in a checkpoint: the weight and both AdamW moments, in float32.
CHECKPOINT_BYTES = 12
ROBUSTNESS_PASSES = len(STRENGTHS) + len(RATES)


def memory_and_time(study: StudySettings, loaded: LoadedModel, prepared: PreparedData) -> Estimate:
    """Estimate the time of a study, and the memory that it needs in addition to the loaded model.

    Args:
        study: Settings of the study.
        loaded: The model.
        prepared: The tokenised rows.

    Returns:
        The estimate.
    """
    return _estimate(workload_of(study, prepared, loaded), study, loaded)


def require_memory(study: StudySettings, loaded: LoadedModel, prepared: PreparedData) -> None:
    """Check that a study fits in free memory.

    Args:
        study: Settings of the study.
        loaded: The model.
        prepared: The tokenised rows.

    Raises:
        DoesNotFit: If the study does not fit; the message suggests smaller studies.
    """
    found = memory_and_time(study, loaded, prepared)
    if not found.fits:
        needed, fitting = found.sentence[:1].lower() + found.sentence[1:], what_fits(study, loaded, prepared)
        raise DoesNotFit(say("This study does not fit: {needed} {fitting}", needed=needed, fitting=fitting))


def disk_bytes(study: StudySettings, loaded: LoadedModel) -> int:
    """Return the maximum disk use of a study.

    For each arm, a study stores two checkpoints, and the trained weights of every seed. If `keep_best` is set, it
    stores these weights twice, plus one temporary copy. If states are kept, it stores one more checkpoint per seed.

    Args:
        study: Settings of the study.
        loaded: The model.

    Returns:
        Size in bytes.
    """
    parameters, arm_bytes = _trained_size(study.training, loaded)
    copies = 2 * study.seeds + 1 if study.training.keep_best else study.seeds
    checkpoints = 2 + study.seeds * study.training.keeps_state
    return len(study.arms) * (checkpoints * CHECKPOINT_BYTES * parameters + copies * arm_bytes)


def _trained_size(training: TrainingSettings, loaded: LoadedModel) -> tuple[int, int]:
    """Return the number of trained parameters of one arm, and the size of its saved weights in bytes."""
    if training.method == "full":
        weights = list(loaded.model.parameters())
        return sum(one.numel() for one in weights), sum(one.numel() * one.element_size() for one in weights)
    names = linear_maps(loaded.model, training.lora_targets)
    parameters = training.lora_rank * sum(sum(loaded.model.get_parameter(f"{name}.weight").shape) for name in names)
    return parameters, 4 * parameters  # float32


def require_disk(study: StudySettings, loaded: LoadedModel, folder: Path, limits: Limits) -> None:
    """Check that there is enough disk space for a study.

    Args:
        study: Settings of the study.
        loaded: The model.
        folder: Folder of the record.
        limits: Limits of this server.

    Raises:
        DoesNotFit: If the study needs more disk space than is free or allowed.
    """
    needed = disk_bytes(study, loaded)
    own, used, disk = folder_bytes(folder), folder_bytes(folder.parent), shutil.disk_usage(folder)
    free = disk.free if disk.total else needed  # some mounted buckets report no size
    left = max(0, own + min(free, int(limits.disk_gigabytes * 1e9) - used))
    if needed > left:
        raise DoesNotFit(say(TOO_LARGE[study.training.method], needed=gigabytes(needed), left=gigabytes(left)))


TOO_LARGE = {
    "full": later(
        "This study writes up to {needed} of checkpoints and trained weights, but only {left} is available: train "
        "adapters, or use fewer arms or seeds, or discard studies."
    ),
    "lora": later(
        "This study writes up to {needed} of checkpoints and adapters, but only {left} is available: train with fewer "
        "arms or seeds, keep neither the best weights nor the optimizer states, or discard studies."
    ),
}


def what_fits(study: StudySettings, loaded: LoadedModel, prepared: PreparedData) -> str:
    """Suggest the smallest change of each kind that makes a study fit.

    Args:
        study: Settings of the study.
        loaded: The model.
        prepared: The tokenised rows.

    Returns:
        A sentence.
    """
    work = workload_of(study, prepared, loaded)
    rows, length = study.training.batch_size, work.length
    parts = ((2**power, replace(work, batch_size=math.ceil(rows / 2**power))) for power in range(1, rows.bit_length()))
    arms = (
        (arms, replace(work, arms=arms, answered=work.answered * (arms + 1) // (work.arms + 1)))
        for arms in range(work.arms - 1, 1, -1)
    )
    lengths = ((tokens, replace(work, length=tokens)) for tokens in range(length - LENGTH_STEP, 0, -LENGTH_STEP))
    in_turn = [(0, replace(work, together=False))] if work.together else []
    measured = (study.measuring.model_copy(update={"prompts": count}) for count in (study.measuring.prompts // 4, 0))
    fewer = (study.model_copy(update={"measuring": one}) for one in measured)
    answers = (
        (less.measuring.prompts, replace(work, answered=_answer_tokens(less, prepared, loaded))) for less in fewer
    )
    changes = {
        later("arms trained one at a time (less memory, but slower)"): in_turn,
        later("gradient accumulation {value} (less memory)"): parts,
        later("{value} arms, including the control"): arms,
        later("rows of at most {value} tokens"): lengths,
        later("the number of measured prompts set to {value}"): answers,
    }
    found = []
    for words, tries in changes.items():
        fitting = (value for value, changed in tries if _estimate(changed, study, loaded).fits)
        found += [say(words, value=value) for value in islice(fitting, 1)]
    if not found:
        return say("No smaller study of this model would fit either.")
    return say("The study would fit with {changes}.", changes=say(", or ").join(found))


def workload_of(study: StudySettings, prepared: PreparedData, loaded: LoadedModel) -> Workload:
    """Return the workload of all seeds of a study, including those of the A/A floor, which train only the control.

    Args:
        study: Settings of the study.
        prepared: The tokenised rows.
        loaded: The model.

    Returns:
        The workload.
    """
    training, arms = study.training, len(study.arms)
    longest = max(row.length for row in [*prepared.train, *prepared.held_out])
    mean = sum(-(-row.length // LENGTH_STEP) * LENGTH_STEP for row in prepared.train) / max(1, len(prepared.train))
    seeds = sum(len(names) for names in study.runs.values()) / arms
    steps = math.ceil(count_steps(len(prepared.train), training) * seeds)
    used = [METHODS[name] for arm in study.methods for name, value in arm.values.items() if value]
    read_tokens, reads = _reading_work(study, prepared, loaded, mean)
    return Workload(
        arms=arms,
        batch_size=math.ceil(training.batch_size / training.accumulation),
        length=longest,
        steps=steps * training.accumulation,
        rank=None if training.method == "full" else training.lora_rank,
        together=training.together,
        mean_length=mean,
        answered=_answer_tokens(study, prepared, loaded),
        held=max((method.pass_count for method in used), default=1),
        perturbed=any(method.perturbation for method in used),
        trained=sum(map(len, study.runs.values())),
        budget_seconds=training.time_budget_seconds * seeds,
        repeats=sum(_passes(study, name) for name in study.arms) / arms,
        read_tokens=read_tokens,
        reads=reads,
    )


def _passes(study: StudySettings, arm: str) -> int:
    """Return the number of passes through the model per step that the method or the noise of an arm needs."""
    noise, values = study.arms[arm], study.method_of(arm).values
    own = max((METHODS[name].pass_count for name, value in values.items() if value), default=1)
    return own if own > 1 else STEP_MODES[pass_strategy(ArmNoise(noise))].passes(noise.ascent_steps)


def _reading_work(
    study: StudySettings, prepared: PreparedData, loaded: LoadedModel, length: float
) -> tuple[float, int]:
    """Return the number of tokens that a study processes without gradients, and the number of passes.

    `length` is the mean number of tokens per row. A time budget includes the evaluations during training, so they are
    not counted. The base is evaluated and answers the prompts once per seed.
    """
    training, measuring = study.training, study.measuring
    parts = [rows for rows in (prepared.train, prepared.held_out) if rows]
    seeds, trained = len(study.runs), sum(map(len, study.runs.values()))
    turns = 1 if training.together else len(study.arms)
    sample = sum(min(len(rows), training.sample_rows(len(prepared.train))) for rows in parts)
    times = 0 if training.time_budget_seconds else min(training.evaluations, count_steps(len(prepared.train), training))
    robust = ROBUSTNESS_PASSES * ROBUSTNESS_SHARE * measuring.robustness * (len(parts) - 1)
    measured = (1 + robust) * sample / len(parts) + sum(min(len(rows), MOST_ROWS) for rows in parts)
    rows = seeds * sample + trained * (times * sample + measured)
    answered = (trained + seeds) * (_measured_tokens(study, prepared, loaded) + _asked_tokens(study, prepared, loaded))
    samples = seeds * turns * len(parts) * (times + 3 + robust)
    batches = math.ceil(sample / len(parts) / evaluation_batch(training))
    written = study.answers.new_tokens + (measuring.new_tokens if measuring.prompts else 0)
    return length * rows + answered, round(samples * batches + seeds * turns * written)


def _answer_tokens(study: StudySettings, prepared: PreparedData, loaded: LoadedModel) -> int:
    """Return the number of prompt and answer tokens in memory, for the base and all arms, when a seed ends."""
    tokens = max(_measured_tokens(study, prepared, loaded), _asked_tokens(study, prepared, loaded))
    return (len(study.arms) + 1) * tokens


def _measured_tokens(study: StudySettings, prepared: PreparedData, loaded: LoadedModel) -> int:
    """Return the number of tokens, including padding, of the measured prompts and their answers, per arm."""
    count, new_tokens = sample_prompts(study, prepared), study.measuring.new_tokens
    rows = [*prepared.held_out[:count], *prepared.train[:count]]
    return _tokens_of(fit_rows(rows, loaded, new_tokens), new_tokens)


def _asked_tokens(study: StudySettings, prepared: PreparedData, loaded: LoadedModel) -> int:
    """Return the number of tokens, including padding, of the study's prompts and their answers, per arm."""
    _, found = tokenised_study_prompts(study, prepared, loaded)
    return study.answers.answers_each * _tokens_of(found, study.answers.new_tokens)


def _tokens_of(prompts: Sequence[FittedPrompt | None], new_tokens: int) -> int:
    lengths = [len(prompt.ids) for prompt in prompts if prompt is not None]
    return len(lengths) * (max(lengths) + new_tokens) if lengths else 0


def _estimate(work: Workload, study: StudySettings, loaded: LoadedModel) -> Estimate:
    return estimate(loaded, work, study.model, weights_are_loaded=True)


FEWEST_STEPS = 2
LAST_STEPS = 50


class StepTimer:
    """Measures the pace of one run's steps, except the first, which includes warm-up.

    On a CPU, waiting time is not counted if the run waited for the CPU more than half of the time, because the programs
    that used the CPU may have ended before the next study.
    """

    def __init__(self, run: Lockstep) -> None:
        self.run, self.started = run, self._now()
        self.last: deque[Floats] = deque(maxlen=LAST_STEPS)
        self.count, self.total = 0, np.zeros(2)

    @staticmethod
    def _now() -> Floats:
        """Return the wall time and the CPU time of this process, in seconds."""
        return np.array([time.perf_counter(), time.process_time()])

    def _counted(self, times: Floats) -> float:
        wall, processor = times.tolist()
        return without_waiting(wall, processor) if self.run.stack.loaded.device.type == "cpu" else wall

    def timed(self, events: Iterator[Event]) -> Iterator[Event]:
        """Yield the events unchanged and time the steps, excluding time spent in the consumer."""
        before = self._now()
        for event in events:
            if event["event"] == "step":
                took = self._now() - before
                if self.count:
                    self.last.append(took)
                self.count, self.total = self.count + 1, self.total + took
            yield event
            before = self._now()

    def keep(self, *, finished: bool) -> None:
        """Store the pace of recent steps and, for a finished run, the time outside steps, for later estimates.

        Nothing is stored after fewer than `FEWEST_STEPS` steps.
        """
        if len(self.last) < FEWEST_STEPS:
            return
        study, loaded = self.run.study, self.run.stack.loaded
        training = study.training.model_copy(update={"time_budget_seconds": 0.0, "steps": self.run.total})
        planned = study.model_copy(update={"training": training})
        work = workload_of(planned, self.run.prepared, loaded)
        key, share = training_key(study.model, work), len(self.run.names) / work.trained
        one_step = replace(work, arms=len(self.run.names), steps=training.accumulation)
        steps = self._counted(np.mean(self.last, axis=0)) / machine_seconds(loaded, one_step, study.model)[0]
        rest = (stored_calibration(key) or TimeCalibration()).rest
        if finished:
            measured = max(0.0, self._counted(self._now() - self.started - self.total))
            rest = measured / (share * machine_seconds(loaded, work, study.model)[1])
        store_calibration(key, TimeCalibration(steps, rest))
