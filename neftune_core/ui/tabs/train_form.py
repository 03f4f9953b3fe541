"""The form of the Train tab: a preset, the most important settings, and the others in collapsed groups."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from neftune_core.engine.settings import TrainingSettings
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.language import later, say
from neftune_core.models.settings import ModelSettings
from neftune_core.settings import control, controls
from neftune_core.studies.settings import EXAMPLE, PRESETS, USUAL_OF_OTHERS, StudySettings, default_training
from neftune_core.studies.tracking import installed_trackers
from neftune_core.ui.parts.controls import Form, component, label
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.plot import scripted
from neftune_core.ui.parts.study_form import METHOD_VALUES, method_boxes
from neftune_core.ui.parts.wiring import LATEST, QUIET, events, reports_errors

FIRST = ("epochs", "batch_size", "learning_rate", "lora_rank")
GROUPS = {
    later("Duration"): ("steps", "time_budget_seconds"),
    later("Optimizer"): ("schedule", "warmup", "weight_decay", "clip_norm", "accumulation"),
    later("What is trained, and how"): ("method", "arms_at_once", "execution"),
    later("Adapters and dropout"): ("lora_alpha", "lora_targets", "lora_dropout", "model_dropout"),
    later("Measuring and saving"): (
        "evaluations",
        "evaluation_rows",
        "keep_best",
        "keep_state",
        "early_stop",
        "checkpoint_steps",
        "checkpoint_seconds",
    ),
}
"""Less common settings by the heading of their group; settings without a group come last."""

USUAL = later("usual")
USUAL_WORDS = later("The defaults for this model.")
FIRST_STRENGTHS = "15"
NOTE = '<p class="lab-quiet" role="status" hidden></p>'


@dataclass(frozen=True)
class TrainForm:
    """The components of the form.

    Attributes:
        strengths: Strengths of additional arms.
        together: Value of `set_together`, which marks strengths that were set with their unit and need no conversion,
            also those of the Sweep tab.
        methods: Boxes for arms with other methods, by the names in `METHOD_VALUES`.
        measuring: Settings of the measures, including the question, which is chosen before the run.
        model_of: Model that the values were last adapted to.
        tracker: Choice of the tracker, and its Space or server; empty on a public server. A tracker sends
            metrics elsewhere, so the choice is neither stored in the browser nor part of a link.
    """

    preset: gr.Radio
    about: gr.HTML
    reset: gr.Button
    strengths: gr.Textbox
    together: gr.Textbox
    methods: dict[str, Component]
    seed: gr.Number
    seeds: gr.Slider
    training: Form[TrainingSettings]
    measuring: Form[MeasuringSettings]
    model_of: gr.State
    tracker: tuple[gr.Dropdown, gr.Textbox] | tuple[()] = ()

    def components(self) -> list[Any]:
        """Return the components of this form that define a study."""
        return [*self.arms(), self.seed, self.seeds, *self.training.components, *self.measuring.components]

    def arms(self) -> list[Any]:
        """Return the components that define arms in addition to the control and the noise of the Noise tab."""
        return [self.strengths, *self.methods.values()]


def build(presets: Sequence[str] = tuple(PRESETS), *, with_tracker: bool = False) -> TrainForm:
    """Build the components in the open column.

    Args:
        presets: Names of the available presets.
        with_tracker: Whether a tracker can be chosen.

    Returns:
        The components.
    """
    preset = gr.Radio(
        [(say(name), name) for name in (USUAL, *presets)], value=USUAL, label=say("Preset"), elem_id="train-preset"
    )
    explained = gr.HTML(about(USUAL), elem_id="train-preset-about", apply_default_css=False)
    labels = {f"train.{found.name}": label(found) for found in controls(TrainingSettings)}
    scripted("preset-changed", NOTE, value=labels, elem_id="train-preset-changed")
    info = say(
        "Strengths in addition to the one on the Noise tab, with the same unit and kind; the control is always "
        "included."
    )
    strengths = gr.Textbox(
        FIRST_STRENGTHS, label=say("More strengths"), info=info, max_length=200, elem_id="train-strengths"
    )
    together = gr.Textbox(visible=False, label=say("Strengths set together with their unit"))
    training = _training()
    seed = component(control(StudySettings, "seed"), elem_id="train-seed")
    seeds = component(control(StudySettings, "seeds"), elem_id="train-seeds")
    for words, names in _groups().items():
        with gr.Accordion(say(words), open=False, elem_classes=["lab-group"]):
            for name in names:
                training.by_name[name].render()
    with gr.Accordion(say("Question, chosen before the run"), open=False, elem_classes=["lab-group"]):
        measuring = Form(MeasuringSettings, prefix="measuring-train")
    methods = method_boxes("train")
    tracker = _tracker() if with_tracker else ()
    reset = gr.Button(say("Reset to defaults"), size="md", elem_id="train-reset")
    made = gr.State(ModelSettings())
    arms = (strengths, together, methods)
    return TrainForm(preset, explained, reset, *arms, seed, seeds, training, measuring, made, tracker)  # type: ignore[arg-type]


def _tracker() -> tuple[gr.Dropdown, gr.Textbox]:
    """Build the choice of a tracker, and the text box for the Space or server of trackio."""
    found = installed_trackers()
    about = (
        later("The losses and settings of each study are also sent to this tracker, which may be on another machine.")
        if found
        else later("No tracker is installed: run pip install trackio, for example, and restart the lab.")
    )
    with gr.Accordion(say("Experiment tracking"), open=False, elem_classes=["lab-group"]):
        name = gr.Dropdown(
            [(say("none"), ""), *((name, name) for name in found)], value="", label=say("Tracker"), info=say(about),
            elem_id="train-tracker",
        )  # fmt: skip
        place = gr.Textbox(
            "", label=say("Trackio Space or server"), max_length=500, visible=False, elem_id="train-tracker-place",
            info=say("OWNER/SPACE or the URL of a server; leave it empty to use this machine."),
        )  # fmt: skip
    name.change(lambda chosen: gr.update(visible=chosen == "trackio", value=""), name, place, **QUIET)
    return name, place


def about(preset: str) -> str:
    """Return the description of a preset as HTML."""
    return quiet(say(PRESETS[preset].words if preset in PRESETS else USUAL_WORDS))


def set_together(strengths: str | None, unit: str, *, sweep: bool) -> str:
    """Return a value of `TrainForm.together`; a timestamp makes it differ from all earlier values.

    Args:
        strengths: The strengths as typed; None if they were not set.
        unit: Their unit.
        sweep: Whether the values of the Sweep tab were also set, in this unit.

    Returns:
        JSON.
    """
    return json.dumps({"strengths": strengths, "unit": unit, "sweep": sweep, "made": time.time_ns()})


def _training() -> Form[TrainingSettings]:
    names = (*FIRST, *(name for names in _groups().values() for name in names))
    changes = {name: {"value": getattr(EXAMPLE.training, name), "render": False} for name in names}
    form = Form(TrainingSettings, names=names, prefix="train", changes=changes)
    for name in FIRST:
        form.by_name[name].render()
        if name == "epochs":
            scripted("epochs-unused", NOTE, elem_id="train-epochs-unused")
    return form


def _groups() -> dict[str, tuple[str, ...]]:
    named = {*FIRST, *(name for names in GROUPS.values() for name in names)}
    others = tuple(found.name for found in controls(TrainingSettings) if found.name not in named)
    return {**GROUPS, later("Others"): others} if others else GROUPS


def trainings_of(preset: str) -> tuple[TrainingSettings, TrainingSettings]:
    """Return the training settings of a preset for the bundled model and for other models."""
    found = PRESETS.get(preset)
    return (found.bundled, found.others) if found else (EXAMPLE.training, USUAL_OF_OTHERS)


def _training_of(preset: str, model: ModelSettings) -> TrainingSettings:
    return PRESETS[preset].training(model) if preset in PRESETS else default_training(model)


def connect(form: TrainForm, model: gr.State) -> Any:
    """Connect the settings to the presets, the reset button and the model.

    Args:
        form: The components.
        model: State with the model settings.

    Returns:
        The event of the reset button, which sets the strengths in alpha.
    """

    def choose(preset: str, model: ModelSettings) -> list[Any]:
        """Apply a preset.

        Args:
            preset: Name of the preset.
            model: The model settings.

        Returns:
            Updates of the outputs.
        """
        return [about(preset), *form.training.updates(_training_of(preset, model))]

    def reset(model: ModelSettings) -> list[Any]:
        questions = form.measuring.values(MeasuringSettings())
        arms = FIRST_STRENGTHS, *METHOD_VALUES.values(), EXAMPLE.seed, EXAMPLE.seeds
        return [USUAL, about(USUAL), *arms, *form.training.updates(default_training(model)), *questions]

    def adapt(model: ModelSettings, adapted_to: ModelSettings, preset: str, *shown: Any) -> list[Any]:
        """Update the settings that still have the values of the preset for the previous model.

        Args:
            model: The model settings.
            adapted_to: Those of the previous model.
            preset: Name of the preset.
            *shown: The training settings on the page.

        Returns:
            Updates of the outputs.
        """
        if model == adapted_to:
            return [gr.skip()] * (1 + len(shown))
        new = form.training.updates(_training_of(preset, model))
        old = zip(*map(form.training.values, trainings_of(preset)), strict=True)
        changes = zip(shown, old, new, strict=True)
        return [model, *(update if value in unchanged else gr.skip() for value, unchanged, update in changes)]

    values = form.training.components
    chosen = [form.preset, model]
    form.preset.input(reports_errors(choose), chosen, [form.about, *values], **LATEST)
    events(model).change(adapt, [model, form.model_of, form.preset, *values], [form.model_of, *values], **QUIET)
    return form.reset.click(reports_errors(reset), model, [form.preset, form.about, *form.components()], **QUIET)
