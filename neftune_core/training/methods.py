"""How the arms of a study are kept: adapters over one base, or a copy of all weights each."""

from __future__ import annotations

from collections.abc import Callable

from neftune_core.arms.armset import ArmSet
from neftune_core.arms.copies import FullCopies
from neftune_core.arms.stack import AdapterStack
from neftune_core.models.loading import LoadedModel
from neftune_core.training.settings import TrainingSettings


def _adapters(loaded: LoadedModel, arms: int, training: TrainingSettings) -> ArmSet:
    return AdapterStack(
        loaded,
        arms,
        rank=training.lora_rank,
        alpha=training.lora_alpha,
        targets=training.lora_targets,
        together=training.together,
    )


def _copies(loaded: LoadedModel, arms: int, training: TrainingSettings) -> ArmSet:
    return FullCopies(loaded, arms)


MAKERS: dict[str, Callable[[LoadedModel, int, TrainingSettings], ArmSet]] = {"lora": _adapters, "full": _copies}


def make_arms(loaded: LoadedModel, arms: int, training: TrainingSettings) -> ArmSet:
    """`arms` arms over `loaded` as the settings say, not yet at their start."""
    return MAKERS[training.method](loaded, arms, training)
