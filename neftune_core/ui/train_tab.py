"""Train: a control and noise arms in lockstep, with live curves. The study is a job; the page only watches it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.errors import LabError, RecordError
from neftune_core.figures.curves import loss_curves
from neftune_core.models.settings import ModelSettings
from neftune_core.settings import control, controls
from neftune_core.training.record import find
from neftune_core.training.settings import EXAMPLE, StudySettings, TrainingSettings, usual_training
from neftune_core.ui.controls import Form, component
from neftune_core.ui.data_tab import DataTab
from neftune_core.ui.lab import Lab
from neftune_core.ui.noise_tab import NoiseTab
from neftune_core.ui.plot import live_figure
from neftune_core.ui.recorded import Recorded
from neftune_core.ui.run_views import progress_words, state_words
from neftune_core.ui.strip import Strip
from neftune_core.ui.study_form import Asked, plan_words, study_of
from neftune_core.ui.views import quiet
from neftune_core.ui.wiring import QUIET, events, in_browser, told

FORM = ("epochs", "batch_size", "learning_rate", "lora_rank")
THEN = "Press Train to run one of your own with the settings of this tab; its curves grow here."
NOTHING_YET = quiet("Nothing has been trained yet: choose the settings and press Train; the curves grow here.")


@dataclass(frozen=True)
class Around:
    """What the tab needs of the rest of the page."""

    lab: Lab
    strip: Strip
    data: DataTab
    noise: NoiseTab
    key: gr.Textbox
    place: gr.Tab


@dataclass(frozen=True)
class TrainTab:
    """What other tabs use. `finished` is the id of a watched record that is over, `seen` how much of the log of the
    watched one has been drawn."""

    finished: gr.State
    seen: gr.State
    strengths: gr.Textbox
    seed: gr.Number
    form: Form[TrainingSettings]
    plan: gr.HTML
    state: gr.HTML
    curves: gr.HTML


def build(around: Around, shown: Recorded | None) -> TrainTab:
    """The tab, inside an open `gr.Tab`; `shown` stands where nothing has been trained yet."""
    with gr.Row(elem_id="train-tab", elem_classes=["lab-two"]):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            strengths = gr.Textbox(
                "15",
                label="More strengths",
                info="Besides the one on the Noise tab, in its unit and kind; the control is always there.",
                max_length=200,
                elem_id="train-strengths",
            )
            form, seed = _settings()
            plan = gr.HTML(elem_id="train-plan", apply_default_css=False)
        with gr.Column(scale=5, min_width=320):
            first = shown.notice(THEN) if shown else NOTHING_YET
            state = gr.HTML(first, elem_id="train-state", apply_default_css=False)
            curves = live_figure(shown.curves if shown else None, elem_id="train-curves")
    tab = TrainTab(gr.State(""), gr.State(-1), strengths, seed, form, plan=plan, state=state, curves=curves)
    _connect_start(around, tab)
    _connect_watch(around, tab)
    return tab


def _settings() -> tuple[Form[TrainingSettings], Any]:
    more = [found.name for found in controls(TrainingSettings) if found.name not in FORM]
    changes: dict[str, dict[str, Any]] = {name: {"value": getattr(EXAMPLE.training, name)} for name in FORM}
    changes |= {name: {"render": False} for name in more}
    form = Form(TrainingSettings, names=(*FORM, *more), prefix="train", changes=changes)
    seed = component(control(StudySettings, "seed"), elem_id="train-seed")
    with gr.Accordion("More settings", open=False):
        for name in more:
            form.by_name[name].render()
    return form, seed


def _connect_start(around: Around, tab: TrainTab) -> None:
    lab, strip, noise = around.lab, around.strip, around.noise.noise

    def study(values: Sequence[Any]) -> StudySettings:
        data, model, strengths, seed, *rest = values
        count = len(noise.components)
        return study_of(
            Asked(data, model, noise.settings(rest[:count]), strengths, seed, tab.form.settings(rest[count:]))
        )

    @told
    def start(key: str, *values: Any) -> list[Any]:
        record = lab.jobs.submit(study(values), require_key(key))
        return [record.id, -1, gr.Timer(active=True)]

    @told
    def plan(*values: Any) -> str:
        try:
            words, fits = plan_words(lab, study(values))
        except LabError as error:
            words, fits = str(error), False
        return f'<p class="lab-plan" data-fits="{str(fits).lower()}">{html.escape(words)}</p>'

    said = [around.data.settings, strip.model, tab.strengths, tab.seed, *noise.components, *tab.form.components]
    started = strip.train.click(start, [around.key, *said], [strip.watched, tab.seen, strip.timer], **QUIET)
    started.success(None, strip.watched, None, js="(id) => { Lab.setParameter('job', id); Lab.openTab('Train'); }")
    # The noise and the data are changed on other tabs: opening this one is enough, and the slider calls nobody.
    changing = [strip.model, tab.strengths, *tab.form.components]
    changed = [around.place.select, *(events(found).change for found in changing)]
    gr.on(changed, plan, said, tab.plan, trigger_mode="always_last", **QUIET)

    @told
    def stop(key: str, watched: str) -> None:
        lab.jobs.stop(watched, require_key(key))

    strip.stop.click(stop, [around.key, strip.watched], None, **QUIET)

    def usual(model: ModelSettings, *shown: Any) -> list[Any]:
        """What was left as it stood for the model before follows the model; what a person set stays."""
        wanted, others = usual_training(model), (EXAMPLE.training, TrainingSettings())
        return [
            getattr(wanted, name) if value in [getattr(other, name) for other in others] else gr.skip()
            for name, value in zip(FORM, shown, strict=True)
        ]

    beginning = [tab.form.by_name[name] for name in FORM]
    events(strip.model).change(usual, [strip.model, *beginning], beginning, **QUIET)
    unit = noise.by_name["unit"]
    in_unit = "(text, unit) => Lab.strengthsInUnit(text, unit)"
    events(unit).change(None, [tab.strengths, unit], tab.strengths, js=in_unit)
    told_strip = in_browser("Lab.moreStrengths(text)", "text")
    gr.on([around.key.change, tab.strengths.change], None, tab.strengths, None, js=told_strip)


def require_key(key: str) -> str:
    """The visitor's key; raises `RecordError` where the browser gave none."""
    if not key or len(key) > 200:
        raise RecordError("This browser gave no key to keep your studies apart: reload the page.")
    return key


