"""Training settings, and the step counts, learning rates and evaluation steps derived from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import field_validator

from neftune_core.engine.methods.adapter_dropout import MOST_DROPOUT
from neftune_core.engine.methods.registry import MethodSettings
from neftune_core.engine.methods.weight_decay import MOST_DECAY
from neftune_core.errors import DoesNotFit
from neftune_core.language import say
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, Settings, setting

__all__ = ["MethodSettings", "TrainingSettings"]

SCHEDULES = {"constant": "Constant", "linear": "Linear decay to zero", "cosine": "Cosine decay to zero"}
METHODS = {"lora": "Adapters (LoRA)", "full": "All weights (full fine-tuning)"}
TURNS = {"together": "All together", "in-turn": "One at a time (less memory)"}
EXECUTIONS = {
    "eager": "Not compiled",
    "graphs": "Layers captured, not compiled (CUDA graphs)",
    "compiled": "Layers compiled (torch.compile)",
    "captured": "Layers compiled and captured (CUDA graphs)",
}
KEEPING = {"adapters": "For adapters only", "always": "Also for full fine-tuning", "never": "Never"}
TARGETS = {"all": "All linear layers", "attention": "Linear layers in attention"}
SAMPLED_PART, FEWEST_SAMPLED, MOST_SAMPLED = 6, 8, 32
"""Training rows per row of an evaluation sample, and the smallest and largest number of sampled rows. Evaluating larger
samples would take more than a quarter of the time of a three-epoch study."""


class TrainingSettings(Settings):
    """Training settings shared by all arms of a study, unless a method overrides them."""

    epochs: float = setting(3.0, minimum=0.01, maximum=1000, slider_maximum=20, step=1, unit="epochs")
    """Number of passes over the training rows."""
    steps: int = setting(0, minimum=0, maximum=10_000_000, slider_maximum=2000, step=10, unit="steps")
    """Optimizer steps instead of epochs; 0 uses epochs."""
    time_budget_seconds: float = setting(
        0.0, minimum=0, maximum=30 * 24 * 3600, slider_maximum=600, step=10, unit="seconds", label="Time budget"
    )
    """Train for about this long, instead of a number of epochs or steps; a few steps are timed first. 0 means no
    budget."""
    batch_size: int = setting(4, minimum=1, maximum=512, slider_maximum=32, step=1, unit="rows")
    """Rows in one step, for each arm."""
    accumulation: int = setting(
        1, minimum=1, maximum=512, slider_maximum=16, step=1, unit="parts", label="Gradient accumulation"
    )
    """Number of parts into which the rows of a step are split to save memory. Except for the dropout masks, the result
    is the same: the loss is divided by the number of tokens in the whole step."""
    method: str = setting("lora", choices=METHODS)
    """What is trained: adapters on the frozen model, or all weights (one copy of the model per arm)."""
    arms_at_once: str = setting("together", choices=TURNS)
    """Whether the adapters of several arms share a pass or run one at a time, which needs less memory but more time.
    The losses agree up to rounding, unless the model has dropout, whose masks then differ. In full fine-tuning, arms
    always run one at a time."""
    execution: str = setting("eager", choices=EXECUTIONS)
    """How the layers are run. CUDA graphs and compilation pay off if the GPU mostly waits for small operations to be
    launched, but hardly on a CPU. With compilation, the first step with each new batch shape can take a minute or
    more."""
    learning_rate: float = setting(5e-4, minimum=0, maximum=10, step=1e-4)
    """Peak learning rate of AdamW. Usual values are 1e-4 to 5e-3 for LoRA and 1e-6 to 1e-4 for all weights."""
    schedule: str = setting("linear", choices=SCHEDULES)
    """How the learning rate changes over the run."""
    warmup: float = setting(0.0, minimum=0, maximum=0.9, step=0.01)
    """Share of the run in which the learning rate rises from 0."""
    weight_decay: float = setting(0.0, minimum=0, maximum=MOST_DECAY, step=0.01)
    """Decoupled weight decay of AdamW."""
    clip_norm: float = setting(1.0, minimum=0, maximum=1e6, slider_maximum=10, step=0.1, label="Gradient clipping")
    """Maximum gradient norm of each arm; 0 disables clipping."""
    lora_rank: int = setting(8, minimum=1, maximum=512, slider_maximum=64, step=1, label="LoRA rank")
    """Rank r of the adapters (LoRA)."""
    lora_alpha: float = setting(16.0, minimum=0, maximum=4096, slider_maximum=128, step=1, label="LoRA alpha")
    """The adapters' output is multiplied by alpha / rank."""
    lora_dropout: float = setting(0.0, minimum=0, maximum=MOST_DROPOUT, step=0.05, label="LoRA dropout")
    """Dropout on the adapters' input; all arms share the same masks."""
    model_dropout: float = setting(0.0, minimum=0, maximum=MOST_DROPOUT, step=0.05)
    """Dropout inside the model, if its family has any. Arms that are trained together do not share the dropout masks,
    so with a value above 0 the arms also differ by chance."""
    lora_targets: str = setting("all", choices=TARGETS, label="LoRA targets")
    """Which linear layers get adapters."""
    checkpoint_steps: int = setting(
        50, minimum=1, maximum=1_000_000, slider_maximum=500, step=10, unit="steps", label="Steps between checkpoints"
    )
    """Steps between checkpoints. An interrupted run resumes from the last checkpoint."""
    checkpoint_seconds: float = setting(
        30.0,
        minimum=0,
        maximum=24 * 3600,
        slider_maximum=600,
        step=10,
        unit="seconds",
        label="Seconds between checkpoints",
    )
    """Maximum time between checkpoints, for runs with long steps. 0 sets no limit on the time."""
    evaluations: int = setting(8, minimum=1, maximum=1000, slider_maximum=40, step=1, unit="evaluations")
    """Number of times the losses are measured without noise during the run, in addition to the measurement at the
    start."""
    evaluation_rows: int = setting(0, minimum=0, maximum=10_000, slider_maximum=256, step=1, unit="rows")
    """Rows in each of the fixed samples on which training and held-out loss are measured. 0 uses a sixth of the
    training rows, at least 8 and at most 32, and limits the number of measured answers to the same value."""

    keep_best: bool = setting(True, label="Keep the best")
    """Keep the weights of each arm's best evaluation (lowest held-out loss) as well as its final weights. Takes up to
    twice the disk space."""
    keep_state: str = setting("adapters", choices=KEEPING, label="Keep the state")
    """Keep the optimizer's final state for each seed, so that a finished study can be trained for more epochs. Takes
    about three times the disk space of the trained arms."""
    restarts: tuple[int, ...] = ()
    """Steps after which the learning rate and noise schedules start again, one for each time that the finished study
    was trained further."""
    early_stop: int = setting(
        0, minimum=0, maximum=1000, slider_maximum=20, step=1, unit="evaluations", label="Early stopping"
    )
    """Stop training the arms of a seed once none of them has reached a new lowest held-out loss for this many
    evaluations. All arms stop together, so that they are compared at the same step. 0 disables early stopping."""

    @field_validator("restarts")
    @classmethod
    def _restarts_rise(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if any(step < 1 for step in steps) or list(steps) != sorted(set(steps)):
            raise ValueError(say("restarts must be step numbers of 1 or more, in increasing order and without repeats"))
        return steps

    @property
    def keeps_state(self) -> bool:
        """Whether the optimizer state of a finished seed is kept."""
        return self.keep_state == "always" or (self.keep_state == "adapters" and self.method == "lora")

    @property
    def together(self) -> bool:
        """Whether several arms may share a forward pass."""
        return self.method == "lora" and self.arms_at_once == "together"

    def sample_rows(self, trained: int) -> int:
        """Return the number of rows in each evaluation sample, given `trained` training rows.

        The default depends only on the data, so that all studies of the same data have the same sample.
        """
        return self.evaluation_rows or min(max(trained // SAMPLED_PART, FEWEST_SAMPLED), MOST_SAMPLED)

    @property
    def rows_at_once(self) -> int:
        """Rows per arm in one forward pass."""
        return -(-self.batch_size // self.accumulation)


class Plan(Protocol):
    """The interface through which the engine reads a study.

    Attributes:
        seed: Seed of the row order, the initial adapters, the dropout masks and the noise.
        arms: The noise of every arm by name, the control first.
    """

    @property
    def seed(self) -> int: ...
    @property
    def training(self) -> TrainingSettings: ...
    @property
    def arms(self) -> Mapping[str, NoiseSettings]: ...

    def method_of(self, arm: str) -> MethodSettings:
        """Return the method settings of an arm, with a value for every method."""


def count_steps(rows: int, training: TrainingSettings) -> int:
    """Return the number of steps of a run; 0 if a time budget has yet to determine it.

    Args:
        rows: Number of training rows.
        training: The training settings.

    Returns:
        The number of optimizer steps, at least 1 unless there is a time budget.
    """
    if training.time_budget_seconds:
        return 0
    return training.steps or max(1, round(math.ceil(rows / training.batch_size) * training.epochs))


def check_length(rows: int, training: TrainingSettings, limits: Limits, *, seeds: int = 1) -> None:
    """Check that a study is within the limits of this server.

    Args:
        rows: Number of training rows.
        training: The training settings.
        limits: The limits of this server.
        seeds: Number of runs, one per seed.

    Raises:
        DoesNotFit: If the study has too many steps or too large a time budget.
    """
    steps = seeds * count_steps(rows, training)
    if steps > limits.steps:
        raise DoesNotFit(
            say(
                "This study needs {steps:,} steps, but this server allows at most {most:,}: use fewer epochs, steps "
                "or seeds, fewer rows or a larger batch.",
                steps=steps,
                most=limits.steps,
            )
        )
    if training.time_budget_seconds > 60 * limits.study_minutes:
        raise DoesNotFit(
            say(
                "The time budget of this study is {seconds:,.0f} seconds, but this server allows at most {most:,}: "
                "choose a smaller budget.",
                seconds=training.time_budget_seconds,
                most=60 * limits.study_minutes,
            )
        )


def spans(total: int, restarts: Sequence[int] = ()) -> list[tuple[int, int]]:
    """Split a run at its restarts. The schedules run once from start to end in each part.

    Args:
        total: Number of steps of the run.
        restarts: Steps after which a new part begins.

    Returns:
        Pairs (number of steps before the part, number of its final step), in order.
    """
    ends = [*(step for step in restarts if step < total), total]
    return list(zip([0, *ends], ends, strict=False))


def rate_at(step: int, total: int, training: TrainingSettings) -> float:
    """Return the learning rate of a step.

    Args:
        step: Number of the step, from 1.
        total: Number of steps of the run.
        training: The training settings.

    Returns:
        The learning rate, with the warm-up and decay of the part of the run (between restarts) that contains the step.
    """
    start, end = next(part for part in spans(total, training.restarts) if step <= part[1])
    step, total = step - start, end - start
    warm = round(training.warmup * total)
    if step <= warm:
        return training.learning_rate * step / max(warm, 1)
    progress = (step - 1 - warm) / max(total - warm, 1)
    shares = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return training.learning_rate * shares[training.schedule]


def evaluation_steps(total: int, times: int, restarts: Sequence[int] = ()) -> set[int]:
    """Return the steps after which the losses are evaluated, evenly spaced and including the final step.

    Args:
        total: Number of steps of the run.
        times: Number of evaluations in each part between restarts.
        restarts: Steps after which the schedules start again.

    Returns:
        The numbers of these steps, from 1.
    """
    return {
        start + max(1, round((end - start) * part / times))
        for start, end in spans(total, restarts)
        for part in range(1, times + 1)
    }


def evaluation_batch(training: TrainingSettings) -> int:
    """Return the rows per arm in an evaluation batch; passes without gradients need less memory than training."""
    return 4 * training.rows_at_once
