"""Create a set of arms: adapters over one base, or full copies of the weights."""

from __future__ import annotations

from neftune_core.engine.armset import ArmSet
from neftune_core.engine.copies import FullCopies
from neftune_core.engine.graphs import capture_layers
from neftune_core.engine.settings import TrainingSettings
from neftune_core.engine.stack import AdapterStack
from neftune_core.errors import NotAvailable
from neftune_core.language import say
from neftune_core.models.loading import LoadedModel

COMPILED = {"compiled": "default", "captured": "reduce-overhead"}
"""`torch.compile` mode by value of the `execution` setting."""


def make_arms(loaded: LoadedModel, arms: int, training: TrainingSettings) -> ArmSet:
    """Create the set of arms that the settings select. Call `start` or `load` on the set before use.

    Args:
        loaded: The base model.
        arms: Number of arms.
        training: The training settings; `execution` is ignored, and layers run eagerly.

    Returns:
        The arms, not yet initialised.
    """
    if training.method == "full":
        return FullCopies(loaded, arms)
    return AdapterStack(
        loaded,
        arms,
        rank=training.lora_rank,
        alpha=training.lora_alpha,
        targets=training.lora_targets,
        together=training.together,
    )


def make_training_arms(loaded: LoadedModel, arms: int, training: TrainingSettings) -> ArmSet:
    """Create a set of arms as `make_arms` does, and apply the `execution` setting to its layers.

    Args:
        loaded: The base model.
        arms: Number of arms.
        training: The training settings.

    Returns:
        The arms.

    Raises:
        NotAvailable: If the settings select CUDA graphs but the device does not support them.
    """
    if training.execution in ("graphs", "captured") and loaded.device.type != "cuda":
        raise NotAvailable(say("Capturing CUDA graphs needs a CUDA GPU: set execution to compiled or eager."))
    made = make_arms(loaded, arms, training)
    if training.execution == "graphs":
        capture_layers(made)
    elif training.execution in COMPILED:
        made.compile_layers(COMPILED[training.execution])
    return made