def _connect_watch(around: Around, tab: TrainTab) -> None:
    lab, strip, key = around.lab, around.strip, around.key

    @told
    def attach(key: str, asked: str) -> list[Any]:
        """The job named in the link, or else the visitor's own that is under way."""
        record = find(asked, require_key(key)) if asked else lab.jobs.current_of(require_key(key))
        return [record.id, -1, gr.Timer(active=True)] if record else [gr.skip()] * 3

    @told
    def look(key: str, watched: str, seen: int) -> list[Any]:
        if not watched:
            return [*[gr.skip()] * 5, gr.Timer(active=False), gr.skip()]
        record = find(watched, key)
        status = lab.jobs.status(record)
        log = lab.log(record)
        return [
            state_words(record, status),
            gr.skip() if log.size == seen else loss_curves(log.events, record.arms),
            log.size,
            progress_words(status),
            gr.update(visible=not status.is_over),
            gr.Timer(active=not status.is_over),
            record.id if status.is_over else gr.skip(),
        ]

    outputs = [tab.state, tab.curves, tab.seen, strip.progress, strip.stop, strip.timer, tab.finished]
    watching = [key, strip.watched, tab.seen]
    asked = gr.Textbox(visible=False)
    key.change(None, None, asked, js=in_browser("Lab.parameter('job') || ''")).then(
        attach, [key, asked], [strip.watched, tab.seen, strip.timer], **QUIET
    )
    strip.watched.change(look, watching, outputs, **QUIET)
    strip.timer.tick(look, watching, outputs, **QUIET)
