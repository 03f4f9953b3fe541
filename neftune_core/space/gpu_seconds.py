"""The GPU time to request for a call, estimated from the study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.language import say
from neftune_core.studies.settings import StudySettings

if TYPE_CHECKING:
    from neftune_core.studies.comparison import SelectedArm

MOST_SECONDS = 120
"""The longest call that is asked for: what the platform lends somebody who has no account for a day."""

# Fixed cost of a call: forking the worker, initialising CUDA, loading the model.
START_SECONDS = 20.0
# Seconds per layer and step, and per layer and generated token. Small models are bound by kernel launches, whatever the
# batch size. Assumed, not measured; the margin covers the error.
STEP_SECONDS, TOKEN_SECONDS = 0.005, 0.001
FLOPS_A_SECOND = 20e12
MARGIN = 1.5
USUAL_LAYERS = 30  # for a record without the number of layers


def study_seconds(study: StudySettings, rows: int, layers: int, parameters: int) -> int:
    """Estimate the GPU time of a study, with a margin.

    Args:
        study: The study.
        rows: Number of training rows.
        layers: Number of layers of the model.
        parameters: Number of parameters of the model.

    Returns:
        Whole seconds.
    """
    from neftune_core.engine.settings import count_steps

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
    """Return the groups of arms that share a pass in each step: passes and arms of each."""
    from neftune_core.engine.passes import pass_strategy
    from neftune_core.noise.batch import ArmNoise

    by_way: dict[str, list[int]] = {}
    for name, noise in study.arms.items():
        way = pass_strategy(ArmNoise(noise))
        key = way if study.training.together else name
        by_way.setdefault(key, []).append({"one": 1, "pair": 2, "ascent": noise.ascent_steps + 1}[way])
    return [(max(passes), len(passes)) for passes in by_way.values()]


def answer_seconds(chosen: Sequence[SelectedArm], settings: DecodingSettings) -> int:
    """Estimate an upper bound of the GPU time for answers; all records share one model.

    Args:
        chosen: The arms.
        settings: Decoding settings.

    Returns:
        Whole seconds.
    """
    from neftune_core.studies.comparison import passes

    layers = max(int(one.record.about_table("model").get("layers", USUAL_LAYERS)) for one in chosen)
    decoding = passes(chosen) * settings.new_tokens * layers * TOKEN_SECONDS
    return min(MOST_SECONDS, round(START_SECONDS + MARGIN * decoding))


def require_call(study: StudySettings, rows: int, layers: int, parameters: int) -> int:
    """Estimate the GPU time of a study, as `study_seconds`.

    Args:
        study: The study.
        rows: Number of training rows.
        layers: Number of layers of the model.
        parameters: Number of parameters of the model.

    Returns:
        Whole seconds.

    Raises:
        DoesNotFit: If no call is that long.
    """
    seconds = study_seconds(study, rows, layers, parameters)
    if seconds > MOST_SECONDS:
        raise DoesNotFit(
            say(
                "This study would take about {seconds} seconds of GPU time, which is limited to "
                "{most}: choose fewer epochs, a time budget, fewer seeds or a smaller model.",
                seconds=seconds,
                most=MOST_SECONDS,
            )
        )
    return seconds
