"""The Train tab: start a study as a background job, and watch its curves while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import gradio as gr

from neftune_core.engine.methods.registry import METHODS
from neftune_core.errors import RecordError
from neftune_core.language import later, say
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import control, parse
from neftune_core.studies.records.failures import failure_text
from neftune_core.studies.records.record import find
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.tracking import tracked
from neftune_core.ui.parts import evidence_view, run_actions
from neftune_core.ui.parts.controls import component
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.plot import live_figure
from neftune_core.ui.parts.recorded_study import RecordedStudy
from neftune_core.ui.parts.strip import Strip, buttons_for, following, watched_text
from neftune_core.ui.parts.study_form import METHOD_VALUES, StudyRequest, plan_html, plan_text, require_fit, study_of
from neftune_core.ui.parts.study_views import STUDY_VIEWS, curves_of
from neftune_core.ui.parts.wiring import QUIET, UNREAD, events, in_browser, once_settled, reports_errors, show_error
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.study_text import arm_rows, live_strength, missing_record_text, progress_text, state_text
from neftune_core.ui.tabs import train_form
from neftune_core.ui.tabs.data_tab import DataTab
from neftune_core.ui.tabs.noise_tab import NoiseTab

THEN = later("Press Train to start your own study with the settings on this tab; its curves will appear here.")
LONGEST_STOP_SECONDS = 5.0
OPEN_IF_LINKED = "(asked, id) => { if (asked && id) Lab.state.openUnlessKept('Train'); }"
IS_RECORDED = 'class="lab-recorded"'
"""Marks the HTML of the state while it introduces the recorded study."""
NOTHING_YET = later("Nothing has been trained yet. Choose the settings and press Train; the curves will appear here.")


@dataclass(frozen=True)
class TabContext:
    """The parts of the page that the Train and Sweep tabs use.

    Attributes:
        lab: The state shared by all visitors.
        strip: The strip at the top of the page.
        data: The Data tab.
        noise: The Noise tab.
        key: Component with the visitor's key.
        tab: The tab itself.
    """

    lab: Lab
    strip: Strip
    data: DataTab
    noise: NoiseTab
    key: gr.Textbox
    tab: gr.Tab


@dataclass(frozen=True)
class TrainTab:
    """The components of the tab that other modules use.

    Attributes:
        finished: Id of the last watched record that ended, followed by `#` and the size of its log. The size
            distinguishes repeated endings of one record, to which more seeds can be added.
        seen: Size of the log when the figure was last drawn; -1 before the first time.
        asked: Id of the record to compare, followed by `#` and a timestamp.
        form: The settings of the next study.
        live: Whether the noise of the next study can be changed while it trains.
        plan: Estimated size and duration of the next study.
        state: State of the watched study.
        strength: Current noise strength of a live study; visible while it trains.
        arms: Arms of the watched study, with stop buttons; filled while it trains.
        actions: Buttons that act on the watched study.
        curves: Figure of the watched study.
        view: Choice of the figure.
        attached: Id of the record that the page started to watch when it was opened.
    """

    finished: gr.State
    seen: gr.State
    asked: gr.Textbox
    form: train_form.TrainForm
    live: gr.Checkbox
    plan: gr.HTML
    state: gr.HTML
    strength: gr.Slider
    arms: gr.HTML
    actions: run_actions.Actions
    curves: gr.HTML
    view: gr.Radio
    attached: gr.Textbox


def build(context: TabContext, shown: RecordedStudy | None) -> TrainTab:
    """Build the tab, inside an open `gr.Tab`.

    Args:
        context: The parts of the page that the tab uses.
        shown: Recorded study to show until the visitor has trained one; None for none.

    Returns:
        The components.
    """
    with gr.Row(elem_id="train-tab", elem_classes=["lab-two"]):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            plan = gr.HTML(elem_id="train-plan", apply_default_css=False)
            form = train_form.build(context.lab.host.profile.presets, with_tracker=not context.lab.has_strangers)
            live = component(control(StudySettings, "live"), elem_id="train-live")
        with gr.Column(scale=5, min_width=320, elem_classes=["lab-stays"]):
            state = watched_text(_nothing(shown), elem_id="train-state")
            strength = component(
                control(NoiseSettings, "strength"),
                elem_id="train-live-strength",
                label=say("Current strength"),
                info=say("Strength of the first noise arm, starting with the next step, in the unit of that arm."),
                visible=False,
            )
            arms = watched_text(elem_id="train-arms", also="arm-rows")
            actions = run_actions.build("train")
            view = view_of_study("train-view")
            curves = live_figure(shown.curves if shown else None, elem_id="train-curves")
            evidence = evidence_view.build("train")
    asked = gr.Textbox(visible=False)
    attached = gr.Textbox("", visible=False, label=say("Study found"))
    tab = TrainTab(
        gr.State(""),
        gr.State(-1),
        asked,
        form,
        cast(gr.Checkbox, live),
        plan,
        state,
        cast(gr.Slider, strength),
        arms,
        actions,
        curves,
        view,
        attached,
    )
    reset = train_form.connect(form, context.strip.model)
    reset.success(None, None, tab.live, js="() => false")
    _connect_start(context, tab)
    _connect_stop(context, tab, shown)
    _connect_strengths(context, form, reset)
    _connect_watch(context, tab)
    started = _connect_actions(context, tab, shown)
    watched = context.strip.watched
    evidence_view.connect(evidence, context.lab, context.key, watched, [watched.change, tab.finished.change], started)
    return tab


def view_of_study(elem_id: str, *, visible: bool = True) -> gr.Radio:
    """Build the radio buttons that choose the figure of a study.

    Args:
        elem_id: Id in the page.
        visible: Whether it is visible initially.

    Returns:
        The component.
    """
    choices = [(say(words), name) for name, (words, _) in STUDY_VIEWS.items()]
    return gr.Radio(
        choices, value=next(iter(STUDY_VIEWS)), label=say("View"), container=False, elem_id=elem_id, visible=visible
    )


def _nothing(shown: RecordedStudy | None) -> str:
    return shown.notice(say(THEN)) if shown else quiet(say(NOTHING_YET))


def _connect_start(context: TabContext, tab: TrainTab) -> None:
    lab, strip, noise, form = context.lab, context.strip, context.noise.noise, tab.form

    def study(values: Sequence[Any]) -> StudySettings:
        data, model, *rest = values
        count = len(noise.components)
        strengths, *typed = rest[count : count + 1 + len(METHOD_VALUES)]
        methods = dict(zip(METHOD_VALUES, typed, strict=True))
        seed, seeds, *training = rest[count + 1 + len(METHOD_VALUES) :]
        own = len(form.training.components)
        settings, measuring = form.training.settings(training[:own]), form.measuring.settings(training[own:])
        chosen = noise.settings(rest[:count])
        return study_of(StudyRequest(data, model, chosen, strengths, methods, seed, seeds, settings, measuring))

    @reports_errors
    def start(key: str, live: bool, *values: Any) -> Iterator[list[Any]]:
        asked = parse(StudySettings, study(values[: len(inputs)]).model_dump() | {"live": live})
        require_fit(lab, asked)
        with tracked(*values[len(inputs) :] or [""]):
            record = lab.jobs.submit(asked, require_key(key))
        yield [record.id, -1, following(record.id), *buttons_for(is_running=True)]
        yield from lab.attended(record, key)

    @reports_errors
    def plan(*values: Any) -> str:
        return plan_html(lambda: plan_text(lab, study(values)))

    inputs = [context.data.outputs.settings, strip.model, *noise.components, *form.components()]
    watching = [strip.watched, tab.seen, strip.watcher, *strip.buttons()]
    pressed = [context.key, tab.live, *inputs, *form.tracker]
    started = strip.train.click(start, pressed, watching, **UNREAD, **lab.attending)
    started.success(None, strip.watched, None, js=run_actions.WATCH_IN_BROWSER)
    # Noise and data are set on other tabs: one call when this tab opens replaces one for each move of their sliders.
    changing = [strip.model, *form.arms(), form.seeds, *form.training.components]
    changed = [context.tab.select, *(events(found).change for found in changing)]
    once_settled(changed)(plan, inputs, tab.plan, trigger_mode="always_last", **UNREAD)


def _connect_stop(context: TabContext, tab: TrainTab, shown: RecordedStudy | None) -> None:
    """Connect the buttons that stop the study, and the controls that change it while it trains.

    If the study is discarded, the tab is reset to its state before the first study.
    """
    lab, strip = context.lab, context.strip

    @reports_errors
    def keep(key: str, watched: str) -> None:
        lab.jobs.stop(watched, require_key(key))

    @reports_errors
    def discard(key: str, watched: str) -> list[Any]:
        record = find(watched, require_key(key))
        lab.jobs.discard(watched, key)
        lab.jobs.wait(record, LONGEST_STOP_SECONDS)
        return [*_without_study(shown), *tab.actions.hidden(), *buttons_for(is_running=False)]

    asked = [context.key, strip.watched]
    kept = strip.stop.keep.click(keep, asked, None, **QUIET)

    @reports_errors
    def stop_one_arm(key: str, watched: str, pressed: gr.EventData) -> None:
        from neftune_core.studies.steering import requests

        requests.stop_arm(lab.jobs.find_owned(watched, require_key(key)), str(pressed.arm))

    removed = [*_study_components(strip, tab), *tab.actions.components(), *strip.buttons()]
    discarded = strip.stop.discard.click(discard, asked, removed, **QUIET)
    discarded.success(None, None, None, js=run_actions.FORGET_IN_BROWSER)

    @reports_errors
    def change_strength(key: str, watched: str, strength: float) -> None:
        from neftune_core.studies.steering import requests

        requests.set_strength(lab.jobs.find_owned(watched, require_key(key)), strength)

    events(tab.strength).input(change_strength, [*asked, tab.strength], None, trigger_mode="always_last", **QUIET)
    events(tab.arms).click(stop_one_arm, asked, None, trigger_mode="multiple", **QUIET)  # to stop several at once
    for done in (kept, discarded):
        done.then(None, None, None, js="() => Lab.askStop(false)")


def _study_components(strip: Strip, tab: TrainTab) -> list[Any]:
    """Return the components that show the watched study."""
    shown = [tab.state, tab.strength, tab.arms, tab.curves, tab.view, strip.progress, strip.watched, tab.finished]
    return [*shown, strip.watcher]


def _without_study(shown: RecordedStudy | None) -> list[Any]:
    """Return the values of `_study_components` when no study is watched."""
    return [
        _nothing(shown),
        gr.update(visible=False),
        "",
        shown.curves if shown else None,
        next(iter(STUDY_VIEWS)),
        "",
        "",
        "",
        following("", on=False),
    ]


def _connect_strengths(context: TabContext, form: train_form.TrainForm, reset: Any) -> None:
    """Convert the strengths to the unit of the Noise tab, also after `reset`, and list their arms in the strip."""
    unit = context.noise.noise.by_name["unit"]
    in_unit = "(text, unit, together) => Lab.strengthsInUnit(text, unit, together)"
    events(unit).change(None, [form.strengths, unit, form.together], form.strengths, js=in_unit)
    from_alpha = in_browser("Lab.fromAlpha(text, unit)", "text, unit")
    reset.success(None, [form.strengths, unit], form.strengths, js=from_alpha)
    shown_in_strip = in_browser("Lab.moreStrengths(...texts)", "...texts")
    texts = [form.strengths, *(box for name, box in form.methods.items() if name in METHODS)]
    gr.on([context.key.change, *(events(text).change for text in texts)], None, texts, None, js=shown_in_strip)


def _connect_watch(context: TabContext, tab: TrainTab) -> None:
    lab, strip, key = context.lab, context.strip, context.key
    unchanged = [gr.skip()] * 3

    @reports_errors
    def attach(key: str, asked: str) -> list[Any]:
        """Watch the study in the link; without one, watch the visitor's running study."""
        record = find(asked, require_key(key)) if asked else lab.jobs.current_of(require_key(key))
        return [record.id, -1, following(record.id)] if record else unchanged

    shown = [
        tab.state,
        tab.strength,
        tab.arms,
        tab.curves,
        tab.seen,
        strip.progress,
        *strip.buttons(),
        strip.watcher,
        tab.finished,
    ]
    outputs = [*shown, *tab.actions.components()]
    latest = gr.State({"id": ""})  # one dict per open page

    @reports_errors
    def show_watched(key: str, watched: str, seen: int, view: str, latest: dict[str, str]) -> list[Any]:
        latest["id"] = watched
        return _updates(context, tab, key, watched, seen, view)

    @reports_errors
    def update_watched(key: str, watched: str, seen: int, view: str, latest: dict[str, str]) -> list[Any]:
        """Update the page if the study is still watched; a late update would turn off the watcher of the next study."""
        found = _updates(context, tab, key, watched, seen, view)
        return found if latest["id"] == watched else [gr.skip()] * len(outputs)

    watching = [key, strip.watched, tab.seen, tab.view, latest]
    asked = gr.Textbox(visible=False)
    read = key.change(None, None, asked, js=in_browser("Lab.parameter('job') || ''"))
    attached = read.then(attach, [key, asked], [strip.watched, tab.seen, strip.watcher], **QUIET)
    attached.success(None, strip.watched, tab.attached, js="(id) => id")
    attached.success(None, [asked, strip.watched], None, js=OPEN_IF_LINKED)
    attached.then(None, strip.watched, None, js="(id) => void (id || Lab.arrived('train', 0))")
    shown_first = strip.watched.change(show_watched, watching, outputs, **QUIET)
    shown_first.then(None, None, None, js="() => Lab.arrived('train')")
    strip.watcher.click(update_watched, watching, outputs, **QUIET)
    _connect_view(context, tab)


