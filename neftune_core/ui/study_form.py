"""From what the page says to a study: its arms, and what it would take here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from neftune_core.data.settings import DataSettings
from neftune_core.errors import InvalidSetting
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import parse
from neftune_core.training.settings import StudySettings, TrainingSettings
from neftune_core.ui.lab import Lab


@dataclass(frozen=True)
class Asked:
    """What the page says of a study, tab by tab."""

    data: DataSettings
    model: ModelSettings
    noise: NoiseSettings
    strengths: str
    seed: Any
    training: TrainingSettings


def study_of(asked: Asked) -> StudySettings:
    """The study that the page describes; raises `InvalidSetting` with one sentence."""
    noise = (asked.noise, *_more(asked.strengths, asked.noise))
    arms = {found.name: found for found in noise if not found.is_silent}
    if not arms:
        raise InvalidSetting(
            "The only strength is 0, which is the control: raise it on the Noise tab, or add some on the Train tab."
        )
    return parse(
        StudySettings,
        {
            "seed": _seed(asked.seed),
            "model": asked.model,
            "data": asked.data,
            "training": asked.training,
            "noise": sorted(arms.values(), key=lambda found: found.strength),
        },
    )


def _seed(given: Any) -> int:
    try:
        return int(given or 0)
    except (TypeError, ValueError, OverflowError):
        raise InvalidSetting(f"The seed {str(given)[:20]!r} is not a whole number.") from None


def _more(text: str, noise: NoiseSettings) -> list[NoiseSettings]:
    words = [word for word in re.split(r"[,;\s]+", text or "") if word]
    try:
        strengths = [float(word) for word in words]
    except ValueError:
        raise InvalidSetting(f"The strengths {text[:60]!r} are not numbers: write them as 5, 15.") from None
    return [parse(NoiseSettings, {**noise.model_dump(), "strength": strength}) for strength in strengths]


def plan_words(lab: Lab, study: StudySettings) -> tuple[str, bool]:
    """How many steps `study` takes, with an estimate of memory and time on this machine, and whether it fits."""
    from neftune_core.models.loading import load
    from neftune_core.training.lockstep import check_length, count_steps
    from neftune_core.training.planning import memory_and_time

    study.check(lab.limits)
    prepared, _ = lab.prepared(study.data, study.model)
    check_length(len(prepared.train), study.training, lab.limits)
    found = memory_and_time(study, load(study.model), prepared)
    steps = count_steps(len(prepared.train), study.training)
    return f"{steps:,} steps of {len(study.arms)} arms. {found.sentence}", found.fits
