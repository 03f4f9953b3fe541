"""What a study is: the model, the data, how it is trained, and what its arms differ in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from neftune_core.data.settings import DataSettings
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.language import later, say
from neftune_core.models.settings import BUNDLED, ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, Settings, setting

CONTROL = NoiseSettings(strength=0)
CHAOS = NoiseSettings(strength=0.01)
"""A disturbance as small as rounding: how far two runs part by luck alone."""
CHAOS_ARM = "chaos"

SCHEDULES = {"constant": "Constant", "linear": "Linear decay to zero", "cosine": "Cosine decay to zero"}
METHODS = {"lora": "Adapters (LoRA)", "full": "All weights (full fine-tuning)"}
TURNS = {"together": "All together", "in-turn": "In turn, in less memory"}
EXECUTIONS = {
    "eager": "As it is",
    "compiled": "Layers compiled (torch.compile)",
    "captured": "Layers compiled and captured (CUDA graphs)",
}
TARGETS = {"all": "All linear maps of the layers", "attention": "The attention's linear maps"}
MOST_DROPOUT = 0.95
MOST_DECAY = 10.0
MOST_SEEDS = 64
SAMPLED_PART, FEWEST_SAMPLED, MOST_SAMPLED = 6, 8, 32
"""One training row in so many is measured, within these bounds: forward passes over more would take over a quarter of
the time of a study of three epochs."""


class TrainingSettings(Settings):
    """How every arm of a study is trained; the same for all of them, unless a regulariser says otherwise."""

    epochs: float = setting(
        3.0,
        "Passes over the training rows.",
        minimum=0.01,
        maximum=1000,
        slider_maximum=20,
        step=1,
        unit="epochs",
    )
    steps: int = setting(
        0,
        "Optimizer steps, instead of epochs; 0 goes by epochs.",
        minimum=0,
        maximum=10_000_000,
        slider_maximum=2000,
        step=10,
        unit="steps",
        advanced=True,
    )
    time_budget_seconds: float = setting(
        0.0,
        "Train for about so long, instead of epochs or steps: a few steps are timed first, and the number of steps "
        "follows from them. 0 is no budget.",
        minimum=0,
        maximum=30 * 24 * 3600,
        slider_maximum=600,
        step=10,
        unit="seconds",
        label="Time budget",
        advanced=True,
    )
    batch_size: int = setting(
        4, "Rows in one step, for each arm.", minimum=1, maximum=512, slider_maximum=32, step=1, unit="rows"
    )
    accumulation: int = setting(
        1,
        "Parts that the rows of a step are taken in, one after another, for less memory. The loss is divided by the "
        "tokens of the whole step, so that the result is the same (dropout draws other masks).",
        minimum=1,
        maximum=512,
        slider_maximum=16,
        step=1,
        unit="parts",
        label="Gradient accumulation",
        advanced=True,
    )
    method: str = setting(
        "lora",
        "What is trained: adapters over the frozen model, or all weights, of which every arm then has a copy.",
        choices=METHODS,
    )
    arms_at_once: str = setting(
        "together",
        "Whether adapters of all arms go through the model in one pass, or one arm after another: the same numbers in "
        "less memory and more time. Copies of all weights always go in turn.",
        choices=TURNS,
        advanced=True,
    )
    execution: str = setting(
        "eager",
        "How the layers are run. Compiled, the first step of each shape takes up to a minute; it pays on a GPU whose "
        "time goes into launching small operations, and hardly on a processor.",
        choices=EXECUTIONS,
        advanced=True,
    )
    learning_rate: float = setting(
        5e-4,
        "Step size of AdamW at its highest. For LoRA 1e-4 to 5e-3, for all weights 1e-6 to 1e-4.",
        minimum=0,
        maximum=10,
        step=1e-4,
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
        0.0, "Decoupled weight decay of AdamW.", minimum=0, maximum=MOST_DECAY, step=0.01, advanced=True
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
        maximum=MOST_DROPOUT,
        step=0.05,
        label="LoRA dropout",
        advanced=True,
    )
    model_dropout: float = setting(
        0.0,
        "Dropout inside the model, wherever its family has some. Arms that are trained together do not share its "
        "masks, so that above 0 they differ by chance too.",
        minimum=0,
        maximum=MOST_DROPOUT,
        step=0.05,
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
    checkpoint_seconds: float = setting(
        30.0,
        "Longest time between two checkpoints, for runs whose steps are long. 0 goes by steps alone.",
        minimum=0,
        maximum=24 * 3600,
        slider_maximum=600,
        step=10,
        unit="seconds",
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
        0,
        "Rows of the fixed samples on which training and held-out loss are measured. 0: a sixth as many as are "
        "trained on, 8 to 32, and answers are measured on no more.",
        minimum=0,
        maximum=10_000,
        slider_maximum=256,
        step=1,
        unit="rows",
        advanced=True,
    )

    @property
    def together(self) -> bool:
        """Whether all arms go through the model in one pass."""
        return self.method == "lora" and self.arms_at_once == "together"

    def sample_rows(self, trained: int) -> int:
        """Rows of each sample of a study that trains on `trained` rows.

        Where the settings leave it open it depends on the data alone, so that all studies of it have the same sample.
        """
        return self.evaluation_rows or min(max(trained // SAMPLED_PART, FEWEST_SAMPLED), MOST_SAMPLED)

    @property
    def rows_at_once(self) -> int:
        """The rows of each arm that go through the model together."""
        return -(-self.batch_size // self.accumulation)


class RegulariserSettings(Settings):
    """An arm without noise that differs from the control in another regulariser; what is not given is the study's."""

    lora_dropout: float | None = setting(
        None,
        "Dropout on the adapters' input, in place of the study's; its draw is the one of all arms.",
        minimum=0,
        maximum=MOST_DROPOUT,
        step=0.05,
        label="LoRA dropout",
    )
    weight_decay: float | None = setting(
        None, "Decoupled weight decay, in place of the study's.", minimum=0, maximum=MOST_DECAY, step=0.01
    )

    @property
    def name(self) -> str:
        """A short name, safe in file names and links: `lora-dropout-0.1`, `weight-decay-0.05`, or both in a row."""
        given = self.model_dump(exclude_none=True)
        return "-".join(f"{name.replace('_', '-')}-{value:g}" for name, value in given.items())


