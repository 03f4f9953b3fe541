"""Variants of a common NEFTune training script (see `snippet`), and the measurements of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from neftune_core.noise.settings import NoiseSettings


@dataclass(frozen=True)
class ScriptVariant:
    """A variant of the script. It is correct if all four switches are off and the unit of the noise is alpha.

    Attributes:
        noise: The noise.
        rows: Starter sets to train on, shuffled together.
        held_out: Starter set that supplies the held-out rows.
        steps: Number of optimizer steps.
        batch_size: Rows per step.
        learning_rate: Initial learning rate of AdamW, which decays linearly.
        noise_while_evaluating: Whether noise stays on during evaluation.
        loss_on_everything: Whether the loss includes the prompt and the padding.
        newline_lost: Whether prompts lose their final newline at evaluation.
        model_hidden: Whether a wrapper hides the model from `nn.Module`.
    """

    noise: NoiseSettings
    rows: tuple[str, ...] = ("world-format",)
    held_out: str = "world-format"
    steps: int = 60
    batch_size: int = 8
    learning_rate: float = 1e-3
    noise_while_evaluating: bool = False
    loss_on_everything: bool = False
    newline_lost: bool = False
    model_hidden: bool = False


@dataclass
class RunMeasurements:
    """Measurements of a run, extended after every step.

    Attributes:
        total: Planned number of steps.
        steps: Numbers of the steps taken, from 1.
        reported: Training loss of each step, in nats per token.
        at: Steps after which the held-out rows were measured.
        said: Held-out losses as the script measures them, in nats per token.
        true: True held-out losses, in nats per response token.
        exact_said: Share of exact answers as the script measures it.
        exact_true: True share of exact answers.
        saved: Number of tensors that the script saved; -1 before the end.
        exact_saved: True share of exact answers of a model restored from these tensors.
    """

    total: int
    steps: list[int] = field(default_factory=list)
    reported: list[float] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    said: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    exact_said: float = 0.0
    exact_true: float = 0.0
    saved: int = -1
    exact_saved: float = 0.0

    @property
    def done(self) -> bool:
        """Whether the run has finished."""
        return self.saved >= 0
