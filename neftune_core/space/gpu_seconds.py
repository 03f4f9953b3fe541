"""Estimates of the GPU time to request for a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neftune_core.engine.methods.registry import METHODS
from neftune_core.engine.settings import count_steps
from neftune_core.errors import DoesNotFit, NotAvailable
from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.language import later, say
from neftune_core.noise.kinds import STEP_MODES
from neftune_core.studies.settings import StudySettings

if TYPE_CHECKING:
    from neftune_core.models.estimates import SizedModel
    from neftune_core.settings import Limits
    from neftune_core.studies.comparison import SelectedArm
    from neftune_core.studies.records.record import Record

MOST_SECONDS = 120
"""Maximum duration of a call, in seconds: the daily quota of a visitor without an account."""

# Fixed cost of a call: forking the worker, initialising CUDA, loading the model.
START_SECONDS = 20.0
# Seconds per layer and step, and per layer and generated token, which kernel launches dominate in small models at any
# batch size. The values are assumed, not measured; the margin covers their error.
STEP_SECONDS, TOKEN_SECONDS = 0.005, 0.001
FLOPS_A_SECOND = 20e12
MARGIN = 1.5
PROCESSOR_PARAMETERS = 20_000_000
"""Maximum parameters of a model for which the Depth and Next word views are computed on the CPU, in about a second."""
USUAL_LAYERS = 30  # used if a record lacks the number of layers


def study_seconds(study: StudySettings, rows: int, layers: int, parameters: int) -> int:
    """Estimate the GPU time of a study, with a margin.

    Args:
        study: Settings of the study.
        rows: Number of training rows.
        layers: Number of layers of the model.
        parameters: Number of parameters of the model.

    Returns:
        Whole seconds.
    """
    training, measuring = study.training, study.measuring
    seeds = study.seeds * (2 if measuring.another_seed else 1)
    steps = count_steps(rows, training) * seeds
    groups = pass_groups(study)
    turns = 1 if training.together else len(study.arms) + 1  # the base is also evaluated
    tokens = training.batch_size * min(study.data.maximum_length, 256)
    waited = layers * STEP_SECONDS * training.accumulation * sum(passes for passes, _ in groups)
    step = waited + 6 * parameters * tokens * sum(passes * arms for passes, arms in groups) / FLOPS_A_SECOND
    trained = training.time_budget_seconds * seeds or steps * step
    measured = (training.evaluations + 1) * 2 * -(-training.sample_rows(rows) // 8) * layers * STEP_SECONDS / 2
    written = study.answers.new_tokens + (2 * measuring.new_tokens if measuring.prompts else 0)
    answered = written * layers * TOKEN_SECONDS
    return round(START_SECONDS + MARGIN * (trained + seeds * turns * (measured + answered)))


def pass_groups(study: StudySettings) -> list[tuple[int, int]]:
    """Return (passes per step, number of arms) for each group of arms that share their passes."""
    from neftune_core.engine.passes import pass_strategy
    from neftune_core.noise.batch import ArmNoise

    groups: dict[str, list[int]] = {}
    for name, noise in study.arms.items():
        mode = pass_strategy(ArmNoise(noise))
        used = [METHODS[key] for key, value in study.method_of(name).values.items() if value]
        alone = not study.training.together or any(method.perturbation for method in used)
        key = name if alone else " ".join([mode, *(method.name for method in used if method.in_step)])
        passes = STEP_MODES[mode].passes(noise.ascent_steps)
        own = [method.pass_count for method in used if method.passes]
        groups.setdefault(key, []).append(max(own, default=passes))
    return [(max(passes), len(passes)) for passes in groups.values()]


def answer_seconds(chosen: Sequence[SelectedArm], settings: DecodingSettings) -> int:
    """Estimate the GPU time for a comparison of answers, with a margin; at most `MOST_SECONDS`.

    Args:
        chosen: The arms, all with the same base model.
        settings: Decoding settings.

    Returns:
        Whole seconds.
    """
    from neftune_core.studies.comparison import passes

    layers = max(layers_of(one.record) for one in chosen)
    return pass_seconds(0, layers, passes(chosen) * settings.new_tokens)


def pass_seconds(passes: int, layers: int, new_tokens: int = 0) -> int:
    """Estimate the GPU time for a measurement without training, with a margin; at most `MOST_SECONDS`.

    Args:
        passes: Number of forward passes.
        layers: Number of layers of the model.
        new_tokens: Number of tokens generated one after another.

    Returns:
        Whole seconds.
    """
    work = layers * (passes * STEP_SECONDS / 2 + new_tokens * TOKEN_SECONDS)
    return min(MOST_SECONDS, round(START_SECONDS + MARGIN * work))


def layers_of(record: Record) -> int:
    """Return the number of layers of a record's model, or a typical number if the record lacks it."""
    return int(record.about_table("model").get("layers", USUAL_LAYERS))


def require_call(study: StudySettings, rows: int, model: SizedModel) -> int:
    """Estimate the GPU time of a study, and check that it fits into one call.

    Args:
        study: Settings of the study.
        rows: Number of training rows.
        model: Numbers of layers and parameters of the model.

    Returns:
        Whole seconds.

    Raises:
        DoesNotFit: If the estimate exceeds `MOST_SECONDS`.
    """
    seconds = study_seconds(study, rows, model.layers, model.parameters)
    if seconds > MOST_SECONDS:
        words = later(
            "This study would take about {seconds} seconds of GPU time, but the limit is {most}: choose fewer epochs, "
            "a time budget, fewer seeds or a smaller model."
        )
        raise DoesNotFit(say(words, seconds=seconds, most=MOST_SECONDS))
    return seconds


def record_seconds(record: Record, limits: Limits) -> int:
    """Estimate the GPU time of a record's study, and check that it fits into one call.

    Args:
        record: Record of the study.
        limits: Limits of the server.

    Returns:
        Whole seconds.

    Raises:
        NotAvailable: If the record is a sweep.
        LabError: If the study cannot be read, or the estimate exceeds `MOST_SECONDS`.
    """
    from neftune_core.data.preparing import prepare
    from neftune_core.models.loading import load

    if record.is_sweep:
        raise NotAvailable(
            say(
                "A sweep runs many studies, but this server allocates its GPU one call at a time: run one study at a "
                "time, or run the sweep on your own machine."
            )
        )
    study = record.study
    loaded = load(study.model)
    prepared = prepare(study.data.within(loaded.context), loaded.tokenizer, limits)
    return require_call(study, len(prepared.train), loaded)
