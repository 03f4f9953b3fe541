"""The Runs tab: the visitor's records, their results, and their disk usage."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.errors import LabError
from neftune_core.figures import Figure
from neftune_core.figures.colours import arm_colours
from neftune_core.figures.effects import effect_curve
from neftune_core.home import folder_bytes, home, home_note, remove_models, stored_models
from neftune_core.language import later, plural, say
from neftune_core.models.estimates import gigabytes
from neftune_core.noise.names import arm_words
from neftune_core.sentences import sentence
from neftune_core.studies.records.record import Record, find, owned_records
from neftune_core.studies.records.schema import settings_text
from neftune_core.sweeps.record import Sweep
from neftune_core.ui.parts import evidence_view, run_actions
from neftune_core.ui.parts.answers import answer_columns, answers_of, of_bundled_model
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.plot import live_figure, scripted
from neftune_core.ui.parts.strip import Strip, following
from neftune_core.ui.parts.study_views import curves_of
from neftune_core.ui.parts.wiring import KEY_ALONE, LATEST, QUIET, events, key_of_tab, reports_errors
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.study_text import state_text, study_text, when
from neftune_core.ui.tabs import export_panel
from neftune_core.ui.tabs.train_tab import TrainTab, view_of_study
from neftune_core.ui.tabs.views.sweep_views import table_view

PRIVATE_KEYS = ("reference", "vote")
"""Keys of an answer that are shown only to the owner of its study."""

REDRAW_SECONDS, LONGEST_JUDGING_SECONDS = 1.0, 60.0

EMPTY = later(
    "No study yet: press Train at the top of the page. Studies started in this browser, or on the command line of this "
    "machine, are listed here, even after a restart."
)
EMPTY_FOR_STRANGERS = later(
    "No study yet: press Train at the top of the page. Studies started in this browser are listed here; other browsers "
    "do not show them."
)


@dataclass(frozen=True)
class _RecordView:
    """The components that show one record.

    Attributes:
        record_id: Id of the record; "" for none.
        state: State of the record as HTML.
        actions: Buttons that act on the record.
        view: Choice of the figure.
        curves: The figure.
        evidence: The evidence for the verdict.
        answers: Stored answers of a study, or table of a sweep.
        settings: Text of the settings file.
        box: Collapsed section with the settings.
    """

    record_id: gr.Textbox
    state: gr.HTML
    actions: run_actions.Actions
    view: gr.Radio
    curves: gr.HTML
    evidence: evidence_view.EvidenceView
    answers: gr.HTML
    settings: gr.HTML
    box: gr.Accordion

    def shown(self) -> list[Any]:
        return [self.record_id, self.state, self.curves, self.answers, self.settings, self.box, self.view]


def build(lab: Lab, strip: Strip, train: TrainTab, key: gr.Textbox, tab: gr.Tab) -> None:
    """Build the tab, inside an open `gr.Tab`.

    Args:
        lab: The state shared by all visitors.
        strip: The strip at the top of the page.
        train: The Train tab.
        key: Component with the visitor's key.
        tab: The tab itself.
    """
    empty = say(EMPTY_FOR_STRANGERS if lab.has_strangers else EMPTY)
    listed = (
        f'<ul class="lab-runs" aria-label="{say("Your studies")}"></ul><p class="lab-quiet lab-runs-empty">{empty}</p>'
    )
    runs = scripted("runs", listed, [], "runs-list")
    opened = _build_record_view()
    _connect_opening(lab, key, runs, opened, [strip.watched, train.seen, strip.watcher])
    changed = [opened.record_id.change, train.finished.change]
    evidence_view.connect(opened.evidence, lab, key, opened.record_id, changed)
    export_panel.build(lab, key, opened.record_id, train.finished)
    imported = export_panel.build_import(lab, key)
    present = key_of_tab(key, "Runs")
    _connect_list(lab, key, runs, [train.finished, strip.watched, opened.record_id, imported, present], tab)
    tracker = train.form.tracker
    own = run_actions.ButtonContext(lab, strip, key, opened.record_id, train.asked, train.seen, tracker=tracker)
    emptied = ["", "", None, "", "", *[gr.update(visible=False)] * 2]
    run_actions.connect(opened.actions, own, lambda: emptied, opened.shown())
    _build_storage(
        lab, key, [tab.select, *(events(found).change for found in (opened.record_id, present, strip.model))]
    )


def _build_record_view() -> _RecordView:
    state = gr.HTML(elem_id="runs-state", apply_default_css=False)
    actions = run_actions.build("runs")
    view = view_of_study("runs-view", visible=False)
    curves = live_figure(elem_id="runs-curves")
    evidence = evidence_view.build("runs")
    answers = gr.HTML(elem_id="runs-answers", apply_default_css=False)
    with gr.Accordion(say("Settings (study.toml)"), open=False, visible=False) as box:
        settings = gr.HTML(apply_default_css=False, elem_id="runs-settings")
    return _RecordView(gr.Textbox(visible=False), state, actions, view, curves, evidence, answers, settings, box)


def _connect_list(lab: Lab, key: gr.Textbox, runs: gr.HTML, changing: list[Any], tab: gr.Tab) -> None:
    @reports_errors
    def fill(key: str) -> list[dict[str, Any]]:
        return [list_entry(lab, record) for record in owned_records(require_key(key))]

    @reports_errors
    def conclude(key: str) -> Iterator[Any]:
        """Add the results that are not known yet, newest record first, while the list is already shown."""
        yield gr.skip()
        records = owned_records(require_key(key)) if key else []
        until, shown_at = time.monotonic() + LONGEST_JUDGING_SECONDS, time.monotonic()
        missing = [record for record in records if lab.jobs.status(record).is_over and not lab.has_brief(record)]
        for record in missing:
            lab.brief(record)
            if time.monotonic() > until:
                break
            if time.monotonic() - shown_at > REDRAW_SECONDS and record is not missing[-1]:
                shown_at = time.monotonic()
                yield fill(key)
        if missing:
            yield fill(key)

    changed = [tab.select, *(events(found).change for found in changing)]
    filled = gr.on(changed, fill, key, runs, js=KEY_ALONE, **LATEST)
    filled.then(conclude, key, runs, **LATEST)


def _connect_opening(lab: Lab, key: gr.Textbox, runs: gr.HTML, opened: _RecordView, watching: list[Any]) -> None:
    def shown(record: Record, view: str) -> list[Any]:
        """Return the updates that show a record.

        Args:
            record: The record.
            view: Name of the view.

        Returns:
            Updates of the outputs.
        """
        status, log = lab.jobs.status(record), record.read_log()
        return [
            record.id,
            state_text(record, status, log),
            *results_of(lab, record, view),
            settings_html(record),
            gr.update(visible=True),
            gr.update(visible=not record.is_sweep),
            *opened.actions.fitting(record, status),
        ]

    @reports_errors
    def open_record(key: str, view: str, chosen: gr.EventData) -> list[Any]:
        """Show one record; the page also watches it if it has not ended."""
        record = find(str(chosen.id), require_key(key))
        is_over = lab.jobs.status(record).is_over
        return [*([gr.skip()] * 3 if is_over else [record.id, -1, following(record.id)]), *shown(record, view)]

    @reports_errors
    def follow(key: str, view: str, watched: str, record_id: str) -> list[Any]:
        """Update the opened record if it is the watched study.

        Args:
            key: The visitor's key.
            view: Name of the view.
            watched: Id of the watched study.
            record_id: Id of the opened record.

        Returns:
            Updates of the outputs.
        """
        if not record_id or watched != record_id:
            return [gr.skip()] * len(filled)
        return shown(find(record_id, require_key(key)), view)

    @reports_errors
    def change_view(key: str, record_id: str, view: str) -> Any:
        return results_of(lab, find(record_id, require_key(key)), view)[0] if record_id else gr.skip()

    filled = [*opened.shown(), *opened.actions.components()]
    # By default Gradio ignores a click while an earlier one is handled; "always_last" would lose the chosen id.
    clicked = runs.click(open_record, [key, opened.view], [*watching, *filled], trigger_mode="multiple", **QUIET)
    clicked.success(None, opened.record_id, None, js="(id) => Lab.setParameter('job', id)")
    watched, seen, _ = watching
    events(opened.view).change(change_view, [key, opened.record_id, opened.view], opened.curves, **QUIET)
    seen.change(follow, [key, opened.view, watched, opened.record_id], filled, **LATEST)


def results_of(lab: Lab, record: Record, view: str, *, is_own: bool = True) -> tuple[Figure, str]:
    """Return the figure and the results of a record.

    A study has curves and answers; a sweep has effects and a table.

    Args:
        lab: The state shared by all visitors.
        record: Record of a study or a sweep.
        view: Figure of a study, one of `STUDY_VIEWS`.
        is_own: Whether the viewer owns the record; reference answers and votes are hidden from others.

    Returns:
        The figure, and the results as HTML.
    """
    if not record.is_sweep:
        return curves_of(record, record.read_log().events, view), _answers(record, is_own=is_own)
    table = lab.sweep_table(Sweep(record.folder))
    asked = table.question
    return effect_curve(table, asked.measure, asked.epoch), table_view(table, asked.measure)


def _answers(record: Record, *, is_own: bool) -> str:
    """Return the stored answers of the first seed that has any, as HTML."""
    answers = answers_of(record)
    if not is_own:
        answers = [{name: value for name, value in line.items() if name not in PRIVATE_KEYS} for line in answers]
    seeds = list(dict.fromkeys(answer.get("seed") for answer in answers))
    if len(seeds) < 2:
        return answer_columns(answers, record.arms, bundled=of_bundled_model(record))
    first = [answer for answer in answers if answer.get("seed") == seeds[0]]
    words = quiet(say("Answers of seed {seed}; the Compare tab shows those of the other seeds.", seed=seeds[0]))
    return words + answer_columns(first, record.arms, bundled=of_bundled_model(record))


def settings_html(record: Record) -> str:
    """Return the settings file of a record as an HTML code block.

    If the file cannot be read, the block contains a TOML comment that reports this.
    """
    try:
        text = settings_text(record.settings_file)
    except (OSError, UnicodeDecodeError, LabError):
        text = say("# The settings of this record are missing or cannot be read.")
    return f'<pre class="lab-code" tabindex="0"><code>{html.escape(text)}</code></pre>'


def list_entry(lab: Lab, record: Record) -> dict[str, Any]:
    """Return the entry of a record in the list of runs; an unreadable record is listed with its error.

    Args:
        lab: The state shared by all visitors.
        record: Record of a study or a sweep.

    Returns:
        Id, time, description, arms, state, number of seeds, and the result if it has already been computed.
    """
    from neftune_core.studies.records.progress import WORDS

    try:
        arms, status = record.arms, lab.jobs.status(record)
        colours = arm_colours(arms)
        return {
            "id": record.id,
            "when": when(record),
            "about": study_text(record),
            "arms": [{"name": arm_words(name), "colour": colours[name]} for name in arms],
            "state": status.state,
            "word": say(WORDS[status.state]),
            "result": _result_text(lab, record) if status.is_over else _seeds_text(record),
        }
    except Exception as error:
        return {"id": record.id, "when": record.id, "about": sentence(error), "arms": [], "word": say("Unreadable")}


def _result_text(lab: Lab, record: Record) -> str:
    """Return the number of seeds of a record, and its result in a few words if that is known."""
    brief = lab.brief(record) if lab.has_brief(record) else None
    return say(": ").join(filter(None, [_seeds_text(record), brief.text() if brief else ""]))


def _seeds_text(record: Record) -> str:
    try:
        seeds = (Sweep(record.folder).settings.study if record.is_sweep else record.study).seeds
    except LabError:
        return ""
    return say(plural(seeds, "1 seed", "{count} seeds"), count=seeds)


def _build_storage(lab: Lab, key: gr.Textbox, changed: list[Any]) -> None:
    """Build the text on disk usage, and the button that removes stored models unless the server is public."""
    with gr.Row(elem_id="runs-storage"):
        words = gr.HTML(elem_id="runs-storage-words", apply_default_css=False)
        clean = gr.Button(say("Remove downloaded models"), size="sm", visible=False, elem_id="runs-clean-models")

    @reports_errors
    def measure(key: str) -> list[Any]:
        mine = sum(folder_bytes(record.folder) for record in owned_records(require_key(key)))
        models = folder_bytes(home() / "models")
        words = say(
            "Your studies take up {mine} on this machine's disk; downloaded or converted models take up {models}.",
            mine=gigabytes(mine),
            models=gigabytes(models),
        )
        return [quiet(f"{words} {say(home_note())}"), clean_update()]

    @reports_errors
    def remove() -> list[Any]:
        freed = gigabytes(remove_models())
        words = say("{size} was freed; a removed model is downloaded again when it is next used.", size=freed)
        return [quiet(words), clean_update()]

    def clean_update() -> Any:
        return gr.update(visible=not lab.has_strangers and bool(stored_models()))

    gr.on(changed, measure, key, [words, clean], js=KEY_ALONE, **LATEST)
    if not lab.has_strangers:  # the function of a hidden button can still be called
        clean.click(remove, None, [words, clean], **QUIET)
