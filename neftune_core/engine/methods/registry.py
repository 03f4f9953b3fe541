"""All methods by name, and the settings of an arm that uses them."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from pydantic import create_model, model_validator

from neftune_core.engine import methods
from neftune_core.engine.methods.method import Method
from neftune_core.errors import InvalidSetting
from neftune_core.language import say
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.names import KIND_WORDS, WITH
from neftune_core.noise.schedules import SCHEDULES, WITH_A_POINT
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import is_encoder_decoder
from neftune_core.settings import Settings, setting

if TYPE_CHECKING:
    from neftune_core.engine.armset import ArmSet
    from neftune_core.engine.optimizer import Block


def find_methods() -> dict[str, Method]:
    """Return the `METHOD` of every module in this folder, by the name of the method, sorted by module name."""
    names = sorted(f"{methods.__name__}.{found.name}" for found in pkgutil.iter_modules(methods.__path__))
    modules = [vars(import_module(name)) for name in names if name != __name__]
    return {module["METHOD"].name: module["METHOD"] for module in modules if "METHOD" in module}


METHODS = find_methods()
KIND_WORDS.update({name.replace("_", "-"): method.words for name, method in METHODS.items()})


class _Arm(Settings):
    """An arm that differs from the control in a method.

    None in the field of a method stands for the study's value; a method for which the study has no value is off.
    """

    noise: NoiseSettings | None = None
    """Noise of this arm; None adds no noise."""
    schedule: str = setting(
        "constant",
        choices={name: found.words for name, found in SCHEDULES.items() if found.multiplier is not None},
        label="Schedule of the noise on the weights",
    )
    """How the strength of the noise on the weights changes over the run."""
    schedule_point: float = setting(0.5, minimum=0, maximum=1, step=0.05)
    """Share of the run after which the warm-up is complete or the noise on the weights is switched off."""

    @property
    def values(self) -> dict[str, float]:
        """The values that are not None, by method name."""
        return {name: getattr(self, name) for name in METHODS if getattr(self, name) is not None}

    @property
    def name(self) -> str:
        """Short name, safe in file names and links, such as `lora-dropout-0.1` or `weight-noise-0.05-linear`.

        The name of the noise follows the methods, as in `consistency-1-with-uniform-alpha-5`.
        """
        parts = [f"{name.replace('_', '-')}-{value:g}" for name, value in self.values.items()]
        if self.schedule != "constant":
            parts.append(self.schedule)
        if self.schedule in WITH_A_POINT:
            parts.append(f"{self.schedule_point:g}")
        return "-".join(parts) + (f"{WITH}{self.noise.name}" if self.noise is not None else "")

    @model_validator(mode="after")
    def _schedule_has_a_method(self) -> Self:
        if self.schedule != "constant" and not any(
            value and METHODS[name].scheduled for name, value in self.values.items()
        ):
            raise ValueError(
                say("the schedule of an arm only affects its weight noise: set weight_noise, or remove the schedule")
            )
        return self

    @model_validator(mode="after")
    def _noise_suits_the_methods(self) -> Self:
        for name in [name for name, value in self.values.items() if value and METHODS[name].needs_noise]:
            if self.noise is None or self.noise.is_silent:
                raise ValueError(say("{name} needs noise: give the arm noise with a strength above 0", name=name))
            if KINDS[self.noise.kind].passes != "one":
                raise ValueError(
                    say(
                        "{name} needs a kind of noise that takes a single pass, unlike {kind}: choose another kind",
                        name=name,
                        kind=self.noise.kind,
                    )
                )
        return self


if TYPE_CHECKING:

    class MethodSettings(_Arm):
        """The settings of an arm, with one field per method."""

        def __init__(self, **values: Any) -> None: ...
else:
    MethodSettings = create_model(
        "MethodSettings",
        __base__=_Arm,
        __module__=__name__,
        **{name: (float | None, method.setting) for name, method in METHODS.items()},
    )


def require_causal(arms: ArmSet, values: Iterable[Mapping[str, float]]) -> None:
    """Check that methods for causal models are not used with an encoder-decoder.

    Args:
        arms: The set of arms to train.
        values: Method values of every arm, by method name.

    Raises:
        InvalidSetting: If such a method is used.
    """
    used = {name for own in values for name, value in own.items() if value and METHODS[name].causal_only}
    if used and is_encoder_decoder(arms.tree):
        raise InvalidSetting(
            say(
                "{name} has no effect on an encoder-decoder, which does not predict its prompt: remove these arms, or "
                "choose a causal model.",
                name=", ".join(sorted(used)),
            )
        )


def perturb_start(blocks: Iterable[Block], values: Mapping[int, Mapping[str, float]], seed: int) -> list[int]:
    """Apply the methods that change the trained tensors once, before the first step.

    Args:
        blocks: The trained tensors.
        values: Method values by slot and method name.
        seed: Study seed.

    Returns:
        The slots that were changed.
    """
    starts = {
        slot: [(start, value) for name, value in own.items() if value and (start := METHODS[name].start)]
        for slot, own in values.items()
    }
    numbers = dict.fromkeys(starts, 0)
    for part in (part for block in blocks for part in block.parts):
        for index, slot in enumerate(part.slots):
            if slot not in starts:  # the base
                continue
            tensor = part.parameter.detach()
            tensor = tensor[index] if len(part.slots) > 1 else tensor
            for start, value in starts[slot]:
                tensor += start(value, tensor, (seed, numbers[slot]))
            numbers[slot] += 1
    return [slot for slot, found in starts.items() if found]
