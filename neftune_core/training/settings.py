"""What a study is: the model, the data, how it is trained, and the noise of its arms."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from neftune_core.data.settings import DataSettings
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.settings import BUNDLED, ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, Settings, setting

CONTROL = NoiseSettings(strength=0)

SCHEDULES = {"constant": "Constant", "linear": "Linear decay to zero", "cosine": "Cosine decay to zero"}
TARGETS = {"all": "All linear maps of the layers", "attention": "The attention's linear maps"}


class TrainingSettings(Settings):
    """How every arm of a study is trained; the same for all of them."""

    epochs: float = setting(
        3.0,
        "Passes over the training rows.",
        minimum=0.01,
        maximum=1000,
        slider_maximum=20,
        step=1,
        unit="epochs",
    )
    batch_size: int = setting(
        4, "Rows in one step, for each arm.", minimum=1, maximum=512, slider_maximum=32, step=1, unit="rows"
    )
    learning_rate: float = setting(
        5e-4, "Step size of AdamW at its highest. For LoRA 1e-4 to 5e-3.", minimum=0, maximum=10, step=1e-4
    )
    schedule: str = setting("linear", "How the learning rate changes over the run.", choices=SCHEDULES)
    warmup: float = setting(
        0.0,
        "Share of the run in which the learning rate rises from 0.",
        minimum=0,
        maximum=0.9,
        step=0.01,
        advanced=True,
    )
    weight_decay: float = setting(
        0.0, "Decoupled weight decay of AdamW.", minimum=0, maximum=10, step=0.01, advanced=True
    )
    clip_norm: float = setting(
        1.0,
        "Largest norm of the gradient of each arm; 0 clips nothing.",
        minimum=0,
        maximum=1e6,
        slider_maximum=10,
        step=0.1,
        label="Gradient clipping",
        advanced=True,
    )
    lora_rank: int = setting(
        8,
        "Rank r of the adapters (LoRA).",
        minimum=1,
        maximum=512,
        slider_maximum=64,
        step=1,
        label="LoRA rank",
    )
    lora_alpha: float = setting(
        16.0,
        "The adapters' output is scaled by this over the rank.",
        minimum=0,
        maximum=4096,
        slider_maximum=128,
        step=1,
        label="LoRA alpha",
        advanced=True,
    )
    lora_dropout: float = setting(
        0.0,
        "Dropout on the adapters' input; all arms share its masks.",
        minimum=0,
        maximum=0.95,
        step=0.05,
        label="LoRA dropout",
        advanced=True,
    )
    lora_targets: str = setting(
        "all", "Which linear maps get adapters.", choices=TARGETS, label="LoRA targets", advanced=True
    )
    checkpoint_steps: int = setting(
        50,
        "Steps between two checkpoints, from which an ended run can be taken up again.",
        minimum=1,
        maximum=1_000_000,
        slider_maximum=500,
        step=10,
        unit="steps",
        advanced=True,
    )
    evaluations: int = setting(
        8,
        "How often over the run the losses are measured with noise off, besides at the start.",
        minimum=1,
        maximum=1000,
        slider_maximum=40,
        step=1,
        unit="times",
        advanced=True,
    )
    evaluation_rows: int = setting(
        32,
        "Rows of the fixed samples on which training and held-out loss are measured.",
        minimum=1,
        maximum=10_000,
        slider_maximum=256,
        step=1,
        unit="rows",
        advanced=True,
    )


class StudySettings(Settings):
    """A study: a control and at least one noise arm, trained on the same batches at the same time."""

    title: str = setting("", "A name for the study.", max_length=200)
    seed: int = setting(
        0, "Seed of the order, the initial adapters and the noise.", minimum=0, maximum=2**31 - 1, step=1
    )
    model: ModelSettings = Field(default_factory=ModelSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    answers: AnswerSettings = Field(default_factory=AnswerSettings)
    noise: tuple[NoiseSettings, ...] = Field(
        default=(NoiseSettings(),), description="The noise arms; the control is always trained beside them."
    )

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        names = [noise.name for noise in self.noise]
        if not names:
            raise ValueError("a study needs at least one noise arm besides the control")
        if "control" in names:
            raise ValueError("an arm of strength 0 is the control, which is always there: leave it out")
        if len(set(names)) < len(names):
            raise ValueError("two noise arms are the same: change or remove one")
        return self

    @property
    def arms(self) -> dict[str, NoiseSettings]:
        """Every arm that is trained, control first, by name."""
        return {noise.name: noise for noise in (CONTROL, *self.noise)}

    def check(self, limits: Limits) -> None:
        """Raise `DoesNotFit` where this study is over a limit of this server."""
        if len(self.arms) > limits.arms:
            raise DoesNotFit(f"This server trains at most {limits.arms} arms at once (asked: {len(self.arms)}).")
        self.answers.check(limits)


EXAMPLE = StudySettings(
    title="An example: control and one noise arm on the bundled model",
    data=DataSettings(source="starter:world-format"),
    training=TrainingSettings(epochs=6, batch_size=8, learning_rate=3e-3),
)
"""What the page opens with: the bundled model learns to answer in a form that it has not seen."""


def usual_training(model: ModelSettings) -> TrainingSettings:
    """Training settings to begin with: the bundled model is small and learns fast, others want smaller steps."""
    return EXAMPLE.training if model.source == BUNDLED else TrainingSettings()
