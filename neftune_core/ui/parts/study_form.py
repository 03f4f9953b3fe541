"""Build a study from the settings of the page, and estimate its requirements on this machine."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from neftune_core.data.formats.starters import STARTERS
from neftune_core.data.settings import DataSettings
from neftune_core.engine.methods.registry import METHODS
from neftune_core.engine.settings import MethodSettings, TrainingSettings, check_length, count_steps
from neftune_core.errors import DoesNotFit, InvalidSetting, LabError
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.language import later, plural, say
from neftune_core.models.estimates import duration
from neftune_core.models.loading import load
from neftune_core.models.settings import BUNDLED, ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import control, parse
from neftune_core.studies.settings import StudySettings
from neftune_core.ui.parts.controls import component
from neftune_core.ui.server.lab import Lab

SCHEDULE = "schedule"
"""Name of the box for the schedule of the arms with other methods."""
METHOD_VALUES = {**dict.fromkeys(METHODS, ""), SCHEDULE: "constant"}
"""Initial values of the boxes for arms with other methods, by name."""

NO_ARMS = later(
    "The only strength is 0, which is the control: raise it on the Noise tab, or add strengths on the Train tab."
)


@dataclass(frozen=True)
class StudyRequest:
    """The settings of a study from all tabs, with strengths, methods, seed and seeds as typed.

    Attributes:
        noise: Noise of the Noise tab.
        strengths: Strengths of further arms.
        methods: Values of the boxes for arms with other methods, by the names in `METHOD_VALUES`.
    """

    data: DataSettings
    model: ModelSettings
    noise: NoiseSettings
    strengths: str
    methods: Mapping[str, str]
    seed: Any
    seeds: Any
    training: TrainingSettings
    measuring: MeasuringSettings = field(default_factory=MeasuringSettings)


def study_of(request: StudyRequest) -> StudySettings:
    """Build the study that the page describes.

    Raises:
        InvalidSetting: If a setting is not valid, or there is no arm.
    """
    strengths = _numbers(request.strengths, later("strengths"))
    base = request.noise.model_dump()
    noise = [request.noise, *(parse(NoiseSettings, {**base, "strength": strength}) for strength in strengths)]
    arms = {found.name: found for found in noise if not found.is_silent}
    others: list[dict[str, Any]] = []
    for name, method in METHODS.items():
        shared: dict[str, Any] = {"noise": request.noise} if method.needs_noise else {}
        shared |= {SCHEDULE: request.methods.get(SCHEDULE, "constant")} if method.scheduled else {}
        others += [{name: value, **shared} for value in _numbers(request.methods.get(name, ""), method.words)]
    if not arms and not others:
        raise InvalidSetting(say(NO_ARMS))
    same = {name: getattr(request, name) for name in ("model", "data", "training", "measuring")}
    study = {
        **same,
        "seed": whole_number(request.seed, later("seed"), example=0, is_optional=True),
        "seeds": whole_number(request.seeds, later("number of seeds"), example=1, is_optional=True),
        "noise": sorted(arms.values(), key=lambda found: found.strength),
        "methods": list({str(other): other for other in others}.values()),
    }
    return parse(StudySettings, study)


def method_boxes(prefix: str) -> dict[str, Component]:
    """Build the boxes for arms with other methods in the current column, by the names in `METHOD_VALUES`."""
    with gr.Accordion(say("Arms with other methods"), open=False, elem_classes=["lab-group"]):
        boxes = {name: _box(name, prefix) for name in METHODS}
        schedule = component(control(MethodSettings, SCHEDULE), elem_id=f"{prefix}-{method_field(SCHEDULE)}")
        return {**boxes, SCHEDULE: schedule}


def method_field(name: str) -> str:
    """Return the name that links and the page's state use for a box in `METHOD_VALUES`."""
    return METHODS[name].field if name in METHODS else "method_schedule"


def _box(name: str, prefix: str) -> gr.Textbox:
    """Build the box of a method, with label and help from its setting and its entry in `METHODS`."""
    method, found = METHODS[name], control(MethodSettings, name)
    noise = say("These arms use the noise set on the Noise tab.") if method.needs_noise else ""
    sentences = (say(found.help), say("One value per arm, such as {example}.", example=method.example), noise)
    info = " ".join(filter(None, (*sentences, f"({method.paper})" if method.paper else "")))
    return gr.Textbox("", label=say(found.label), info=info, max_length=200, elem_id=f"{prefix}-{method.field}")


