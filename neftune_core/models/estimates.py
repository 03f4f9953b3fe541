"""Estimates of the memory and time of a study on this machine.

Importing this module does not import torch; the first estimate does.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from neftune_core.durable import write_whole
from neftune_core.home import home
from neftune_core.language import later, plural, say
from neftune_core.models import device as hardware
from neftune_core.models.settings import ModelSettings

if TYPE_CHECKING:
    import torch


class SizedModel(Protocol):
    """A protocol for the size of a model, implemented by `Card` and `LoadedModel`."""

    @property
    def parameters(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...


@dataclass(frozen=True)
class Workload:
    """The size of a study.

    Attributes:
        batch_size: Rows per step and arm.
        length: Number of tokens in the longest row, which determines memory.
        rank: LoRA rank; None for full fine-tuning, in which arms always run one after another.
        together: Whether adapters of several arms run in one pass.
        mean_length: Mean number of tokens per row, which determines time; 0 if all rows have `length`.
        answered: Number of tokens of prompts and answers whose keys and values are in memory at once.
        held: Number of passes of one arm whose activations are in memory at once.
        perturbed: Whether an arm trains on a copy of the weights with noise.
        trained: Number of arms over all seeds, which are all evaluated and measured; 0 means `arms`.
        budget_seconds: Time budget of all seeds together; 0 if the number of steps is known.
        repeats: Passes per step, averaged over the arms.
        read_tokens: Tokens processed without gradients, in evaluations, measures and answers.
        reads: Number of passes that process the `read_tokens`.
    """

    arms: int
    batch_size: int
    length: int
    steps: int
    rank: int | None = 16
    together: bool = True
    mean_length: float = 0.0
    answered: int = 0
    held: int = 1
    perturbed: bool = False
    trained: int = 0
    budget_seconds: float = 0.0
    repeats: float = 1.0
    read_tokens: float = 0.0
    reads: int = 0

    @property
    def turns(self) -> int:
        """Number of groups of arms that run one after another in a step."""
        return 1 if self.together and self.rank is not None else self.arms


@dataclass(frozen=True)
class Estimate:
    """The predicted cost of a study on this machine.

    Attributes:
        memory_bytes: Peak memory in bytes, in addition to the memory already in use.
        fits: Whether the memory is available.
        sentence: The estimate in one sentence, for users.
    """

    memory_bytes: int
    seconds: float
    fits: bool
    sentence: str


# Bytes per trained parameter in float32: the value, its gradient and the two moments of AdamW.
TRAINED_BYTES = 16
# Activations stored for the backward pass per token and layer, in multiples of the width; measured on a Llama.
STORED_WIDTHS = 30
# Summed inputs and outputs of the linear modules of a layer, in multiples of the width.
ADAPTED_WIDTHS = 20
LOGIT_ROWS, LOGIT_COPIES = 128, 3
STUDY_BYTES = 150_000_000
"""Measured memory of the first study in a process, regardless of its size: lazily imported modules, buffers, and free
blocks that the allocator keeps."""
# Floating point operations per token and weight: forward, and the gradients with respect to inputs and weights.
READING_FLOPS, ADAPTER_FLOPS, FULL_FLOPS = 2, 4, 6
# Speed of a step relative to that of a plain matrix product; measured.
EFFICIENCY = 0.6
STEP_OPERATIONS, READ_OPERATIONS = 1300, 400
"""Fixed time of a layer per pass, as a number of small operations, with and without gradients (measured)."""
LAYERS_AROUND = 4
"""Fixed time outside the layers (batch, noise, head, loss, optimizer), as a number of layers (measured)."""
LABELLED_SHARE = 0.5
"""Assumed share of tokens for which logits are computed."""


def estimate(
    model: SizedModel, work: Workload, settings: ModelSettings | None = None, *, weights_are_loaded: bool = False
) -> Estimate:
    """Estimate the memory and time of a study on this machine.

    Both are accurate to within a factor of two on an idle machine. The time is calibrated with the last study of the
    same model on this machine. Without such a study, the time is computed from the measured speed of a matrix product
    and of small operations.

    Args:
        model: Size of the model.
        work: Size of the study.
        settings: Device and precision.
        weights_are_loaded: Whether the model is already loaded, so that its weights are not counted again.

    Returns:
        The estimate.

    Raises:
        InvalidSetting: If there is no device of this name.
        NotAvailable: If this machine does not have the device.
    """
    chosen = settings or ModelSettings()
    device, precision = hardware.device_and_precision(chosen)
    memory = _memory(model, work, device, precision)
    if not weights_are_loaded:
        memory += model.parameters * hardware.BYTES[precision]
    calibration = stored_calibration(training_key(chosen, work)) or TimeCalibration()
    steps = work.budget_seconds or calibration.steps * _step_seconds(model, work, device, precision)
    seconds = steps + calibration.rest * _read_seconds(model, work, device, precision)
    free = hardware.available_memory(str(device))
    given = {"memory": gigabytes(memory), "duration": duration(seconds)}
    if memory <= free:
        words = later(
            "Needs about {memory} more memory ({whole} for the whole process) and {duration} on this machine."
        )
        given["whole"] = gigabytes(memory + hardware.used_memory(device))
    else:
        words = later(
            "Needs about {memory} of memory and {duration} on this machine, but only {free} of memory is free: choose "
            "a smaller batch, shorter rows or fewer arms."
        )
        given["free"] = gigabytes(free)
    return Estimate(memory, seconds, memory <= free, say(words, **given))


def training_key(settings: ModelSettings, work: Workload) -> str:
    """Return the key under which the time calibration of a study is stored.

    Args:
        settings: The model, device and precision.
        work: Size of the study.

    Returns:
        Source, device, precision and training method, separated by `|`.

    Raises:
        InvalidSetting: If there is no device of this name.
        NotAvailable: If this machine does not have the device.
    """
    device, precision = hardware.device_and_precision(settings)
    return "|".join((settings.source, str(device), precision, "full" if work.rank is None else "lora"))


def machine_seconds(model: SizedModel, work: Workload, settings: ModelSettings) -> tuple[float, float]:
    """Estimate the duration of a study from this machine's speed only, without a calibration.

    Args:
        model: Size of the model.
        work: Size of the study.
        settings: Device and precision.

    Returns:
        Seconds for the steps of all arms, and seconds for all evaluations, measures and answers.

    Raises:
        InvalidSetting: If there is no device of this name.
        NotAvailable: If this machine does not have the device.
    """
    device, precision = hardware.device_and_precision(settings)
    return _step_seconds(model, work, device, precision), _read_seconds(model, work, device, precision)


def _memory(model: SizedModel, work: Workload, device: torch.device, precision: str) -> int:
    """Return the peak memory of a study in bytes, without the model's own weights."""
    size = hardware.BYTES[precision]
    width = layer_width(model)
    positions = work.held * work.batch_size * work.length
    if work.together and work.rank is not None:
        positions = min(work.arms * positions, max(positions, hardware.tokens_per_pass(device, model.width)))
    activations = positions * model.layers * STORED_WIDTHS * width * size
    cache = work.answered * 2 * model.layers * width * size  # keys and values
    logits = LOGIT_ROWS * model.vocabulary * LOGIT_COPIES * 4
    trained = model.parameters if work.rank is None else work.rank * ADAPTED_WIDTHS * width * model.layers
    noisy = 2 * 4 * model.parameters if work.perturbed else 0  # the noise and the sum, in float32
    rounded = size * model.parameters if work.rank is None and precision != "float32" else 0  # of the active arm
    passes = max(activations, cache) + logits
    return int(STUDY_BYTES + noisy + rounded + passes + work.arms * trained * TRAINED_BYTES)


