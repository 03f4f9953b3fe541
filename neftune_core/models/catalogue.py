"""What a study with a model would take on this machine, and the models that the lab knows by name.

Reading it imports nothing heavy; torch comes with the first estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from neftune_core.language import say
from neftune_core.models.cards import CATALOGUE, Card
from neftune_core.models.settings import ModelSettings

if TYPE_CHECKING:
    import torch

__all__ = ["CATALOGUE", "Card", "Estimate", "Sized", "Work", "duration", "estimate", "gigabytes"]


class Sized(Protocol):
    """What an estimate asks of a model: a `Card` and a `LoadedModel` both say it."""

    @property
    def parameters(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...


@dataclass(frozen=True)
class Work:
    """The size of a study: `steps` optimizer steps of `batch_size` rows of `length` tokens for each of `arms`.

    `rank` is that of the adapters; None trains a full copy of the weights for each arm, which go in turn. `together`
    says whether adapters of several arms go through the model in one pass. Memory follows the longest rows (`length`),
    time the mean of them (`mean_length`; 0 if all are equally long). `answered` is the number of tokens of all
    prompts and answers that are kept at once when the study ends.
    """

    arms: int
    batch_size: int
    length: int
    steps: int
    rank: int | None = 16
    together: bool = True
    mean_length: float = 0.0
    answered: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a study would take here: bytes at the peak, seconds, whether it fits, and all that in one sentence."""

    memory_bytes: int
    seconds: float
    fits: bool
    sentence: str


# Bytes of a trained number: itself, its gradient and the two averages of AdamW, in float32.
TRAINED_BYTES = 16
# Numbers kept for the backward pass, for each token and layer, in widths of the model; measured on a Llama.
KEPT_WIDTHS = 30
# Inputs and outputs of a layer's linear maps together, in widths of the model.
ADAPTED_WIDTHS = 20
LOGIT_ROWS, LOGIT_COPIES = 128, 3
PROCESS_BYTES = 500_000_000
# Multiplications and additions of a step for each weight it passes: forward, back to the inputs, back to the weights.
ADAPTER_FLOPS, FULL_FLOPS = 4, 6
# Share of the speed of a plain matrix product that a step reaches; measured.
EFFICIENCY = 0.6
# What a layer costs in each step however few the tokens are.
LAYER_SECONDS = 0.002
LABELLED_SHARE = 0.5


def estimate(
    model: Sized, work: Work, settings: ModelSettings | None = None, *, weights_are_loaded: bool = False
) -> Estimate:
    """What `work` on `model` would take on this machine, in the device and precision of `settings`.

    With `weights_are_loaded` the memory is what comes on top of a loaded model. Memory is right within about a third.
    Time follows the last study of this model on this machine, and is then within a factor of two; without one it
    follows the speed of a matrix product, within a factor of three on an otherwise idle machine.
    """
    from neftune_core.models.device import BYTES, available_memory, choose_device, choose_precision
    from neftune_core.models.pace import Pace, known_pace

    chosen = settings or ModelSettings()
    device = choose_device(chosen.device)
    precision = choose_precision(chosen.precision, device)
    memory = _memory(model, work, device, precision)
    if weights_are_loaded:
        memory -= PROCESS_BYTES + model.parameters * BYTES[precision]
    pace = known_pace(training_key(chosen, work)) or Pace()
    seconds = pace.factor * _seconds(model, work, device, precision)
    free = available_memory(str(device))
    fits = memory <= free
    given = {"memory": gigabytes(memory), "duration": duration(seconds), "free": gigabytes(free)}
    if fits:
        return Estimate(memory, seconds, fits, say("About {memory} of memory and {duration} here.", **given))
    words = say(
        "About {memory} of memory and {duration} here, but only {free} are free: choose a smaller batch, shorter rows "
        "or fewer arms.",
        **given,
    )
    return Estimate(memory, seconds, fits, words)


def training_key(settings: ModelSettings, work: Work) -> str:
    """Return the key of `pace.known_pace` for `work` on the model of `settings`."""
    from neftune_core.models.device import choose_device, choose_precision
    from neftune_core.models.pace import pace_key

    device = choose_device(settings.device)
    method = "full" if work.rank is None else "lora"
    return pace_key(settings.source, str(device), choose_precision(settings.precision, device), method)


def arithmetic_seconds(model: Sized, work: Work, settings: ModelSettings) -> float:
    """Return the seconds that the steps of `work` take by this machine's arithmetic alone."""
    from neftune_core.models.device import choose_device, choose_precision

    device = choose_device(settings.device)
    return _seconds(model, work, device, choose_precision(settings.precision, device))


def _memory(model: Sized, work: Work, device: torch.device, precision: str) -> int:
    from neftune_core.models.device import BYTES, positions_of_a_pass

    size = BYTES[precision]
    width = _inner_width(model)
    positions = work.batch_size * work.length
    if work.together and work.rank is not None:
        positions = min(work.arms * positions, max(positions, positions_of_a_pass(device, model.width)))
    kept = positions * model.layers * KEPT_WIDTHS * width * size
    answering = work.answered * 2 * model.layers * width * size  # keys and values
    logits = LOGIT_ROWS * model.vocabulary * LOGIT_COPIES * 4
    trained = model.parameters if work.rank is None else work.rank * ADAPTED_WIDTHS * width * model.layers
    weights = model.parameters * size
    rounded = weights if work.rank is None and precision != "float32" else 0  # of the arm that has its turn
    return int(PROCESS_BYTES + weights + rounded + max(kept, answering) + logits + work.arms * trained * TRAINED_BYTES)


def _inner_width(model: Sized) -> float:
    """The width of the layers, from their size: twelve squared widths a layer; an embedding may be narrower."""
    inner = max(0, model.parameters - model.vocabulary * model.width)
    return float(max(model.width, (inner / (12 * max(1, model.layers))) ** 0.5))


def _seconds(model: Sized, work: Work, device: torch.device, precision: str) -> float:
    from neftune_core.models.device import matrix_speed

    tokens = work.steps * work.arms * work.batch_size * (work.mean_length or work.length)
    head = model.vocabulary * model.width
    passed = max(0, model.parameters - head) + LABELLED_SHARE * head
    flops = tokens * passed * (ADAPTER_FLOPS if work.rank is not None else FULL_FLOPS)
    return flops / (matrix_speed(str(device), precision) * EFFICIENCY) + work.steps * model.layers * LAYER_SECONDS


def gigabytes(count: float) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 90:
        count = max(1, round(seconds))
        return say("1 second") if count == 1 else say("{count} seconds", count=count)
    if seconds < 5400:
        return say("{count} minutes", count=round(seconds / 60))
    return say("{count:.1f} hours", count=seconds / 3600)
