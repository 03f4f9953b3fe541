"""One way of writing the common script, and what a run of it has measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from neftune_core.noise.settings import NoiseSettings


@dataclass(frozen=True)
class Script:
    """One way of writing the script; without any of the four switches, and with noise by alpha, it is right.

    rows: the starter sets it trains on, one after another; held_out: the set that it is measured on.
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
class Measured:
    """What a run of the script has shown so far.

    steps and reported: each step and its training loss; at: the steps after which the held-out rows were measured;
    said and true: their loss as the script measures it, and as it is; exact_said and exact_true: the shares of answers
    that would be exact. After the end: saved, how many tensors the script could save, and exact_saved, the share of
    exact answers of a model that is made from them.
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
        """Whether the run is over."""
        return self.saved >= 0
