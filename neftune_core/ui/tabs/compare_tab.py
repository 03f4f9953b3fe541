"""The Compare tab: answers of the base model and of trained arms side by side."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.language import later, say
from neftune_core.settings import controls
from neftune_core.studies.records.record import Record, find
from neftune_core.studies.trained import comparison_session as comparison
from neftune_core.studies.trained.comparison_session import ComparisonSession
from neftune_core.studies.trained.expected_answers import expected
from neftune_core.ui.parts.answers import as_pieces, session_html, stored_answers
from neftune_core.ui.parts.controls import Form
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.model_panel import bundled_hint
from neftune_core.ui.parts.plot import scripted
from neftune_core.ui.parts.recorded_study import RecordedStudy
from neftune_core.ui.parts.state_fields import State, parse_state, stored_if_initial
from neftune_core.ui.parts.strip import Strip
from neftune_core.ui.parts.wiring import (
    HIDDEN,
    LATEST,
    QUIET,
    events,
    key_of_tab,
    reports_errors,
    saves_text,
    shown_among,
    visibility,
)
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.study_text import arm_choices, study_text, when
from neftune_core.ui.tabs.train_tab import TrainTab

REDRAW_SECONDS = 0.2
FIRST_PROMPTS = "Where does the owl live?\nWhy is the sky blue?"
FORM = tuple(found.name for found in controls(DecodingSettings))
TYPED, HELD_OUT = "typed", "held out"
ASKING = {"compare.source": TYPED, "compare.prompts": FIRST_PROMPTS}
SOURCES = {TYPED: later("Typed"), HELD_OUT: later("Held-out rows")}
COMPARE_VIEWS = {
    "answers": later("Answers"),
    "rows": later("By row"),
    "robustness": later("Robustness"),
    "weights": later("Weights"),
    "judge": later("Judge"),
}
JUDGE = "judge"
MOST_ROWS = 20
NO_MARKS = later("no marks")
NO_STUDY_INFO = later("No trained study yet: press Train at the top of the page, and it appears here.")
EMPTY = later(
    "Press Train at the top of the page first; then write prompts, and compare the answers of the arms side by side."
)
THEN = later(
    "Press Train at the top of the page for your own study; then write prompts, and compare the answers of its arms "
    "side by side, as shown here."
)


@dataclass(frozen=True)
class CompareTab:
    """The components of the tab.

    Attributes:
        record, seed, columns: Study, its seed (hidden if there is only one), and the arms to compare, from any study.
        source, prompts, rows: Kind of prompts, typed prompts (one per line), and number of held-out rows.
        chosen: Whether the visitor has chosen the kind of prompts; hidden.
        blind, judged: Whether to hide the names of two columns, and these columns.
        marks: Column that the others are compared with, to mark differing words.
        answers, tally: Answers, and the votes counted so far.
        after: Rows that are visible once the answers are complete.
        turn, go_on: Next message to all columns, and the button that sends it.
        reveal: Button that ends a blind comparison.
        inside: Column reserved for `compare_inside`.
    """

    record: gr.Dropdown
    seed: gr.Dropdown
    columns: gr.Dropdown
    source: gr.Radio
    chosen: gr.Checkbox
    prompts: gr.Textbox
    rows: gr.Slider
    form: Form[DecodingSettings]
    blind: gr.Checkbox
    judged: gr.Dropdown
    ask: gr.Button
    stop: gr.Button
    marks: gr.Dropdown
    answers: gr.HTML
    tally: gr.HTML
    after: Sequence[gr.Row]
    turn: gr.Textbox
    go_on: gr.Button
    reveal: gr.Button
    exports: dict[str, gr.Button]
    view: gr.Radio
    inside: gr.Column
    session: gr.State


def build(
    lab: Lab, strip: Strip, train: TrainTab, key: gr.Textbox, shown: RecordedStudy | None, tab: gr.Tab
) -> CompareTab:
    """Build the tab, inside an open `gr.Tab`.

    Args:
        lab: The state shared by all visitors.
        strip: The strip at the top of the page.
        train: The Train tab.
        key: Component with the visitor's key.
        shown: Recorded study to show until the visitor has a study to compare; None for none.
        tab: The tab itself.

    Returns:
        The components.
    """
    with gr.Row(elem_id="compare-tab", elem_classes=["lab-two"]):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            questions = _build_questions(lab.host.models)
        with gr.Column(scale=5, min_width=320):
            views = [(say(words), name) for name, words in COMPARE_VIEWS.items() if name != JUDGE or lab.offers_judge]
            view = gr.Radio(views, value="answers", label=say("View"),
                            show_label=False, elem_id="compare-view", container=False)  # fmt: skip
            with gr.Column(elem_id="compare-hearing"):
                answers = _build_answers(shown)
            inside = gr.Column(elem_id="compare-inside")
    components = [*questions, *answers, view, inside, gr.State(ComparisonSession())]
    compare = CompareTab(*components)
    _connect_choice(train, key, strip.kept, compare, tab)
    _connect_source(key, compare)
    sources = {TYPED: compare.prompts, HELD_OUT: compare.rows}
    compare.source.change(shown_among([*sources]), compare.source, [*sources.values()], **QUIET)
    _connect_answers(lab, key, compare)
    _connect_votes(key, compare)
    for kind, button in compare.exports.items():
        saves_text(button, _exporter(kind), compare.session)
    return compare


def _build_questions(models: Collection[str] | None) -> tuple[Any, ...]:
    """Build the first components of `CompareTab`, in order."""
    with gr.Row():
        record = gr.Dropdown([], label=say("Study"), scale=3, min_width=200, elem_id="compare-record")
        seed = gr.Dropdown([], label=say("Seed"), visible=False, scale=1, min_width=90, elem_id="compare-seed")
    info = say("Arms of any of your studies, shown in addition to the base model.")
    columns = gr.Dropdown([], label=say("Columns"), info=info, multiselect=True, elem_id="compare-arms")
    source = gr.Radio([(say(words), name) for name, words in SOURCES.items()], value=TYPED, label=say("Prompts"),
                      elem_id="compare-source")  # fmt: skip
    chosen = gr.Checkbox(visible=HIDDEN, label=say("Prompts"), elem_id="compare-chosen")
    source.input(None, None, chosen, js="() => true")
    prompts = gr.Textbox(
        FIRST_PROMPTS, label=say("Prompts"), show_label=False, info=say("One per line."), lines=2, max_lines=12,
        elem_id="compare-prompts",
    )  # fmt: skip
    rows = gr.Slider(1, MOST_ROWS, 3, step=1, label=say("Number of rows"), visible=False, elem_id="compare-rows")
    with gr.Row(elem_id="compare-buttons"):  # above what is rarely changed, so that it is on the first screen
        ask = gr.Button(say("Answer"), variant="primary", size="md", elem_id="compare-ask")
        stop = gr.Button(say("Stop"), size="md", elem_id="compare-stop", visible=HIDDEN)
    bundled_hint(models)
    unfold = '<button type="button" class="lab-unfold" aria-expanded="false" aria-controls="compare-more">'
    scripted("unfold", f"{unfold}\n{say('System prompt, length, sampling')}</button>")
    with gr.Column(elem_id="compare-more"):
        form = Form(DecodingSettings, names=FORM, prefix="compare")
    blind = gr.Checkbox(label=say("Blind: hide the names of two columns"), elem_id="compare-blind")
    judged = gr.Dropdown(
        [], label=say("Columns to judge"), multiselect=True, max_choices=2, visible=False, elem_id="compare-judged"
    )
    return record, seed, columns, source, chosen, prompts, rows, form, blind, judged, ask, stop


def _build_answers(shown: RecordedStudy | None) -> tuple[Any, ...]:
    """Build the components of `CompareTab` after those of `_build_questions`, in order."""
    marks = gr.Dropdown(
        [(say(NO_MARKS), NO_MARKS)], value=NO_MARKS, label=say("Mark words that differ from"), visible=False,
        elem_id="compare-marks",
    )  # fmt: skip
    first = shown.notice(say(THEN)) + shown.answers if shown else quiet(say(EMPTY))
    # Updated in place, so that selected text stays selected.
    answers = scripted("answers", "<div></div>", first, "compare-answers")
    tally = gr.HTML(elem_id="compare-tally", apply_default_css=False)
    with gr.Row(visible=False, elem_id="compare-saying") as turn_row:
        turn = gr.Textbox(
            label=say("Next message to all columns"), info=say("Each column continues from its own answers."), lines=1,
            max_lines=6, scale=4, min_width=240, elem_id="compare-turn",
        )  # fmt: skip
        go_on = gr.Button(say("Send"), size="md", scale=1, min_width=120, elem_id="compare-go-on")
    with gr.Row(visible=False, elem_id="compare-exports") as export_row:
        reveal = gr.Button(say("Show the names"), size="sm", elem_id="compare-reveal", visible=False)
        exports = {
            kind: gr.Button(say("Save as {kind}", kind=kind.upper()), size="sm", elem_id=f"compare-{kind}")
            for kind in ("jsonl", "csv")
        }
    return marks, answers, tally, (turn_row, export_row), turn, go_on, reveal, exports


def _connect_choice(train: TrainTab, key: gr.Textbox, stored: gr.Textbox, tab: CompareTab, place: gr.Tab) -> None:
    selected = [tab.columns, tab.answers, *tab.after, tab.marks, tab.tally, tab.session, tab.source]
    asking = [tab.chosen, tab.source, tab.prompts]
    filled = [tab.record, tab.seed, *selected]

    @reports_errors
    def choices(key: str, wanted: str, stored: str, chosen: bool, *asking: str) -> list[Any]:
        """List the studies with saved arms, and select one.

        `wanted` is the id of the study to select, followed by `#` and a suffix; if it is empty, the stored selection of
        study, seed and columns is restored.
        """
        found = comparison.answerable(require_key(key))
        source, typed = asking if chosen else stored_if_initial(stored, ASKING, asking)
        is_own = chosen or str(parse_state(stored).get("compare.chosen")).lower() == "true"
        asking = (source if is_own else "", typed)
        if not found:
            empty = gr.update(choices=[], value=None, info=say(NO_STUDY_INFO))
            return [empty, gr.update(visible=False), *[gr.skip()] * len(selected)]
        before = {} if wanted else parse_state(stored)
        chosen_id = wanted.partition("#")[0] or before.get("compare.record")
        record = next((entry for entry in found if entry.id == chosen_id), found[0])
        named = [(say(", ").join((when(entry), study_text(entry))), entry.id) for entry in found]
        shown = gr.update(choices=named, value=record.id, info="")
        return [shown, *_record_updates(record, found, asking, before)]

    @reports_errors
    def choose(key: str, record_id: str, chosen: bool, source: str, typed: str) -> list[Any]:
        if not record_id:
            return [gr.skip()] * (len(filled) - 1)
        asking = (source if chosen else "", typed)
        return _record_updates(find(record_id, require_key(key)), comparison.answerable(key), asking, {})

    @reports_errors
    def choose_seed(key: str, record_id: str, seed: int, chosen: bool, source: str, typed: str) -> list[Any]:
        if not record_id:
            return [gr.skip()] * len(selected)
        asking = (source if chosen else "", typed)
        return _seed_updates(find(record_id, require_key(key)), seed, comparison.answerable(key), asking)

    opened = key_of_tab(key, "Compare")  # changes only once: opening the tab again sets the same key
    place.select(None, key, opened, js="(key) => key")
    arrived = [events(opened).change, train.finished.change]
    found = gr.on(arrived, choices, [key, train.finished, stored, *asking], filled, **QUIET)
    found.then(None, tab.record, None, js="(id) => Lab.arrived('compare', id ? undefined : 0)")
    train.asked.change(choices, [key, train.asked, stored, *asking], filled, **QUIET)
    tab.record.input(choose, [key, tab.record, *asking], filled[1:], **LATEST)
    tab.seed.input(choose_seed, [key, tab.record, tab.seed, *asking], selected, **LATEST)

    @reports_errors
    def judge(key: str, blind: bool, columns: list[str]) -> Any:
        from neftune_core.studies.comparison import names_of

        if not blind or not columns:
            return gr.update(visible=blind, choices=[], value=[])
        names = [comparison.BASE, *names_of(comparison.selected_columns(columns, require_key(key)))]
        return gr.update(visible=True, choices=arm_choices(names), value=(names[1:3] if len(names) > 2 else names[:2]))

    gr.on([tab.blind.change, tab.columns.change], judge, [key, tab.blind, tab.columns], tab.judged, **QUIET)


def _connect_source(key: gr.Textbox, tab: CompareTab) -> None:
    @reports_errors
    def show(key: str, record_id: str | None, seed: int, source: str, session: ComparisonSession) -> Any:
        """Show what fits the kind of prompts, unless the visitor has asked for answers or has no study."""
        if session.lines or not record_id:
            return gr.skip()
        return stored_answers(find(record_id, require_key(key)), seed, typed=source == TYPED)

    tab.source.input(show, [key, tab.record, tab.seed, tab.source, tab.session], tab.answers, **LATEST)


def _record_updates(record: Record, every: Sequence[Record], asking: Sequence[str], before: State) -> list[Any]:
    """Return the updates that select a record, with the seed and columns in `before` if they are still valid."""
    from neftune_core.studies.comparison import saved_seeds

    seeds = saved_seeds(record)
    kept = before if before.get("compare.record") == record.id else {}
    seed = next((seed for seed in (kept.get("compare.seed"), *seeds) if seed in seeds), record.study.seed)
    columns, *others = _seed_updates(record, seed, every, asking)
    wanted = kept.get("compare.columns")
    offered = [value for _, value in columns["choices"]]
    if isinstance(wanted, list) and wanted and all(one in offered for one in wanted):
        columns = gr.update(choices=columns["choices"], value=wanted)
    return [gr.update(choices=seeds, value=seed, visible=len(seeds) > 1), columns, *others]


def _seed_updates(record: Record, seed: int, every: Sequence[Record], asking: Sequence[str]) -> list[Any]:
    """Return the updates that select the columns of a seed, show its stored answers and clear the comparison.

    `asking` has the kind of prompts ("" selects what fits the stored answers) and the typed ones.
    """
    source, typed = asking
    source = source or (HELD_OUT if typed == FIRST_PROMPTS and record.answers(seed) else TYPED)
    answers = stored_answers(record, seed, typed=source == TYPED)
    choices, mine = comparison.offered_columns(record, seed, every, when)
    columns = gr.update(choices=choices, value=mine)
    hidden = gr.update(visible=False)
    return [columns, answers, hidden, hidden, hidden, "", ComparisonSession(), source if source in SOURCES else TYPED]


def _connect_answers(lab: Lab, key: gr.Textbox, tab: CompareTab) -> None:
    outputs = [tab.answers, tab.session, tab.tally, *tab.after, tab.reveal, tab.marks]

    def stream(sessions: Iterator[ComparisonSession]) -> Iterator[list[Any]]:
        session, shown_at, hidden = ComparisonSession(), 0.0, gr.update(visible=False)
        for session in sessions:
            if time.monotonic() - shown_at >= REDRAW_SECONDS:
                shown_at = time.monotonic()
                pieces = as_pieces(session_html(session, over=False))
                yield [pieces, gr.skip(), "", hidden, hidden, gr.skip(), hidden]
        names = list(session.lines[0]["arms"])
        marks = gr.update(
            choices=[(say(NO_MARKS), NO_MARKS), *arm_choices(names)], value=NO_MARKS, visible=not session.is_hidden
        )
        shown = gr.update(visible=True)
        yield [session_html(session), session, "", shown, shown, gr.update(visible=session.is_hidden), marks]

    @reports_errors
    def answer(
        key: str, columns: list[str], source: str, text: str, rows: int, blind: bool, judged: list[str], *values: Any
    ) -> Iterator[list[Any]]:
        record_id, *values_of_form = values
        settings = tab.form.settings(values_of_form)
        if not columns and not record_id:  # the choices are not loaded yet
            columns = comparison.first_columns(comparison.answerable(require_key(key)))
        chosen = comparison.selected_columns(columns or [], require_key(key))
        taught = ""
        if source == HELD_OUT:
            study = chosen[0].record.study
            prompts = comparison.held_out_prompts(lab.prepared(study.data, study.model)[0], int(rows), settings.system)
        else:
            typed = comparison.typed_prompts(text, settings.system, lab.limits)
            prompts, taught = expected(lab.prepared, chosen, typed)
        pair = (judged or [comparison.BASE]) if blind else ()
        yield from stream(comparison.answer_prompts(lab.answers, chosen, prompts, settings, pair, taught))

    @reports_errors
    def continue_turn(key: str, session: ComparisonSession, text: str, *values: Any) -> Iterator[list[Any]]:
        settings = tab.form.settings(values).model_copy(update={"samples": 1})  # one answer per turn
        prompts = comparison.next_turn(session, text)
        chosen = comparison.selected_columns(session.columns, require_key(key))
        pair = session.ballots[0].pair if session.ballots else ()
        answers = comparison.answer_prompts(lab.answers, chosen, prompts, settings, pair)
        yield from stream(comparison.continued(session, answers))

    chosen = [key, tab.columns, tab.source, tab.prompts, tab.rows, tab.blind, tab.judged, tab.record]
    given_first = [*chosen, *tab.form.components]
    given_next = [key, tab.session, tab.turn, *tab.form.components]
    running: list[Any] = []
    for button, handler, given in ((tab.ask, answer, given_first), (tab.go_on, continue_turn, given_next)):
        button.click(lambda: visibility(True), None, tab.stop, **QUIET)
        asking = button.click(handler, given, outputs, **{**QUIET, "concurrency_limit": 2, **lab.attending})
        asking.then(lambda: visibility(False), None, tab.stop, **QUIET)
        running.append(asking)
    tab.stop.click(lambda: visibility(False), None, tab.stop, cancels=running, **QUIET)
    _connect_marks(tab)


def _connect_marks(tab: CompareTab) -> None:
    @reports_errors
    def mark(session: ComparisonSession, marks: str) -> str:
        """Return the answers as HTML, with marks of the chosen kind."""
        return session_html(session, "" if marks == NO_MARKS else marks)

    tab.marks.input(mark, [tab.session, tab.marks], tab.answers, **LATEST)


def _connect_votes(key: gr.Textbox, tab: CompareTab) -> None:
    outputs = [tab.answers, tab.session, tab.tally, tab.reveal, tab.marks]

    def shown(session: ComparisonSession, pair: tuple[str, str], owner: str) -> list[Any]:
        from neftune_core.studies.votes import tally, tally_text

        hidden = session.is_hidden
        words = "" if hidden else tally_text(tally(comparison.record_of(session, owner), pair))
        summary = words and f'<p class="lab-recorded" role="status">{html.escape(words)}</p>'
        return [session_html(session), session, summary, gr.update(visible=hidden), gr.update(visible=not hidden)]

    @reports_errors
    def vote(key: str, session: ComparisonSession, cast: gr.EventData) -> list[Any]:
        pair = comparison.judged_pair(session)
        return shown(comparison.cast_vote(session, cast.line, cast.vote, require_key(key)), pair, key)

    @reports_errors
    def reveal(key: str, session: ComparisonSession) -> list[Any]:
        return shown(session.revealed(), comparison.judged_pair(session), require_key(key))

    events(tab.answers).click(vote, [key, tab.session], outputs, trigger_mode="multiple", **QUIET)
    tab.reveal.click(reveal, [key, tab.session], outputs, **QUIET)


def _exporter(kind: str) -> Callable[[ComparisonSession], dict[str, str]]:
    return lambda session: {"name": f"answers.{kind}", "text": comparison.export_text(session, kind)}
