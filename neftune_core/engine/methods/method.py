"""The declaration of a method: one number per arm, and the place in a training step where it acts.

Method modules import torch only inside functions, so that settings can be read without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neftune_core.engine.loss import Labels, MicroBatch, Sums
    from neftune_core.noise.batch import ArmNoise


class StepPasses(Protocol):
    """The part of `passes.Passes` that a method with its own passes may use."""

    @property
    def scale(self) -> float:
        """Loss scale, which multiplies all gradients."""

    def labels(self, micro_batch: MicroBatch, slots: Sequence[int]) -> Labels | None:
        """Return the trained tokens and their weights if a method chooses them; see `Passes.labels`."""

    def running(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> AbstractContextManager[nn.Module]:
        """Yield the tree in training mode with these arms active; see `Passes.running`."""


@dataclass(frozen=True)
class TokenWeights:
    """The tokens of a micro-batch that are trained on, and their weights.

    Attributes:
        predicting: Positions in `[batch * length]` whose next token is trained on, `[targets]` int64.
        weights: Weight of each of these tokens in the summed loss, `[targets]` float32.
    """

    predicting: Tensor
    weights: Tensor


class OwnPasses(Protocol):
    """A function that replaces the training pass of the arms with a method; see `Method.passes`."""

    def __call__(
        self, passes: StepPasses, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise], values: Mapping[int, float], /
    ) -> dict[int, Sums]: ...


@dataclass(frozen=True)
class Method:
    """One method. An arm uses it if its value differs from that of the control.

    It needs at most one of the last four functions; dropout and weight decay have none, because the step itself applies
    them. The keys of random draws begin with the study seed, so that all arms of a study share the draws.

    Attributes:
        name: Name of its setting, in snake case; an arm is named after it, as in `weight-decay-0.05`.
        words: Its name in words, passed through `later`.
        setting: Its declaration, made by `setting` with the default None and `minimum=0`; 0 turns the method off.
        example: Example values as a user would type them, such as "0.1, 0.3".
        formula: What it computes, in one line.
        paper: Its source, such as "arXiv 2310.05914"; empty if it needs none.
        box: Name of its box on the page and in links; `name` if empty.
        needs_adapters: Whether it has no effect in full fine-tuning.
        needs_noise: Whether the arm needs noise of a kind with a single draw.
        causal_only: Whether it has no effect on an encoder-decoder.
        scheduled: Whether its value can follow a schedule of the arm over the run.
        pass_count: Number of passes that `passes` runs and whose activations are in memory at once.
        token_weights: `token_weights(value, micro_batch)` chooses and weighs the trained tokens.
        passes: `passes(passes, micro_batch, arms, values)` replaces the training pass of the arms, given by slot with
            their noise and values; it accumulates gradients and returns the losses by slot.
        perturbation: `perturbation(value, weight, key)` returns what is added to a linear weight, `[out, in]` float32,
            in the passes of one step; `key` is `(study seed, step, number of the weight)`.
        start: `start(value, tensor, key)` returns what is added to a trained tensor before the first step; `key` is
            `(study seed, number of the tensor)`.
    """

    name: str
    words: str
    setting: Any
    example: str
    formula: str
    paper: str = ""
    box: str = ""
    needs_adapters: bool = False
    needs_noise: bool = False
    causal_only: bool = False
    scheduled: bool = False
    pass_count: int = 1
    token_weights: Callable[[float, MicroBatch], TokenWeights] | None = None
    passes: OwnPasses | None = None
    perturbation: Callable[[float, Tensor, tuple[int, ...]], Tensor] | None = None
    start: Callable[[float, Tensor, tuple[int, ...]], Tensor] | None = None

    @property
    def field(self) -> str:
        """Name of its box on the page, in links and in the page's state."""
        return self.box or self.name

    @property
    def in_step(self) -> bool:
        """Whether it changes the passes of a step."""
        return any((self.token_weights, self.passes, self.perturbation))
