"""The declaration of a method, which has one value per arm and changes the training of that arm.

Method modules import torch only inside functions, so that settings can be loaded without it.
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

Values = Mapping[int, float]
"""Values of a method by slot."""


class StepPasses(Protocol):
    """The interface of `passes.Passes` for methods that run their own passes."""

    @property
    def scale(self) -> float:
        """Loss scale, which multiplies all gradients."""

    def labels(self, micro_batch: MicroBatch, slots: Sequence[int]) -> Labels | None:
        """Return the tokens to train on and their weights, if a method chooses them.

        Args:
            micro_batch: The rows.
            slots: Slots with the same methods.

        Returns:
            Positions that predict a trained token, with weights `[slots, positions]`; None if no method chooses tokens.
        """

    def running(self, micro_batch: MicroBatch, arms: Mapping[int, ArmNoise]) -> AbstractContextManager[nn.Module]:
        """Return a context with the tree in training mode, these arms active, and noise and dropout applied.

        Args:
            micro_batch: The rows.
            arms: Noise by slot.

        Returns:
            A context manager whose value is the module tree.
        """


@dataclass(frozen=True)
class Method:
    """One method. An arm uses the method if the arm's value differs from that of the control.

    A method sets at most one of the last four attributes, which are functions. Dropout and weight decay set none,
    because the step itself applies them. The keys of random draws begin with the study seed, so that all arms of a
    study share the draws.

    Attributes:
        name: Name of the setting, in snake case. Arms are named after it, such as `weight-decay-0.05`.
        words: Readable name, marked for translation with `later`.
        setting: Result of `setting` with the default None and `minimum=0`; 0 turns the method off.
        example: Example values as a user would enter them, such as "0.1, 0.3".
        formula: The computation as a formula, in one line.
        paper: The source, such as "arXiv 2310.05914"; "" for none.
        box: Name of the input field on the page and in links; `name` if empty.
        needs_adapters: Whether the method has no effect in full fine-tuning.
        needs_noise: Whether the arm must have noise, of a kind that needs only one pass per step.
        causal_only: Whether the method has no effect on an encoder-decoder.
        scheduled: Whether the arm's schedule can change the value over the run.
        pass_count: Number of passes in `passes`; the activations of all of them are in memory at once.
        token_weights: `token_weights(value, micro_batch)` returns the tokens to train on, with weights `[targets]`.
        passes: `passes(passes, micro_batch, arms, values)` replaces the training pass. It accumulates gradients and
            returns the losses by slot. `arms` and `values` are the noise and the value by slot.
        perturbation: `perturbation(value, weight, key)` returns the perturbation of a linear weight, `[out, in]`
            float32, for the passes of one step. `key` is `(study seed, step, number of the weight)`.
        start: `start(value, tensor, key)` returns the change of a trained tensor before the first step. `key` is
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
    token_weights: Callable[[float, MicroBatch], Labels] | None = None
    passes: Callable[[StepPasses, MicroBatch, Mapping[int, ArmNoise], Values], dict[int, Sums]] | None = None
    perturbation: Callable[[float, Tensor, tuple[int, ...]], Tensor] | None = None
    start: Callable[[float, Tensor, tuple[int, ...]], Tensor] | None = None

    @property
    def field(self) -> str:
        """Name of the input field on the page, in links and in the page's state."""
        return self.box or self.name

    @property
    def in_step(self) -> bool:
        """Whether the method changes the passes of a step."""
        return any((self.token_weights, self.passes, self.perturbation))
