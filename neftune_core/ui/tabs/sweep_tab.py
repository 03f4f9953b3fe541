"""The Sweep tab: run many settings and seeds as one job, and show their effects with intervals."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from neftune_core.errors import NotAvailable, RecordError
from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.settings import EPOCH_WORDS, MeasuringSettings
from neftune_core.export.report_parts import verdict_html
from neftune_core.figures.effects import effect_curve
from neftune_core.language import later, say
from neftune_core.settings import to_toml
from neftune_core.studies.records.record import Record, find, owned_records
from neftune_core.studies.settings import StudySettings
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.settings import SweepSettings, size_text
from neftune_core.ui.parts import run_actions, sweep_form
from neftune_core.ui.parts.controls import Form
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.plot import live_figure
from neftune_core.ui.parts.state_fields import parse_state
from neftune_core.ui.parts.strip import following, watched_text, watcher
from neftune_core.ui.parts.study_form import StudyRequest, plan_html, study_of
from neftune_core.ui.parts.wiring import (
    KEY_FIRST,
    LATEST,
    QUIET,
    UNREAD,
    events,
    in_browser,
    key_of_tab,
    once_settled,
    reports_errors,
    saves_text,
)
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.study_text import missing_record_text, state_text, when
from neftune_core.ui.tabs.noise_tab import RECORDED as OF_FIRST_STUDY
from neftune_core.ui.tabs.train_tab import TabContext, TrainTab
from neftune_core.ui.tabs.views.sweep_views import EMPTY, SHOWN_INFO, recorded_text, table_view

if TYPE_CHECKING:
    from neftune_core.sweeps.table import SweepTable

RECORDED = "recorded/"
INTRO = later(
    "A sweep trains one arm for each value, with several seeds (different random numbers), and compares every arm with "
    "the control, the arm without noise. All other settings come from the other tabs."
)
OPEN_IF_LINKED = "(id) => { if (id && Lab.parameter('job') === id) Lab.state.openUnlessKept('Sweep'); }"


@dataclass(frozen=True)
class SweepTab:
    """The components of the tab.

    Attributes:
        form, measuring: Varied settings, seeds and title, and the measure and epoch that the sweep tests.
        start, stop, file: Buttons that start and stop a sweep and save its settings file.
        plan: Estimated size and duration of the next sweep.
        shown: Id of the sweep shown, or "recorded/" followed by its name.
        state, actions: State of the sweep shown, and buttons that act on it.
        measure, epoch: Measure and epoch of the figure and the table.
        curve, table, verdict: Results of the sweep shown.
        watcher: Follows the sweep shown in the browser.
        seen: Size of the sweep's log when the results were last drawn; -1 before the first time.
    """

    form: sweep_form.SweepForm
    measuring: Form[MeasuringSettings]
    start: gr.Button
    stop: gr.Button
    file: gr.Button
    plan: gr.HTML
    shown: gr.Dropdown
    state: gr.HTML
    actions: run_actions.Actions
    measure: gr.Dropdown
    epoch: gr.Radio
    curve: gr.HTML
    table: gr.HTML
    verdict: gr.HTML
    watcher: gr.HTML
    seen: gr.State

    def results(self) -> list[Any]:
        """Return the components that show one sweep."""
        return [self.state, self.curve, self.table, self.verdict, self.seen, self.stop, self.watcher]


def build(context: TabContext, train: TrainTab) -> SweepTab:
    """Build the tab, inside an open `gr.Tab`.

    Args:
        context: The parts of the page that the tab uses.
        train: The Train tab.

    Returns:
        The components.
    """
    tab = _layout()
    _connect_unit(context, train, tab)
    _connect_plan(context, train, tab)
    _connect_start(context, train, tab)
    _connect_selection(context, tab)
    _connect_watching(context, tab)
    _connect_actions(context, train, tab)
    return tab


def _layout() -> SweepTab:
    with gr.Row(elem_id="sweep-tab", elem_classes=["lab-two"]):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            gr.HTML(quiet(say(INTRO)), apply_default_css=False)
            with gr.Row(elem_classes=["lab-actions"]):
                start = gr.Button(say("Start the sweep"), variant="primary", size="md", elem_id="sweep-start")
                stop = gr.Button(say("Stop"), size="md", visible=False, elem_id="sweep-stop")
                file = gr.Button(say("Save sweep.toml"), size="md", elem_id="sweep-file")
            plan = gr.HTML(elem_id="sweep-plan", apply_default_css=False)
            form = sweep_form.build()
            measuring = Form(MeasuringSettings, names=("primary", "epoch"), prefix="sweep")
        with gr.Column(scale=5, min_width=320):
            shown = gr.Dropdown([], label=say("Results of"), info=say(SHOWN_INFO), elem_id="sweep-shown")
            state = watched_text(quiet(say(EMPTY)), elem_id="sweep-state")
            actions = run_actions.build("sweep")
            with gr.Row(elem_classes=["lab-choices"]):
                choices = [(say(MEASURES[name].label), name) for name in MEASURES]
                measure = gr.Dropdown(choices, value="held_out_loss", label=say("Measure"), elem_id="sweep-measure")
                epochs = [(say(words), name) for name, words in EPOCH_WORDS.items()]
                epoch = gr.Radio(epochs, value="last", label=say("Epoch"), elem_id="sweep-at")
            curve = live_figure(elem_id="sweep-curve")
            verdict = gr.HTML(elem_id="sweep-verdict", apply_default_css=False)
            table = gr.HTML(elem_id="sweep-table", apply_default_css=False)
    follows, seen = watcher("sweep-watcher", state="sweep-state"), gr.State(-1)
    results = (state, actions, measure, epoch, curve, table, verdict, follows, seen)
    return SweepTab(form, measuring, start, stop, file, plan, shown, *results)


def _sweep_from_page(context: TabContext, train: TrainTab, tab: SweepTab, values: Sequence[Any]) -> SweepSettings:
    """Return the sweep that the page describes; raise `InvalidSetting` if a setting is invalid."""
    data, model, *rest = values
    noise_form, training_form = context.noise.noise, train.form.training
    noise_count, training_count = len(noise_form.components), len(training_form.components)
    noise, rest = noise_form.settings(rest[:noise_count]), rest[noise_count:]
    training, rest = training_form.settings(rest[:training_count]), rest[training_count:]
    measuring, rest = tab.measuring.settings(rest[:2]), rest[2:]
    methods, given = dict(zip(tab.form.methods, rest, strict=False)), rest[len(tab.form.methods) :]
    strength = sweep_form.first_strength(noise, given[: sweep_form.AXES])
    base: StudySettings = study_of(StudyRequest(data, model, noise, strength, methods, 0, 1, training))
    return sweep_form.sweep_of(base.model_copy(update={"measuring": measuring}), given)


def _sweep_inputs(context: TabContext, train: TrainTab, tab: SweepTab) -> list[Any]:
    """Return the input components of `_sweep_from_page`, in order."""
    outside = [context.data.outputs.settings, context.strip.model, *context.noise.noise.components]
    form = tab.form
    own = [*tab.measuring.components, *form.methods.values(), *form.components()]
    return [*outside, *train.form.training.components, *own]


def _connect_unit(context: TabContext, train: TrainTab, tab: SweepTab) -> None:
    """Convert the strengths of the sweep when the unit of the Noise tab changes."""
    unit, form = context.noise.noise.by_name["unit"], tab.form
    boxes = [form.points, *form.names, *form.values]
    convert = "(...given) => Lab.sweepInUnit(...given)"
    events(unit).change(None, [unit, train.form.together, *boxes], [form.points, *form.values], js=convert)


def _connect_plan(context: TabContext, train: TrainTab, tab: SweepTab) -> None:
    lab = context.lab

    @reports_errors
    def plan(*values: Any) -> str:
        return plan_html(lambda: (_plan_text(lab, _sweep_from_page(context, train, tab, values)), True))

    inputs = _sweep_inputs(context, train, tab)
    changing = [context.strip.model, *tab.form.methods.values(), *tab.form.components()]
    changed = [context.tab.select, *(events(found).change for found in changing)]
    once_settled(changed)(plan, inputs, tab.plan, trigger_mode="always_last", **UNREAD)

    def text(*values: Any) -> dict[str, str]:
        return {"name": "sweep.toml", "text": to_toml(_sweep_from_page(context, train, tab, values), comments=True)}

    saves_text(tab.file, text, inputs)


def _plan_text(lab: Lab, sweep: SweepSettings) -> str:
    """Describe the size of a sweep, and estimate its duration on this machine."""
    from neftune_core.sweeps.estimate import plan

    _require_machine(lab)
    sweep.check(lab.limits)
    return say(". ").join((size_text(sweep), plan(sweep, lab.limits).sentence))


def _require_machine(lab: Lab) -> None:
    """Raise `NotAvailable` if the GPU is allocated per call, which rules out long jobs."""
    if lab.gpu is not None:
        raise NotAvailable(
            say(
                "This server provides its GPU for only two minutes at a time, which is too short for a sweep: save "
                "sweep.toml and run it on your own machine."
            )
        )


def _connect_start(context: TabContext, train: TrainTab, tab: SweepTab) -> None:
    lab, strip = context.lab, context.strip

    @reports_errors
    def start(key: str, *values: Any) -> list[Any]:
        """Queue the sweep that the page describes, and return updates that show it."""
        _require_machine(lab)
        record = lab.jobs.submit(_sweep_from_page(context, train, tab, values), require_key(key))
        shown = gr.update(choices=_choices(lab, key), value=record.id)
        return [record.id, -1, following(record.id), shown]

    outputs = [strip.watched, train.seen, strip.watcher, tab.shown]
    inputs = [context.key, *_sweep_inputs(context, train, tab)]
    started = tab.start.click(start, inputs, outputs, **QUIET)
    started.success(None, strip.watched, None, js=run_actions.watch_in_browser("Sweep"))

    @reports_errors
    def stop(key: str, shown: str) -> None:
        lab.jobs.stop(shown, require_key(key))

    tab.stop.click(stop, [context.key, tab.shown], None, **QUIET)


def _choices(lab: Lab, key: str) -> list[tuple[str, str]]:
    """Return the visitor's own sweeps, newest first, then the recorded ones, first that of the page's own study."""
    mine = [record for record in owned_records(key) if record.is_sweep]
    recorded = [
        (say("Recorded: {title}", title=say(_title(sweep))), f"{RECORDED}{sweep.folder.name}")
        for sweep in sorted(lab.recorded_sweeps, key=lambda sweep: sweep.folder.name != OF_FIRST_STUDY)
    ]
    return [*((f"{_title(Sweep(record.folder))} ({when(record)})", record.id) for record in mine), *recorded]


def _title(sweep: Sweep) -> str:
    try:
        settings = sweep.settings
    except RecordError:
        return say("unreadable {id}", id=sweep.id)
    axes = ", ".join(axis.partition(".")[2].replace("_", " ") for axis in settings.axes)
    return settings.title or axes or say("combinations")


def _find_sweep(lab: Lab, key: str, shown: str | None) -> Sweep:
    """Return a sweep; raise `RecordError` if it is missing, is not a sweep, or belongs to another visitor."""
    recorded = {f"{RECORDED}{sweep.folder.name}": sweep for sweep in lab.recorded_sweeps}
    shown = shown or ""
    if shown in recorded:
        return recorded[shown]
    record = find(shown, require_key(key))
    if not record.is_sweep:
        raise RecordError(say("The record {record} is not a sweep: open it on the Runs tab.", record=shown[:60]))
    return Sweep(record.folder)


def _connect_selection(context: TabContext, tab: SweepTab) -> None:
    lab = context.lab

    @reports_errors
    def fill_sweep(key: str, shown: str, kept: str) -> Any:
        """List the sweeps, and select the one shown; if it was deleted, the stored one, or else the first."""
        choices = _choices(lab, require_key(key))
        known = [value for _, value in choices]
        wanted = [shown, parse_state(kept).get("sweep.shown"), *known[:1]]
        return gr.update(choices=choices, value=next((one for one in wanted if one in known), None))

    @reports_errors
    def show_sweep(key: str, shown: str, kept: str) -> list[Any]:
        """Show a sweep with the stored measure and epoch; without them, use the question of the sweep."""
        if not shown:
            return [gr.skip()] * len(outputs)
        sweep = _find_sweep(lab, key, shown)
        table = lab.sweep_table(sweep)
        measures = table.measures or MEASURES
        state = parse_state(kept)
        before = state if state.get("sweep.shown") == shown else {}
        measure = _one_of(measures, before.get("sweep.measure"), table.question.measure)
        epoch = _one_of(EPOCH_WORDS, before.get("sweep.at"), table.question.epoch)
        choices = [(say(MEASURES[name].label), name) for name in measures]
        drawn = _result_updates(table, measure, epoch, _sweep_state(lab, tab, sweep))
        return [gr.update(choices=choices, value=measure), epoch, *drawn]

    @reports_errors
    def update(key: str, shown: str, seen: int, measure: str, epoch: str) -> list[Any]:
        """Update the sweep shown; its results are recomputed only if its log has grown or it has ended."""
        try:
            sweep = _find_sweep(lab, key, shown)
        except RecordError as error:  # failed before its first step, or deleted in another browser tab
            still = [gr.update(visible=False), following("", on=False), *tab.actions.hidden()]
            return [missing_record_text(str(error)), *[gr.skip()] * 4, *still]
        current = _sweep_state(lab, tab, sweep)
        if current.size == seen and not current.is_judged:
            return [current.words, *[gr.skip()] * 4, *current.updates]
        return _result_updates(lab.sweep_table(sweep), measure, epoch, current)

    @reports_errors
    def redraw(key: str, shown: str, measure: str, epoch: str) -> list[Any]:
        if not shown:
            return [gr.skip()] * 2
        table = lab.sweep_table(_find_sweep(lab, key, shown))
        return [effect_curve(table, measure, epoch), table_view(table, measure)]

    results, chosen = [*tab.results(), *tab.actions.components()], [context.key, tab.shown]
    outputs, how = [tab.measure, tab.epoch, *results], [*chosen, tab.measure, tab.epoch]
    opening = [*chosen, context.strip.kept]
    opened = [context.tab.select, events(key_of_tab(context.key, "Sweep")).change]
    filled = gr.on(opened, fill_sweep, opening, tab.shown, js=KEY_FIRST, **LATEST)
    filled.then(None, tab.shown, None, js="(id) => void (id || Lab.arrived('sweep', 0))")
    shown = tab.shown.change(show_sweep, opening, outputs, trigger_mode="always_last", **QUIET)
    shown.then(None, None, None, js="() => Lab.arrived('sweep')")
    saw = in_browser(f"void Lab.sawSweep(String(shown).startsWith({json.dumps(RECORDED)}))", "shown")
    gr.on([context.tab.select, tab.shown.change], None, tab.shown, None, js=saw)
    tab.watcher.click(update, [*chosen, tab.seen, tab.measure, tab.epoch], results, **QUIET)
    picked = [tab.measure.input, tab.epoch.input]
    gr.on(picked, redraw, how, [tab.curve, tab.table], trigger_mode="always_last", **QUIET)


def _one_of(known: Collection[str], wanted: Any, otherwise: str) -> str:
    return wanted if isinstance(wanted, str) and wanted in known else otherwise


@dataclass(frozen=True)
class _SweepState:
    """The state of a sweep.

    Attributes:
        words: The state as HTML.
        size: Size of the log.
        updates: Updates of stop button, watcher and actions.
        is_judged: Whether `words` contains the summary of the verdict.
    """

    words: str
    size: int
    updates: list[Any]
    is_judged: bool = False


def _sweep_state(lab: Lab, tab: SweepTab, sweep: Sweep) -> _SweepState:
    if sweep in lab.recorded_sweeps:
        still = [gr.update(visible=False), following("", on=False), *tab.actions.hidden()]
        return _SweepState(recorded_text(lab, sweep), 0, still, is_judged=True)
    status, log = lab.jobs.status(sweep), sweep.read_log()
    going = [gr.update(visible=not status.is_over), following(sweep.id, on=not status.is_over, known=True)]
    updates = [*going, *tab.actions.fitting(sweep, status)]
    return _SweepState(state_text(sweep, status, log), log.size, updates, is_judged=status.is_over)


def _result_updates(table: SweepTable, measure: str, epoch: str, current: _SweepState) -> list[Any]:
    """Return the updates of `SweepTab.results()` and of the actions."""
    verdict = ""
    if table.verdict:
        verdict = verdict_html(table.verdict, unfolded=False, with_summary=not current.is_judged)
    shown = [effect_curve(table, measure, epoch), table_view(table, measure), verdict]
    return [current.words, *shown, current.size, *current.updates]


def _connect_watching(context: TabContext, tab: SweepTab) -> None:
    """Show a sweep as soon as the page watches it, for example through a link."""
    lab, strip = context.lab, context.strip

    @reports_errors
    def follow(key: str, watched: str) -> list[Any]:
        record: Record | None = find(watched, key) if watched else None
        if record is None or not record.is_sweep:
            return [gr.skip(), ""]
        return [gr.update(choices=_choices(lab, key), value=record.id), record.id]

    found = gr.Textbox(visible=False)
    followed = strip.watched.change(follow, [context.key, strip.watched], [tab.shown, found], **QUIET)
    followed.success(None, found, None, js=in_browser(f"({OPEN_IF_LINKED})(id)", "id"))


def _nothing_shown() -> list[Any]:
    return [quiet(say(EMPTY)), None, "", "", gr.update(value=None)]


def _connect_actions(context: TabContext, train: TrainTab, tab: SweepTab) -> None:
    strip, key = context.strip, context.key
    own = run_actions.ButtonContext(context.lab, strip, key, tab.shown, train.asked, train.seen, tab="Sweep")
    tab.actions.resume.click(following, tab.shown, tab.watcher, **QUIET)
    shown = [tab.state, tab.curve, tab.table, tab.verdict, tab.shown]
    run_actions.connect(tab.actions, own, _nothing_shown, shown)