def layer_width(model: SizedModel) -> float:
    """Estimate the width of the layers from about `12 * width^2` parameters per layer; embeddings may be narrower."""
    inner = max(0, model.parameters - model.vocabulary * model.width)
    return float(max(model.width, (inner / (12 * max(1, model.layers))) ** 0.5))


def _step_seconds(model: SizedModel, work: Workload, device: torch.device, precision: str) -> float:
    positions = work.arms * work.batch_size * (work.mean_length or work.length)
    turns = max(work.turns, min(work.arms, positions / hardware.tokens_per_pass(device, model.width)))
    flops = ADAPTER_FLOPS if work.rank is not None else FULL_FLOPS
    arithmetic = _arithmetic_seconds(model, flops * positions, device, precision)
    return work.steps * work.repeats * (arithmetic + turns * _fixed_seconds(model, STEP_OPERATIONS, device))


def _read_seconds(model: SizedModel, work: Workload, device: torch.device, precision: str) -> float:
    arithmetic = _arithmetic_seconds(model, READING_FLOPS * work.read_tokens, device, precision)
    return arithmetic + work.reads * _fixed_seconds(model, READ_OPERATIONS, device)


def _arithmetic_seconds(model: SizedModel, flops: float, device: torch.device, precision: str) -> float:
    """Return the time of the products with all weights in seconds; `flops` is the total of operations per weight."""
    head = model.vocabulary * model.width
    weights = max(0, model.parameters - head) + LABELLED_SHARE * head
    return flops * weights / (hardware.matrix_speed(str(device), precision) * EFFICIENCY)


