"""Five faults of a common NEFTune training script (see `snippet`); `assets/lessons/faults.toml` has their texts."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from typing import Any

from neftune_core.home import assets
from neftune_core.language import say
from neftune_core.noise.settings import NoiseSettings


@dataclass(frozen=True)
class ScriptVariant:
    """A variant of the script. It is correct if all four switches are off and the unit of the noise is alpha.

    Attributes:
        noise: Noise on the embeddings.
        steps: Number of training steps.
        batch_size: Rows per step.
        learning_rate: Initial learning rate of AdamW, which decays linearly.
        noise_while_evaluating: Whether noise and dropout stay on during evaluation.
        loss_on_everything: Whether the loss includes the prompt and the padding.
        newline_lost: Whether the evaluation prompts lack their final newline.
        model_hidden: Whether a wrapper hides the model from `nn.Module`.
    """

    noise: NoiseSettings
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
        steps: Numbers of the steps taken.
        training_losses: Reported training loss of each step, in nats per token.
        evaluated_at: Steps after which the held-out rows were evaluated.
        reported: Held-out losses as reported by the script, in nats per token.
        true: True held-out losses, in nats per response token.
        exact_reported: Share of exact answers as reported by the script.
        exact_true: True share of exact answers.
        saved: Number of tensors that the script saved; -1 before the end.
        exact_saved: True share of exact answers of a model restored from these tensors.
    """

    total: int
    steps: list[int] = field(default_factory=list)
    training_losses: list[float] = field(default_factory=list)
    evaluated_at: list[int] = field(default_factory=list)
    reported: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    exact_reported: float = 0.0
    exact_true: float = 0.0
    saved: int = -1
    exact_saved: float = 0.0

    @property
    def done(self) -> bool:
        """Whether the run has finished."""
        return self.saved >= 0


@dataclass(frozen=True)
class Fault:
    """One fault of the script.

    Attributes:
        words: Name of the fault.
        wrong: The lines with the fault.
        right: The lines without it.
        damage: Text that compares two finished runs, with placeholders that the function `damage` fills.
        why: Why the true values change or do not change.
        script: The correct script.
        faulty: The script with the fault.
    """

    words: str
    wrong: str
    right: str
    damage: str
    why: str
    script: ScriptVariant
    faulty: ScriptVariant


_ALPHA_5 = ScriptVariant(NoiseSettings(strength=5))
_SCRIPTS: dict[str, tuple[ScriptVariant, dict[str, Any]]] = {
    "noisy-evaluation": (ScriptVariant(NoiseSettings(strength=10)), {"noise_while_evaluating": True}),
    "loss-on-everything": (_ALPHA_5, {"loss_on_everything": True}),
    "constant-std": (_ALPHA_5, {"noise": NoiseSettings(strength=0.2, unit="std", kind="gaussian")}),
    "lost-newline": (_ALPHA_5, {"newline_lost": True}),
    "hiding-wrapper": (_ALPHA_5, {"model_hidden": True}),
}
"""The correct script of each fault, and the changes that introduce the fault."""

FAULTS: dict[str, Fault] = {
    name: Fault(**texts, script=script, faulty=replace(script, **changes))
    for name, texts in tomllib.loads((assets() / "lessons" / "faults.toml").read_text(encoding="utf-8")).items()
    for script, changes in [_SCRIPTS[name]]
}


def damage(fault: Fault, right: RunMeasurements, wrong: RunMeasurements) -> str:
    """Describe the measured damage of a fault in one or two sentences.

    Args:
        fault: A fault of `FAULTS`.
        right: The finished run without the fault.
        wrong: The finished run with the fault.

    Returns:
        The sentences, in the current language.
    """
    return say(
        fault.damage,
        steps=wrong.total,
        said=wrong.reported[-1],
        said_exact=wrong.exact_reported,
        loss=wrong.true[-1],
        exact=wrong.exact_true,
        saved=wrong.saved,
        saved_exact=wrong.exact_saved,
        right_exact=right.exact_true,
        right_saved=right.saved,
    )
