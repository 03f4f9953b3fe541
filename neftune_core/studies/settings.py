"""Settings of a study: model, data, training, and the arms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from neftune_core.data.settings import DataSettings
from neftune_core.engine.methods.registry import METHODS
from neftune_core.engine.settings import MOST_SAMPLED, MethodSettings, TrainingSettings
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.language import later, say
from neftune_core.models.settings import BUNDLED, ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, Settings, setting

CONTROL = NoiseSettings(strength=0)
CHAOS = NoiseSettings(strength=0.01)
"""Noise as small as rounding errors, to show how far two runs diverge by chance."""
CHAOS_ARM = "chaos"
MOST_SEEDS = 64


class StudySettings(Settings):
    """A study: a control and at least one other arm, trained on the same batches at the same time."""

    title: str = setting("", max_length=200)
    """A name for the study."""
    seed: int = setting(0, minimum=0, maximum=2**31 - 1, step=1)
    """Seed of the row order, the initial adapters and the noise."""
    seeds: int = setting(1, minimum=1, maximum=MOST_SEEDS, slider_maximum=10, step=1, unit="seeds")
    """Number of seeds, run one after another, starting with the one above."""
    live: bool = setting(False, label="Live: change the noise during training")
    """Allows the strength of the first noise arm to be changed during training, for teaching; a live study gets no
    verdict."""
    model: ModelSettings = Field(default_factory=ModelSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    answers: AnswerSettings = Field(default_factory=AnswerSettings)
    measuring: MeasuringSettings = Field(default_factory=MeasuringSettings)
    noise: tuple[NoiseSettings, ...] = (NoiseSettings(),)
    """The noise arms; the control is always trained alongside them."""
    methods: tuple[MethodSettings, ...] = ()
    """Arms with a method that the control does not use, such as weight decay."""

    @model_validator(mode="before")
    @classmethod
    def _named_as_today(cls, given: Any) -> Any:
        """Rename `regularisers`, the name of `methods` in old records."""
        if isinstance(given, dict) and "regularisers" in given:
            return {
                "methods": given["regularisers"],
                **{name: value for name, value in given.items() if name != "regularisers"},
            }
        return given

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        if not self.noise and not self.methods:
            raise ValueError(
                say("besides the control, a study needs at least one arm with noise or with another method")
            )
        if self.live and not self.noise:
            raise ValueError(say("a live study needs an arm whose noise can be changed during training: add one"))
        if any(noise.is_silent for noise in self.noise):
            raise ValueError(say("an arm of strength 0 is the control, which is always included: leave it out"))
        for words, arms in ((later("noise arms"), self.noise), (later("arms with other methods"), self.methods)):
            if len({arm.name for arm in arms}) < len(arms):
                raise ValueError(say("two {what} are the same: change or remove one", what=say(words)))
        for arm in self.methods:
            self._check_method(arm)
        return self

    def _check_method(self, arm: MethodSettings) -> None:
        """Raise `ValueError` if an arm equals the control or is incompatible with the training settings."""
        if self.training.method == "full" and any(METHODS[name].needs_adapters for name in arm.values):
            raise ValueError(
                say("full fine-tuning has no adapters and therefore no adapter dropout: choose weight decay")
            )
        captured = self.training.execution in ("graphs", "captured")
        if captured and any(METHODS[name].passes or METHODS[name].perturbation for name in arm.values):
            raise ValueError(say("{name} cannot run in CUDA graphs: set execution to eager or compiled", name=arm.name))
        if self.method_of(arm.name).values == self.method_of(CONTROL.name).values:
            raise ValueError(
                say(
                    "the arm {name} is the same as the control: change or remove it",
                    name=arm.name or say("without a value"),
                )
            )

    @property
    def arms(self) -> dict[str, NoiseSettings]:
        """Noise of every arm by name, control first; arms with other methods have none unless it is set."""
        noisy = {noise.name: noise for noise in (CONTROL, *self.noise)}
        chaos = {CHAOS_ARM: CHAOS} if self.measuring.chaos else {}
        return noisy | {arm.name: arm.noise or CONTROL for arm in self.methods} | chaos

    @property
    def live_arm(self) -> str:
        """Name of the arm that can change its strength during training; "" if the study is not live."""
        return self.noise[0].name if self.live else ""

    @property
    def runs(self) -> dict[int, tuple[str, ...]]:
        """Arms of every seed, in running order; the seeds of the A/A floor come last and train only the control."""
        seeds = range(self.seed, self.seed + self.seeds)
        again = {seed + self.seeds: (CONTROL.name,) for seed in seeds} if self.measuring.another_seed else {}
        return {seed: tuple(self.arms) for seed in seeds} | again

    def method_of(self, arm: str) -> MethodSettings:
        """Return every method's value for an arm: its own, else the study's training setting, else 0."""
        usual: dict[str, Any] = {name: getattr(self.training, name, 0.0) for name in METHODS}
        found = next((found for found in self.methods if found.name == arm), None)
        if found is None:
            return MethodSettings.model_construct(None, **usual)
        schedule = {"schedule": found.schedule, "schedule_point": found.schedule_point}
        return MethodSettings.model_construct(None, **(usual | found.values | schedule))

    def check(self, limits: Limits) -> None:
        """Raise `DoesNotFit` if a limit of this server is exceeded."""
        if len(self.arms) > limits.arms:
            raise DoesNotFit(
                say(
                    "This server trains at most {most} arms at once (requested: {arms}).",
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
"""Initial settings of the page: the bundled model learns a new answer format."""


USUAL_OF_OTHERS = TrainingSettings(epochs=3, evaluations=3)
"""Defaults for models other than the bundled one, with one evaluation per epoch because evaluation is slow."""


def default_training(model: ModelSettings) -> TrainingSettings:
    """Return the default training settings of a model: `EXAMPLE` for the bundled one, otherwise `USUAL_OF_OTHERS`."""
    return EXAMPLE.training if model.source == BUNDLED else USUAL_OF_OTHERS


@dataclass(frozen=True)
class Preset:
    """Predefined training settings, for the bundled model and for all others."""

    words: str
    bundled: TrainingSettings
    others: TrainingSettings

    def training(self, model: ModelSettings) -> TrainingSettings:
        """Return the settings for `model`."""
        return self.bundled if model.source == BUNDLED else self.others


_PAPER = TrainingSettings(epochs=3, learning_rate=5e-5, batch_size=128, accumulation=16, lora_rank=16, lora_alpha=32)

PRESETS: dict[str, Preset] = {
    "quick look": Preset(
        "A few seconds of training with the bundled model, or about 20 seconds with any other, regardless of the size "
        "of the data.",
        bundled=EXAMPLE.training.model_copy(update={"time_budget_seconds": 4.0, "evaluations": 4}),
        others=TrainingSettings(time_budget_seconds=20, batch_size=2, evaluations=1, evaluation_rows=4),
    ),
    "the paper's": Preset(
        "The paper's learning rate (5e-5), number of epochs (3) and rows per step (128), from arXiv 2310.05914 and "
        "its code. The lab trains adapters here, whereas the paper trained all weights. Meant for tens of thousands "
        "of rows: with few rows, the model learns very little.",
        bundled=_PAPER,
        others=_PAPER,
    ),
    "small data, many epochs": Preset(
        "For models that overfit: noise can reduce overfitting.",
        bundled=TrainingSettings(
            epochs=20, learning_rate=4e-3, batch_size=8, evaluations=20, evaluation_rows=MOST_SAMPLED
        ),
        others=TrainingSettings(epochs=10, learning_rate=5e-4, lora_rank=16, lora_alpha=32, evaluations=10),
    ),
}
"""Presets by name; every value can be changed afterwards."""
