"""Five faults of a common NEFTune training script (see `snippet`), with wrong and right code and measured damage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from neftune_core.language import say
from neftune_core.noise.settings import NoiseSettings


@dataclass(frozen=True)
class ScriptVariant:
    """A variant of the script. It is correct if all four switches are off and the unit of the noise is alpha.

    It trains on the starter sets `rows`, shuffled together, and is measured on rows of the set `held_out`. The learning
    rate of AdamW decays linearly. `model_hidden` means that a wrapper hides the model from `nn.Module`.
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
        reported: Training loss of each of the `steps` taken, in nats per token.
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


@dataclass(frozen=True)
class Fault:
    """One fault of the script, with the lines that have it (`wrong`) and those that do not (`right`).

    Attributes:
        script: The correct script.
        damage: Description of two finished runs, with placeholders for the values in `damage`.
        why: Why the true values change or do not change.
        harm: Function that computes the size of the damage from the correct and the faulty run: a difference in the
            share of exact answers or in loss (nats), positive if there is damage.
        changes: Fields of `script` that introduce the fault.
    """

    words: str
    wrong: str
    right: str
    script: ScriptVariant
    damage: str
    why: str
    harm: Callable[[RunMeasurements, RunMeasurements], float]
    changes: Mapping[str, Any]

    @property
    def faulty(self) -> ScriptVariant:
        """Variant of the script with the fault."""
        return replace(self.script, **self.changes)


RIGHT = ScriptVariant(NoiseSettings(strength=5))

FAULTS: dict[str, Fault] = {
    "noisy-evaluation": Fault(
        words="The noise stays on while evaluating",
        wrong="model.train()   # once, at the top\n...\nloss = evaluate(model, held_out)",
        right="model.eval()    # noise and dropout are off\nloss = evaluate(model, held_out)\nmodel.train()",
        script=replace(RIGHT, noise=NoiseSettings(strength=10)),
        changes={"noise_while_evaluating": True},
        damage="The script reports {said_exact:.0%} exact answers at a loss of {said:.3g}. With "
        "noise off, the same model gives {exact:.0%} exact answers at a loss of "
        "{loss:.3g}: the training was correct, but the measurement was not.",
        why="The true values change a little: the noise of each evaluation is drawn from the same stream as the "
        "training noise, so training continues with different draws.",
        harm=lambda right, wrong: wrong.said[-1] - wrong.true[-1],
    ),
    "loss-on-everything": Fault(
        words="The loss includes the prompt and the padding",
        wrong='labels = batch["input_ids"].clone()',
        right='labels = batch["input_ids"].clone()\nlabels[prompt_mask | padding_mask] = -100',
        script=RIGHT,
        changes={"loss_on_everything": True},
        damage="After the same {steps} steps, {exact:.0%} of the answers are exact, compared "
        "with {right_exact:.0%} with the correct labels: most of the gradient went into "
        "predicting the questions and the padding. The reported loss, {said:.3g}, is "
        "also not the loss on the answers, {loss:.3g}.",
        why="The true values change because the gradient also includes the loss on the questions and the padding.",
        harm=lambda right, wrong: right.exact_true - wrong.exact_true,
    ),
    "constant-std": Fault(
        words="A constant strength, regardless of length and width",
        wrong="noise = torch.randn_like(x) * 0.2",
        right="bound = alpha / (length * width) ** 0.5\nnoise = torch.empty_like(x).uniform_(-bound, bound)",
        script=RIGHT,
        changes={"noise": NoiseSettings(strength=0.2, unit="std", kind="gaussian")},
        damage="A constant of 0.2 may be mild for a model with larger embeddings; here the noise drowns the "
        "embeddings. {exact:.0%} of the answers are exact, compared with {right_exact:.0%} for alpha 5, which scales "
        "with length and width.",
        why="The true values change because the model was trained with stronger noise.",
        harm=lambda right, wrong: right.exact_true - wrong.exact_true,
    ),
    "lost-newline": Fault(
        words="The prompt loses a newline",
        wrong='prompt = f"### Question:\\n{question}\\n### Answer:"      # in evaluation',
        right='prompt = f"### Question:\\n{question}\\n### Answer:\\n"    # as in training',
        script=RIGHT,
        changes={"newline_lost": True},
        damage="With the prompt used in training, {exact:.0%} of the answers are exact. Without its final newline, "
        "{said_exact:.0%} are exact, and the loss on the answers changes from {loss:.3g} to {said:.3g}.",
        why="The true values do not change: only the evaluation prompt differs, and the training is the same.",
        harm=lambda right, wrong: wrong.exact_true - wrong.exact_said,
    ),
    "hiding-wrapper": Fault(
        words="A wrapper hides the model from the trainer",
        wrong="class Noisy(nn.Module):\n    def __init__(self, model):\n        super().__init__()\n"
        "        self.inner = [model]    # a list: not a submodule",
        right="with noisy_embeddings(model, NoiseSettings(strength=5)):\n    trainer.train()    # no wrapper",
        script=RIGHT,
        changes={"model_hidden": True},
        damage="train() never reached the model, so there was no noise: all {steps} losses "
        "equal those of a run without noise. The wrapper also saved {saved} tensors "
        "instead of {right_saved}: the model restored from them gives {saved_exact:.0%} "
        "exact answers instead of {exact:.0%}.",
        why="The true values change because this run was trained without any noise.",
        harm=lambda right, wrong: wrong.exact_true - wrong.exact_saved,
    ),
}


def damage(fault: Fault, right: RunMeasurements, wrong: RunMeasurements) -> str:
    """Describe the measured damage of a fault in one or two sentences.

    Args:
        fault: The fault.
        right: The finished run without the fault.
        wrong: The finished run with the fault.

    Returns:
        The sentences, in the current language.
    """
    return say(
        fault.damage,
        steps=wrong.total,
        said=wrong.said[-1],
        said_exact=wrong.exact_said,
        loss=wrong.true[-1],
        exact=wrong.exact_true,
        saved=wrong.saved,
        saved_exact=wrong.exact_saved,
        right_exact=right.exact_true,
        right_saved=right.saved,
    )
