"""Convert a study to the state of the page's forms."""

from __future__ import annotations

from typing import Any

from neftune_core.engine.methods.registry import METHODS
from neftune_core.engine.settings import MethodSettings
from neftune_core.language import later, say
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.settings import CONTROL, PRESETS, StudySettings
from neftune_core.ui.parts.state_fields import Fields
from neftune_core.ui.parts.study_form import SCHEDULE, method_field
from neftune_core.ui.parts.wiring import show_note
from neftune_core.ui.tabs.train_form import USUAL


def study_state(fields: Fields, study: StudySettings) -> dict[str, Any]:
    """Return the state of the page that describes a study.

    The noise is that of the first noise arm. Arms that differ from it only in strength become additional strengths. A
    preset is selected if all its values match.

    Args:
        fields: The named components of the page.
        study: Settings of the study.

    Returns:
        Values by name.
    """
    noise = _shown_noise(study)
    rest = [arm for arm in study.noise[1:] if _differs_in_strength(arm, noise)]
    presets = (name for name, found in PRESETS.items() if found.training(study.model) == study.training)
    return {
        **fields.of_settings("noise", noise),
        **fields.of_settings("train", study.training),
        **fields.of_settings("measuring", study.measuring),
        "train.preset": next(presets, USUAL),
        "train.strengths": _list_numbers(arm.strength for arm in rest),
        **{
            f"train.{method.field}": _list_numbers(
                arm.values[name] for arm in study.methods if _fits_form(arm, study) and name in arm.values
            )
            for name, method in METHODS.items()
        },
        f"train.{method_field(SCHEDULE)}": _shown_schedule(study),
        "train.seed": study.seed,
        "train.seeds": study.seeds,
        "train.live": study.live,
    }


def _shown_noise(study: StudySettings) -> NoiseSettings:
    """Return the noise of the first arm with noise, which the Noise tab shows; `CONTROL` if no arm has noise."""
    noises = [*study.noise, *(arm.noise for arm in study.methods if arm.noise is not None)]
    return noises[0] if noises else CONTROL


def _shown_schedule(study: StudySettings) -> str:
    """Return the schedule of the first arm with a scheduled method; "constant" if there is none."""
    scheduled = (arm.schedule for arm in study.methods if any(METHODS[name].scheduled for name in arm.values))
    return next(scheduled, "constant")


def _fits_form(arm: MethodSettings, study: StudySettings) -> bool:
    """Return whether the forms can represent a method arm of a study.

    They can if the arm has one method, the noise of the Noise tab if the method needs noise, and the schedule of the
    form.
    """
    if len(arm.values) != 1:
        return False
    method = METHODS[next(iter(arm.values))]
    noise = _shown_noise(study) if method.needs_noise else None
    schedule = _shown_schedule(study) if method.scheduled else "constant"
    return arm == arm.model_copy(update={"noise": noise, "schedule": schedule, "schedule_point": 0.5})


def _differs_in_strength(arm: NoiseSettings, noise: NoiseSettings) -> bool:
    """Return whether `arm` differs from `noise` only in its strength."""
    return arm == noise.model_copy(update={"strength": arm.strength})


def warn_of_missing_arms(study: StudySettings) -> None:
    """Show a note that lists the arms of a study that the forms cannot represent, if any."""
    shown = _shown_noise(study)
    noises = [arm.name for arm in study.noise[1:] if not _differs_in_strength(arm, shown)]
    methods = [arm.name for arm in study.methods if not _fits_form(arm, study)]
    if noises or methods:
        arms = say(", ").join(map(arm_words, [*noises, *methods]))
        words = later(
            "The forms of this page cannot show these arms of the study: {arms}. A new study will not include them."
        )
        show_note(say(words, arms=arms))


def _list_numbers(numbers: Any) -> str:
    return ", ".join(f"{number:.15g}" for number in numbers if number is not None)
