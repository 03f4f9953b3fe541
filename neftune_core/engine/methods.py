"""How the arms of a study are kept: adapters over one base, or a copy of all weights each."""

from __future__ import annotations

from collections.abc import Callable

from neftune_core.engine.armset import ArmSet
from neftune_core.engine.copies import FullCopies
from neftune_core.engine.settings import TrainingSettings
from neftune_core.engine.stack import AdapterStack
from neftune_core.errors import NotAvailable
from neftune_core.language import say
from neftune_core.models.loading import LoadedModel


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

COMPILED = {"compiled": "default", "captured": "reduce-overhead"}
"""The mode of `torch.compile`, by how the layers are to be run."""


def make_arms(loaded: LoadedModel, arms: int, training: TrainingSettings) -> ArmSet:
    """`arms` arms over `loaded` as the settings say, not yet at their start; raises `NotAvailable`."""
    if training.execution == "captured" and loaded.device.type != "cuda":
        raise NotAvailable(say("Only a CUDA GPU can capture a step: let the layers be compiled, or run as they are."))
    made = MAKERS[training.method](loaded, arms, training)
    if training.execution in COMPILED:
        made.compile_layers(COMPILED[training.execution])
    return made