class StudySettings(Settings):
    """A study: a control and at least one other arm, trained on the same batches at the same time."""

    title: str = setting("", "A name for the study.", max_length=200)
    seed: int = setting(
        0, "Seed of the order, the initial adapters and the noise.", minimum=0, maximum=2**31 - 1, step=1
    )
    seeds: int = setting(
        1,
        "How many seeds are run one after another, from the one above on.",
        minimum=1,
        maximum=MOST_SEEDS,
        slider_maximum=10,
        step=1,
        unit="seeds",
        advanced=True,
    )
    model: ModelSettings = Field(default_factory=ModelSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    answers: AnswerSettings = Field(default_factory=AnswerSettings)
    measuring: MeasuringSettings = Field(default_factory=MeasuringSettings)
    noise: tuple[NoiseSettings, ...] = Field(
        default=(NoiseSettings(),), description="The noise arms; the control is always trained beside them."
    )
    regularisers: tuple[RegulariserSettings, ...] = Field(
        default=(), description="Arms without noise, of another adapter dropout or weight decay than the control's."
    )

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        if not self.noise and not self.regularisers:
            raise ValueError(say("a study needs at least one noise arm or regulariser besides the control"))
        if any(noise.is_silent for noise in self.noise):
            raise ValueError(say("an arm of strength 0 is the control, which is always there: leave it out"))
        for words, arms in ((later("noise arms"), self.noise), (later("regularisers"), self.regularisers)):
            if len({arm.name for arm in arms}) < len(arms):
                raise ValueError(say("two {what} are the same: change or remove one", what=say(words)))
        for arm in self.regularisers:
            if self.training.method == "full" and arm.lora_dropout is not None:
                raise ValueError(
                    say("full fine-tuning has no adapters, and so no dropout on them: choose weight decay")
                )
            if self.regulariser_of(arm.name) == self.regulariser_of(CONTROL.name):
                raise ValueError(
                    say(
                        "the regulariser {name} is what the control has: change or remove it",
                        name=arm.name or say("without a value"),
                    )
                )
        return self

    @property
    def arms(self) -> dict[str, NoiseSettings]:
        """The noise of every arm that is trained, control first, by name; a regulariser's is that of the control."""
        noisy = {noise.name: noise for noise in (CONTROL, *self.noise)}
        chaos = {CHAOS_ARM: CHAOS} if self.measuring.chaos else {}
        return noisy | {arm.name: CONTROL for arm in self.regularisers} | chaos

    @property
    def runs(self) -> dict[int, tuple[str, ...]]:
        """The seeds in the order of running, and the arms of each: after those of the study, those of the A/A floor."""
        seeds = range(self.seed, self.seed + self.seeds)
        again = {seed + self.seeds: (CONTROL.name,) for seed in seeds} if self.measuring.another_seed else {}
        return {seed: tuple(self.arms) for seed in seeds} | again

    def regulariser_of(self, arm: str) -> RegulariserSettings:
        """Adapter dropout and weight decay of an arm, both given."""
        usual = {"lora_dropout": self.training.lora_dropout, "weight_decay": self.training.weight_decay}
        own = next((found.model_dump(exclude_none=True) for found in self.regularisers if found.name == arm), {})
        return RegulariserSettings(**(usual | own))

    def check(self, limits: Limits) -> None:
        """Raise `DoesNotFit` where this study is over a limit of this server."""
        if len(self.arms) > limits.arms:
            raise DoesNotFit(
                say(
                    "This server trains at most {most} arms at once (asked: {arms}).",
                    most=limits.arms,
                    arms=len(self.arms),
                )
            )
        self.answers.check(limits)
        self.measuring.check(limits)


EXAMPLE = StudySettings(
    title="An example: control and one noise arm on the bundled model",
    data=DataSettings(source="starter:world-format"),
    training=TrainingSettings(epochs=6, batch_size=8, learning_rate=3e-3, evaluations=6, evaluation_rows=MOST_SAMPLED),
)
"""What the page opens with: the bundled model learns to answer in a form that it has not seen."""


USUAL_OF_OTHERS = TrainingSettings(epochs=3, evaluations=3)
"""For models other than the bundled one: measured once an epoch, since there measuring takes time from training."""


def usual_training(model: ModelSettings) -> TrainingSettings:
    """Training settings to begin with: the bundled model is small and learns fast, others want smaller steps."""
    return EXAMPLE.training if model.source == BUNDLED else USUAL_OF_OTHERS


@dataclass(frozen=True)
class Preset:
    """Training settings under a name: `bundled` for the bundled model, `others` for every other one."""

    words: str
    bundled: TrainingSettings
    others: TrainingSettings

    def training(self, model: ModelSettings) -> TrainingSettings:
        """The settings for `model`."""
        return self.bundled if model.source == BUNDLED else self.others


_PAPER = TrainingSettings(epochs=3, learning_rate=5e-5, batch_size=128, accumulation=16, lora_rank=16, lora_alpha=32)

PRESETS: dict[str, Preset] = {
    "quick look": Preset(
        "Half a minute of training, whatever the data.",
        bundled=EXAMPLE.training.model_copy(update={"time_budget_seconds": 30.0, "evaluations": 5}),
        others=TrainingSettings(time_budget_seconds=20, batch_size=2, evaluations=1, evaluation_rows=4),
    ),
    "the paper's": Preset(
        "Learning rate 5e-5, three epochs and 128 rows a step (arXiv 2310.05914 and its code), but on adapters, where "
        "the paper trained all weights. Made for tens of thousands of rows: on few it hardly trains.",
        bundled=_PAPER,
        others=_PAPER,
    ),
    "small data, many epochs": Preset(
        "Where a model overfits, and noise has something to hold back.",
        bundled=TrainingSettings(
            epochs=20, learning_rate=4e-3, batch_size=8, evaluations=20, evaluation_rows=MOST_SAMPLED
        ),
        others=TrainingSettings(epochs=10, learning_rate=5e-4, lora_rank=16, lora_alpha=32, evaluations=10),
    ),
}
"""Where to begin; every value can be changed afterwards."""