def _updates(context: TabContext, tab: TrainTab, key: str, watched: str, seen: int, view: str) -> list[Any]:
    """Return the updates that show the watched study; `seen` is the size of its log at the last update."""
    lab = context.lab
    try:
        record = find(watched, key) if watched else None
    except RecordError as error:  # deleted in the meantime, in another browser tab or by the host
        if not lab.jobs.was_discarded(watched):
            show_error(error)
        return _updates_without_record(tab, failure_text(watched, key))
    if record is None:
        return _updates_without_record(tab, "")
    status, log = lab.jobs.status(record), record.read_log()
    return [
        state_text(record, status, log),
        live_strength(record, status, log, is_new=seen < 0),
        arm_rows(record, status, log),
        gr.skip() if log.size == seen else curves_of(record, log.events, view),
        log.size,
        progress_text(record, status),
        *buttons_for(is_running=not status.is_over),
        following(record.id, on=not status.is_over, known=True),
        f"{record.id}#{log.size}" if status.is_over else gr.skip(),
        *tab.actions.fitting(record, status),
    ]


def _updates_without_record(tab: TrainTab, why: str) -> list[Any]:
    """Return what `_updates` returns if the record is missing; a non-empty `why` is shown as the reason."""
    hidden_slider = gr.update(visible=False)
    texts = [missing_record_text(why), hidden_slider, "", gr.skip(), gr.skip(), ""] if why else [gr.skip()] * 6
    return [*texts, *buttons_for(is_running=False), following("", on=False), gr.skip(), *tab.actions.hidden()]


def _connect_view(context: TabContext, tab: TrainTab) -> None:
    lab, key, watching = context.lab, context.key, context.strip.watched

    @reports_errors
    def change_view(key: str, watched: str, view: str, state: str) -> Any:
        recorded = lab.recorded if IS_RECORDED in (state or "") else None
        record = find(watched, require_key(key)) if watched else recorded
        return curves_of(record, record.read_log().events, view) if record else gr.skip()

    # `change` rather than `input`: scripts and restored settings also set the view.
    events(tab.view).change(change_view, [key, watching, tab.view, tab.state], tab.curves, **QUIET)


def _connect_actions(context: TabContext, tab: TrainTab, shown: RecordedStudy | None) -> list[Any]:
    """Connect the actions; return the events that start training. Discarding a study resets the tab."""
    strip, tracker = context.strip, tab.form.tracker
    own = run_actions.ButtonContext(
        context.lab, strip, context.key, strip.watched, tab.asked, tab.seen, tracker=tracker
    )
    return run_actions.connect(tab.actions, own, lambda: _without_study(shown), _study_components(strip, tab))