def _fixed_seconds(model: SizedModel, operations: int, device: torch.device) -> float:
    """Return the part of a pass's time that does not depend on the number of tokens, in seconds."""
    return (model.layers + LAYERS_AROUND) * operations * hardware.operation_seconds(str(device))


def gigabytes(count: float) -> str:
    """Format a number of bytes for users, in kB, MB or GB."""
    if count < 1e6:
        return f"{math.ceil(count / 1e3)} kB"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{round(count / 1e6)} MB"


def duration(seconds: float) -> str:
    """Format a number of seconds for users, in seconds, minutes or hours."""
    if seconds < 90:
        count = max(1, round(seconds))
        return say(plural(count, "1 second", "{count} seconds"), count=count)
    if seconds < 5400:
        return say("{count} minutes", count=round(seconds / 60))
    return say("{count:.1f} hours", count=seconds / 3600)


# ---------------------------------------------------------------- measured speed of this machine, stored on disk

MOST_KEPT = 200
MAXIMUM_RATIO = 1000.0
"""Ratios above this, or below its inverse, are discarded as implausible."""
FILE = "times.json"


@dataclass(frozen=True)
class TimeCalibration:
    """Ratios of measured times to times predicted from the speed of the machine.

    Attributes:
        steps: Ratio for the training steps.
        rest: Ratio for evaluations, measures and answers.
    """

    steps: float = 1.0
    rest: float = 1.0

    @property
    def is_plausible(self) -> bool:
        """Whether both ratios are plausible."""
        return all(1 / MAXIMUM_RATIO < ratio < MAXIMUM_RATIO for ratio in (self.steps, self.rest))


def stored_calibration(key: str) -> TimeCalibration | None:
    """Return the last calibration stored under `key`; None if absent or invalid."""
    found = _stored_calibrations().get(key)
    try:
        stored = TimeCalibration(float(found["steps"]), float(found["rest"])) if isinstance(found, dict) else None
    except (KeyError, TypeError, ValueError):
        return None
    return stored if stored and stored.is_plausible else None


def store_calibration(key: str, calibration: TimeCalibration) -> None:
    """Store a calibration; implausible ratios and write errors are ignored.

    Args:
        key: Key from `training_key`.
        calibration: The calibration to store.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    if not calibration.is_plausible:
        return
    kept = {name: value for name, value in _stored_calibrations().items() if name != key} | {key: asdict(calibration)}
    with suppress(OSError):
        write_whole(home() / FILE, json.dumps(dict(list(kept.items())[-MOST_KEPT:]), indent=1))


def _stored_calibrations() -> dict[str, object]:
    try:
        found = json.loads((home() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
