"""Settings of a study: model, data, training, and the arms."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from neftune_core.data.settings import DataSettings
from neftune_core.engine.methods.registry import METHODS
from neftune_core.engine.settings import MOST_SAMPLED, MethodSettings, TrainingSettings
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.home import assets
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
    """A study: a control and at least one other arm, trained together on the same batches."""

    title: str = setting("", max_length=200)
    """A name for the study."""
    seed: int = setting(0, minimum=0, maximum=2**31 - 1, step=1)
    """Seed of the row order, the initial adapters and the noise."""
    seeds: int = setting(1, minimum=1, maximum=MOST_SEEDS, slider_maximum=10, step=1, unit="seeds")
    """Number of seeds, run one after another, starting with the one above."""
    live: bool = setting(False, label="Live: change the noise during training")
    """For teaching: the strength of the first noise arm can be changed during training. A live study gets no
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
    def _rename_regularisers(cls, given: Any) -> Any:
        """Rename `regularisers`, the name of `methods` in old records."""
        if isinstance(given, dict) and "regularisers" in given:
            given = dict(given)
            given.setdefault("methods", given.pop("regularisers"))
        return given

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        if not self.noise and not self.methods:
            words = say("besides the control, a study needs at least one arm with noise or with another method")
            raise ValueError(words)
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
        methods = [METHODS[name] for name in arm.values]
        if self.training.method == "full" and any(method.needs_adapters for method in methods):
            words = say("full fine-tuning has no adapters and therefore no adapter dropout: choose weight decay")
            raise ValueError(words)
        captured = self.training.execution in ("graphs", "captured")
        if captured and any(method.passes or method.perturbation for method in methods):
            raise ValueError(say("{name} cannot run in CUDA graphs: set execution to eager or compiled", name=arm.name))
        if self.method_of(arm.name).values == self.method_of(CONTROL.name).values:
            name = arm.name or say("without a value")
            raise ValueError(say("the arm {name} is the same as the control: change or remove it", name=name))

    @property
    def arms(self) -> dict[str, NoiseSettings]:
        """Noise of every arm by name, control first; an arm with another method has none unless it sets its own."""
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
        floor = {seed + self.seeds: (CONTROL.name,) for seed in seeds} if self.measuring.another_seed else {}
        return {seed: tuple(self.arms) for seed in seeds} | floor

    def method_of(self, arm: str) -> MethodSettings:
        """Return the value of every method for an arm: the arm's own, else the study's training setting, else 0."""
        values: dict[str, Any] = {name: getattr(self.training, name, 0.0) for name in METHODS}
        for own in self.methods:
            if own.name == arm:
                values |= own.values | {"schedule": own.schedule, "schedule_point": own.schedule_point}
        return MethodSettings.model_construct(None, **values)

    def check(self, limits: Limits) -> None:
        """Check the settings against the limits of this server.

        Raises:
            DoesNotFit: If a limit is exceeded.
        """
        if len(self.arms) > limits.arms:
            words = later("This server trains at most {most} arms at once (requested: {arms}).")
            raise DoesNotFit(say(words, most=limits.arms, arms=len(self.arms)))
        self.answers.check(limits)
        self.measuring.check(limits)


EXAMPLE = StudySettings(
    title="An example: control and one noise arm on the bundled model",
    data=DataSettings(source="starter:world-format"),
    training=TrainingSettings(epochs=6, batch_size=8, learning_rate=3e-3, evaluations=6, evaluation_rows=MOST_SAMPLED),
)
"""Initial settings of the page: the bundled model learns a new answer format."""

USUAL_OF_OTHERS = TrainingSettings(epochs=3, evaluations=3)
"""Defaults for other models, with one evaluation per epoch because evaluation is slow."""


def default_training(model: ModelSettings) -> TrainingSettings:
    """Return the default training settings of a model: those of `EXAMPLE` if bundled, else `USUAL_OF_OTHERS`."""
    return EXAMPLE.training if model.source == BUNDLED else USUAL_OF_OTHERS


@dataclass(frozen=True)
class Preset:
    """Predefined training settings.

    Attributes:
        words: What the preset is for.
        bundled: Settings for the bundled model.
        others: Settings for all other models.
    """

    words: str
    bundled: TrainingSettings
    others: TrainingSettings

    def training(self, model: ModelSettings) -> TrainingSettings:
        """Return the settings for `model`."""
        return self.bundled if model.source == BUNDLED else self.others


PRESETS: dict[str, Preset] = {
    name: Preset(
        fields["words"],
        bundled=TrainingSettings(**fields["bundled"]),
        others=TrainingSettings(**fields.get("others", fields["bundled"])),
    )
    for name, fields in tomllib.loads((assets() / "presets.toml").read_text(encoding="utf-8")).items()
}
"""Presets by name; every value can be changed afterwards."""