def whole_number(given: Any, what: str, *, example: int, is_optional: bool = False) -> int:
    """Convert the value of a number box to an integer.

    Args:
        given: The value.
        what: Name of the value in the error message.
        example: A valid value, for the error message.
        is_optional: Whether None and "" are treated as `example`.

    Returns:
        The integer.

    Raises:
        InvalidSetting: If the value is not an integer.
    """
    try:
        return int(example if is_optional and given in (None, "") else given)
    except (TypeError, ValueError, OverflowError):
        words = later("The {what} {given!r} is not a whole number: enter one, such as {example}.")
        raise InvalidSetting(say(words, what=say(what), given=str(given)[:20], example=example)) from None


def _numbers(text: str, what: str) -> list[float]:
    try:
        return [float(part) for part in re.split(r"[,;\s]+", text or "") if part]
    except ValueError:
        words = later(
            "The values {text!r} of {what} are not all numbers: enter numbers separated by commas, such as 5, 15."
        )
        raise InvalidSetting(say(words, what=say(what), text=text[:60])) from None


def plan_html(describe: Callable[[], tuple[str, bool]]) -> str:
    """Return the plan of a study or sweep as HTML.

    Args:
        describe: Returns the plan as text, and whether it fits on this machine. If this function raises a `LabError`,
            the error is shown instead.

    Returns:
        HTML.
    """
    try:
        words, fits = describe()
    except LabError as error:
        words, fits = str(error), False
    return f'<p class="lab-plan" data-fits="{str(fits).lower()}">{html.escape(words)}</p>'


def plan_text(lab: Lab, study: StudySettings) -> tuple[str, bool]:
    """Describe the length of a study, with estimated memory and time on this machine.

    Args:
        lab: The state shared by all visitors.
        study: Settings of the study.

    Returns:
        The sentences, and whether the study fits.

    Raises:
        DoesNotFit: If a limit of the server is exceeded.
        LabError: If the model cannot be loaded, or the data cannot be read.
    """
    from neftune_core.studies.planning import memory_and_time, what_fits

    study.check(lab.limits)
    prepared, _ = lab.prepared(study.data, study.model)
    check_length(len(prepared.train), study.training, lab.limits, seeds=len(study.runs))
    loaded, budget = load(study.model), study.training.time_budget_seconds
    found = memory_and_time(study, loaded, prepared)
    steps = count_steps(len(prepared.train), study.training)
    seeds = "" if study.seeds == 1 else say("{count} seeds of ", count=study.seeds)
    if budget:
        length = say("about {duration} of training", duration=duration(budget))
    else:
        epochs = steps / math.ceil(len(prepared.train) / study.training.batch_size)
        length = say(
            "{steps} ({epochs})",
            steps=say(plural(steps, "{steps:,} step", "{steps:,} steps"), steps=steps),
            epochs=_epochs_text(epochs),
        )
    arms = len(study.arms)
    size = plural(arms, "{seeds}{length}, {count} arm.", "{seeds}{length}, {count} arms.")
    words = say(size, seeds=seeds, length=length, count=arms)
    words = words[:1].upper() + words[1:]
    if lab.gpu:
        seconds = lab.gpu.seconds(study, len(prepared.train), loaded)
        return f"{words} {lab.gpu.words(seconds)}", True
    more = "" if found.fits else f" {what_fits(study, loaded, prepared)}"
    return f"{words} {found.sentence}{more}{_world_text(study)}", found.fits


def _epochs_text(epochs: float) -> str:
    """Return a number of epochs in words, without an exponent."""
    epochs = float(f"{epochs:.3g}") if epochs < 100 else epochs  # as it is shown, so that its noun agrees
    few = plural(epochs, "{epochs:.3g} epoch", "{epochs:.3g} epochs")
    return say(later("{epochs:,.0f} epochs") if epochs >= 100 else few, epochs=epochs)


def _world_text(study: StudySettings) -> str:
    """Return what the bundled model knows and is taught; "" for other models or data."""
    name = study.data.source.removeprefix("starter:")
    if study.model.source != BUNDLED or not name.startswith("world-"):
        return ""
    known = say("The bundled model knows only one invented village.")
    return f" {known} {say('It is trained on “{title}”.', title=say(STARTERS[name].words))}"


def require_fit(lab: Lab, study: StudySettings) -> None:
    """If a study can start now, check that it fits on this machine; a queued study is checked when its turn comes.

    Args:
        lab: The state shared by all visitors.
        study: Settings of the study.

    Raises:
        DoesNotFit: If the study does not fit; the message suggests what would fit.
    """
    study.check(lab.limits)
    if not lab.jobs.is_idle:
        return
    words, fits = plan_text(lab, study)
    if not fits:
        raise DoesNotFit(say("This study does not fit. {words}", words=words))
